//! Connections come and go; messages are neither lost nor doubled.

use std::{sync::Arc, time::Duration};

use stakpak_gateway::{Channel, ChannelError, ChannelStatus, InboundSink};
use stakpak_test_support::{DiscordCall, DiscordFault, FakeDiscord, GatewayFault};
use tokio_util::sync::CancellationToken;

use crate::{Running, Scene, adapter, adapter_with, mention, sink::Sink};

/// G-P7, first half.
#[tokio::test]
async fn a_dropped_session_is_resumed_and_nothing_is_lost_or_doubled() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let (channel, sink) = (adapter(fake, ""), Arc::new(Sink::default()));
    let running = Running::start(&channel, &sink);
    scene.ready().await;
    fake.say(*ops, *ann, &mention("one"));
    sink.wait_for("one", |sink| sink.texts().len() == 1).await;

    for (fault, text) in
        [(GatewayFault::Drop, "two"), (GatewayFault::Reconnect, "three"), (GatewayFault::Close(4000), "four")]
    {
        let before = fake.seen().resumes.len();
        fake.disturb(fault);
        let said = fake.say(*ops, *ann, &mention(text));
        fake.wait_for("a resume", |seen| seen.resumes.len() > before).await;
        fake.redeliver(said);
        sink.wait_for(text, |sink| sink.texts().last().is_some_and(|last| last == text)).await;
    }
    assert_eq!(sink.texts(), ["one", "two", "three", "four"]);
    let seen = fake.seen();
    assert_eq!(seen.identifies.len(), 1);
    assert!(seen.resumes.iter().all(|resume| resume.accepted && resume.at_resume_url), "{:?}", seen.resumes);
    // Resumed, not read again.
    assert!(!seen.requests.iter().any(|request| request.contains("after=")), "{:?}", seen.requests);
    running.stop().await;
}

/// G-P7, second half.
#[tokio::test]
async fn what_was_said_while_stopped_arrives_in_order_once() {
    let scene = Scene::new().await;
    let Scene { fake, ann, guild, ops } = &scene;
    fake.identify_every(Duration::ZERO);
    let (direct, quiet) = (fake.direct(*ann), fake.channel(*guild, "quiet"));
    fake.say(quiet, *ann, "before the bot came");
    let sink = Arc::new(Sink::default());
    let running = Running::start(&adapter(fake, ""), &sink);
    scene.ready().await;
    fake.say(direct, *ann, "one");
    fake.say(*ops, *ann, &mention("two"));
    sink.wait_for("both", |sink| sink.texts().len() == 2).await;
    running.stop().await;

    let mut expected = vec!["one".to_owned(), "two".to_owned()];
    for number in 0..230 {
        let text = format!("missed {number}");
        fake.say(*ops, *ann, &mention(&text));
        expected.push(text);
    }
    fake.say(*ops, *ann, "not for the bot");
    fake.say(quiet, *ann, &mention("in a channel where nobody had spoken to the bot"));
    fake.say(direct, *ann, "direct");
    let running = Running::start(&adapter(fake, ""), &sink);
    sink.wait_for("all", |sink| sink.texts().len() == 234).await;
    let live = fake.say(*ops, *ann, &mention("live"));
    sink.wait_for("the live one", |sink| sink.texts().last().is_some_and(|last| last == "live")).await;
    running.stop().await;

    let texts = sink.texts();
    let of_ops: Vec<_> = texts.iter().filter(|text| text.starts_with("missed")).cloned().collect();
    assert_eq!(of_ops, expected[2..]);
    assert!(texts.contains(&"direct".to_owned()));
    assert!(!texts.iter().any(|text| text.contains("before the bot") || text.contains("not for")), "{texts:?}");
    assert_eq!(sink.deliveries(), 235);
    assert_eq!(sink.position(*ops), Some(i64::try_from(live).unwrap()));
}

