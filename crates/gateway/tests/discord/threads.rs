//! A thread for each mention, where that is wanted.

use std::sync::Arc;

use stakpak_gateway::{
    Address, Body, Channel, ChannelError, ChannelStatus, MessageRef, OutboundFile, OutboundReply, Reaction,
};
use stakpak_test_support::{DiscordCall, DiscordFault, Said};

use crate::{Running, Scene, adapter, address, mention, reply, sink::Sink};

fn in_thread(chat: u64, thread: u64) -> Address {
    Address { thread: Some(thread.to_string()), ..address(chat) }
}

fn answer(chat: u64, thread: u64, text: &str) -> OutboundReply {
    OutboundReply { address: in_thread(chat, thread), reply_to: Some(thread.to_string()), ..reply(chat, text, text) }
}

#[tokio::test]
async fn a_mention_gets_a_thread_which_the_first_answer_opens() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let (channel, sink) = (adapter(fake, "auto_thread = true"), Arc::new(Sink::default()));
    let running = Running::start(&channel, &sink);
    scene.ready().await;
    let asked = fake.say(*ops, *ann, &mention("why is db1 full?"));
    sink.wait_for("the question", |sink| !sink.texts().is_empty()).await;
    let question = sink.messages().remove(0);
    assert_eq!((&question.address, question.text.as_str()), (&in_thread(*ops, asked), "why is db1 full?"));
    assert_eq!(question.metadata["channel_id"], ops.to_string());

    channel.react(&question.reference(), Reaction::Seen, None).await.unwrap();
    channel.typing(&question.address).await.unwrap();
    let opened = |request: &String| request.starts_with("POST") && request.ends_with("/threads");
    assert!(!fake.look(|seen| seen.requests.iter().any(opened)), "not before there is something to say");
    let sent = channel.send_with_receipt(answer(*ops, asked, "Looking.")).await.unwrap();
    channel.send_with_receipt(reply(0, "Logs.", "2").at(in_thread(*ops, asked))).await.unwrap();
    let file = OutboundFile { name: "a.md".into(), content: b"x".to_vec(), caption: None, dedupe_key: "f".into() };
    channel.send_file(&question.address, file).await.unwrap();
    let message = MessageRef { address: question.address.clone(), message_id: sent.message_id };
    channel.edit_message(&message, &Body::plain("Looked."), &[]).await.unwrap();
    channel.typing(&question.address).await.unwrap();
    channel.react(&question.reference(), Reaction::Done, Some(Reaction::Seen)).await.unwrap();

    let seen = fake.seen();
    assert_eq!(seen.messages.iter().map(|it| it.channel).collect::<Vec<_>>(), [asked; 3]);
    assert_eq!((seen.typing, seen.edits.len(), seen.reactions.len()), (vec![*ops, asked], 1, 3));
    assert_eq!(seen.requests.iter().filter(|request| opened(request)).count(), 1);
    assert_eq!(fake.name_of(asked).as_deref(), Some("why is db1 full?"));

    sink.take_part();
    fake.say(asked, *ann, "and now?");
    sink.wait_for("the next question", |sink| sink.texts().len() == 2).await;
    assert_eq!(sink.messages()[1].address, question.address);
    running.stop().await;
}

#[tokio::test]
async fn only_a_mention_that_goes_on_with_nothing_gets_a_thread() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let (channel, sink) = (adapter(fake, "auto_thread = true\nrequire_mention = false"), Arc::new(Sink::default()));
    let (thread, direct) = (fake.thread(*ops, "outage"), fake.direct(*ann));
    let running = Running::start(&channel, &sink);
    scene.ready().await;
    let sent = channel.send_with_receipt(reply(*ops, "Disk 91 %", "k")).await.unwrap();
    fake.speak(*ops, *ann, &Said::new(mention("why?")).replying_to(sent.message_id.parse().unwrap()));
    fake.say(*ops, *ann, "no mention");
    fake.say(thread, *ann, &mention("in a thread"));
    fake.say(direct, *ann, &mention("in a direct chat"));
    sink.wait_for("all", |sink| sink.texts().len() == 4).await;
    let places: Vec<_> = sink.messages().into_iter().map(|message| message.address).collect();
    assert_eq!(places[..3], [address(*ops), address(*ops), in_thread(*ops, thread)]);
    assert_eq!(places[3].thread, None);
    running.stop().await;
}