/// G-P11: `catch_up_hours` is heeded.
#[tokio::test]
async fn what_is_older_than_configured_is_not_read() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    fake.identify_every(Duration::ZERO);
    let (channel, sink) = (adapter(fake, "[gateway]\ncatch_up_hours = 0"), Arc::new(Sink::default()));
    let running = Running::start(&channel, &sink);
    scene.ready().await;
    fake.say(*ops, *ann, &mention("one"));
    sink.wait_for("the first", |sink| sink.texts().len() == 1).await;
    running.stop().await;
    fake.say(*ops, *ann, &mention("missed"));
    let running = Running::start(&channel, &sink);
    fake.wait_for("another session", |seen| seen.identifies.iter().filter(|it| it.outcome.is_ok()).count() == 2).await;
    fake.say(*ops, *ann, &mention("live"));
    sink.wait_for("the live one", |sink| sink.texts().len() == 2).await;
    running.stop().await;
    assert_eq!(sink.texts(), ["one", "live"]);
}

/// G-P8.
#[tokio::test]
async fn a_failing_lookup_of_the_gateway_is_an_error_and_connects_nowhere() {
    let scene = Scene::new().await;
    scene.fake.fail_always(DiscordCall::Gateway, DiscordFault::ServerErrorBefore);
    let channel = adapter(&scene.fake, "");
    let outcome = channel.start_durable(Arc::new(Sink::default()), CancellationToken::new()).await;
    assert!(matches!(outcome, Err(ChannelError::Uncertain { .. })), "{outcome:?}");
    assert_eq!(scene.fake.seen().connections, 0);
}

/// G-P9: who is refused does not insist; the supervisor comes back after minutes.
#[tokio::test]
async fn a_missing_intent_and_a_bad_token_end_the_adapter_after_one_attempt() {
    let scene = Scene::new().await;
    scene.fake.message_content_intent(false);
    let channel = adapter(&scene.fake, "");
    let outcome = channel.start_durable(Arc::new(Sink::default()), CancellationToken::new()).await;
    let Err(error @ ChannelError::MissingScope { .. }) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("Message Content"), "{error}");
    channel.report_failure(&error);
    assert_eq!(channel.health().status, ChannelStatus::Failed);
    let seen = scene.fake.seen();
    assert_eq!((seen.identifies.len(), seen.identifies[0].outcome.clone()), (1, Err(4014)));

    let stranger = adapter_with(&scene.fake, "not-the-token", "");
    let outcome = stranger.start_durable(Arc::new(Sink::default()), CancellationToken::new()).await;
    let Err(error @ ChannelError::Unauthorized { .. }) = outcome else { panic!("{outcome:?}") };
    assert!(!error.to_string().contains("not-the-token"), "{error}");
}

#[tokio::test]
async fn a_used_up_budget_of_sessions_is_waited_for() {
    let scene = Scene::new().await;
    scene.fake.identifies_left(0);
    let outcome = adapter(&scene.fake, "").start_durable(Arc::new(Sink::default()), CancellationToken::new()).await;
    let Err(ChannelError::RateLimited { retry_after }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(retry_after, Duration::from_secs(14_400));
    assert!(scene.fake.seen().identifies.is_empty());
}

#[tokio::test]
async fn a_connection_without_heartbeat_acks_is_left_and_resumed() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    fake.heartbeat_every(Duration::from_secs(1));
    let sink = Arc::new(Sink::default());
    let running = Running::start(&adapter(fake, ""), &sink);
    scene.ready().await;
    fake.disturb(GatewayFault::Deaf);
    fake.say(*ops, *ann, &mention("anybody there?"));
    sink.wait_for("the message", |sink| sink.texts() == ["anybody there?"]).await;
    let seen = fake.seen();
    assert_eq!((seen.identifies.len(), seen.connections), (1, 2));
    assert!(seen.resumes[0].accepted);
    running.stop().await;
}