/// Told once; afterwards the channel is as one without `auto_thread`.
#[tokio::test]
async fn without_the_permission_the_channel_itself_hears_the_answer() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    fake.forbid_threads(*ops);
    let (channel, sink) = (adapter(fake, "auto_thread = true"), Arc::new(Sink::default()));
    let running = Running::start(&channel, &sink);
    scene.ready().await;
    let asked = fake.say(*ops, *ann, &mention("why?"));
    sink.wait_for("the question", |sink| !sink.texts().is_empty()).await;
    let sent = channel.send_with_receipt(answer(*ops, asked, "Looking.")).await.unwrap();
    let again = channel.reconcile(&answer(*ops, asked, "Looking.")).await.unwrap();
    assert_eq!(again.map(|receipt| receipt.message_id), Some(sent.message_id.clone()));
    let message = MessageRef { address: in_thread(*ops, asked), message_id: sent.message_id };
    channel.edit_message(&message, &Body::plain("Looked."), &[]).await.unwrap();
    channel.send_with_receipt(reply(0, "More.", "2").at(in_thread(*ops, asked))).await.unwrap();

    let seen = fake.seen();
    let shown: Vec<_> = seen.messages.iter().map(|it| (it.channel, it.reply_to)).collect();
    assert_eq!(shown, [(*ops, Some(asked)), (*ops, None)]);
    assert_eq!(seen.edits.len(), 1);
    let tries = seen.requests.iter().filter(|it| it.starts_with("POST") && it.ends_with("/threads")).count();
    assert_eq!(tries, 1);
    let health = channel.health();
    assert_eq!(health.status, ChannelStatus::Connected);
    let told = health.last_error.unwrap();
    assert!(told.contains("#ops") && told.contains("Create Public Threads"), "{told}");

    fake.say(*ops, *ann, &mention("next"));
    sink.wait_for("the next", |sink| sink.texts().len() == 2).await;
    assert_eq!(sink.messages()[1].address, address(*ops));
    running.stop().await;
}

/// What a few people talked about in private stays there.
#[tokio::test]
async fn what_was_meant_for_a_thread_that_is_gone_never_goes_to_the_channel() {
    let scene = Scene::new().await;
    let Scene { fake, ops, .. } = &scene;
    fake.forbid_threads(*ops);
    let channel = adapter(fake, "auto_thread = true");
    let outcome = channel.send_with_receipt(answer(*ops, 77, "secret")).await;
    assert!(matches!(&outcome, Err(ChannelError::Rejected { reason }) if reason.contains("10003")), "{outcome:?}");
    assert_eq!(fake.seen().messages, []);
}

#[tokio::test]
async fn a_thread_that_somebody_opened_meanwhile_is_used() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let asked = fake.say(*ops, *ann, &mention("why?"));
    let channel = adapter(fake, "auto_thread = true");
    channel.send_with_receipt(answer(*ops, asked, "1")).await.unwrap();
    fake.fail_next(DiscordCall::SendMessage, DiscordFault::Refused { status: 404, code: 10003 });
    channel.send_with_receipt(answer(*ops, asked, "2")).await.unwrap();
    fake.fail_next(DiscordCall::SendMessage, DiscordFault::Refused { status: 404, code: 10003 });
    fake.fail_next(DiscordCall::Channel, DiscordFault::ServerErrorBefore);
    let outcome = channel.send_with_receipt(answer(*ops, asked, "3")).await;
    assert!(matches!(outcome, Err(ChannelError::Unreachable { .. })), "nothing was sent: {outcome:?}");
    assert_eq!(fake.seen().messages.iter().map(|it| it.channel).collect::<Vec<_>>(), [asked; 2]);
}

trait At {
    fn at(self, address: Address) -> Self;
}

impl At for OutboundReply {
    fn at(self, address: Address) -> Self {
        Self { address, ..self }
    }
}