/// The second IDENTIFY is refused by the platform unless it comes 5 seconds after the first.
#[tokio::test]
async fn an_invalid_session_is_replaced_and_the_gap_is_read() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let sink = Arc::new(Sink::default());
    let running = Running::start(&adapter(fake, ""), &sink);
    scene.ready().await;
    fake.say(*ops, *ann, &mention("one"));
    sink.wait_for("one", |sink| sink.texts().len() == 1).await;
    fake.disturb(GatewayFault::InvalidSession { resumable: false });
    fake.say(*ops, *ann, &mention("two"));
    sink.wait_for("two", |sink| sink.texts() == ["one", "two"]).await;
    let seen = fake.seen();
    assert!(seen.identifies.len() >= 2, "{:?}", seen.identifies);
    assert!(seen.identifies.iter().all(|identify| identify.outcome.is_ok()), "{:?}", seen.identifies);

    // A session that the platform forgot while the connection was away.
    fake.forget_sessions();
    fake.disturb(GatewayFault::Drop);
    fake.say(*ops, *ann, &mention("three"));
    sink.wait_for("three", |sink| sink.texts() == ["one", "two", "three"]).await;
    assert!(fake.seen().resumes.iter().any(|resume| !resume.accepted));
    running.stop().await;
}

/// G-P25, of one adapter: a store that is slow does not cost the connection.
#[tokio::test]
async fn heartbeats_go_on_while_the_store_is_blocked() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    fake.heartbeat_every(Duration::from_secs(1));
    let sink = Arc::new(Sink::default());
    let running = Running::start(&adapter(fake, ""), &sink);
    scene.ready().await;
    sink.block(true);
    fake.say(*ops, *ann, &mention("wait for it"));
    let before = fake.seen().heartbeats;
    let seen = fake.wait_for("heartbeats", |seen| seen.heartbeats >= before + 3).await;
    assert_eq!((seen.connections, sink.texts().len()), (1, 0));
    sink.block(false);
    sink.wait_for("the message", |sink| sink.texts() == ["wait for it"]).await;
    running.stop().await;
}

/// The platform confirms nothing, so what could not be stored has to be read again.
#[tokio::test]
async fn a_message_that_could_not_be_stored_is_read_again() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    fake.identify_every(Duration::ZERO);
    let (channel, sink) = (adapter(fake, ""), Arc::new(Sink::default()));
    let running = Running::start(&channel, &sink);
    scene.ready().await;
    let first = fake.say(*ops, *ann, &mention("one"));
    sink.wait_for("one", |sink| sink.texts().len() == 1).await;
    sink.fail(1);
    fake.say(*ops, *ann, &mention("two"));
    fake.say(*ops, *ann, &mention("three"));
    let outcome = running.task.await.unwrap();
    assert!(matches!(outcome, Err(ChannelError::Store { .. })), "{outcome:?}");
    assert_eq!(sink.position(*ops), Some(i64::try_from(first).unwrap()));
    let running = Running::start(&channel, &sink);
    sink.wait_for("the rest", |sink| sink.texts() == ["one", "two", "three"]).await;
    running.stop().await;
}

/// G-P10: the look-up fails at first; nothing but another start is needed.
#[tokio::test]
async fn a_platform_that_comes_up_later_is_reached() {
    let fake = FakeDiscord::start().await;
    let (address, channel) = (fake.address(), adapter(&fake, ""));
    drop(fake);
    tokio::task::yield_now().await;
    let sink: Arc<dyn InboundSink> = Arc::new(Sink::default());
    let outcome = channel.start_durable(Arc::clone(&sink), CancellationToken::new()).await;
    assert!(matches!(outcome, Err(ChannelError::Unreachable { .. })), "{outcome:?}");
    let fake = FakeDiscord::start_at(address).await;
    let running = Running::start(&channel, &Arc::new(Sink::default()));
    fake.wait_for("a session", |seen| !seen.identifies.is_empty()).await;
    running.stop().await;
}
