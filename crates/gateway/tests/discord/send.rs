//! What is sent: messages, edits, buttons, files, signs.

use std::{sync::Arc, time::Duration};

use stakpak_gateway::{
    Address, Body, ButtonStyle, Channel, ChannelError, MediaAttachment, MessageRef, OutboundFile, OutboundReply,
    PressAnswer, Reaction,
};
use stakpak_test_support::{DiscordCall, DiscordFault, DiscordRecord, FakeDiscord, Said};

use crate::{Running, Scene, adapter, address, button, mention, reply, sink::Sink};

#[tokio::test]
async fn an_answer_goes_to_the_thread_pings_nobody_else_and_shows_no_preview() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let thread = fake.thread(*ops, "outage");
    let asked = fake.say(thread, *ann, "?");
    let channel = adapter(fake, "");
    let place = Address { thread: Some(thread.to_string()), ..address(*ops) };
    let answer = OutboundReply { address: place, reply_to: Some(asked.to_string()), ..reply(0, "@everyone", "run:1") };
    let receipt = channel.send_with_receipt(answer.clone()).await.unwrap();
    assert_eq!(receipt.thread_id, Some(thread.to_string()));
    // The message it answers was deleted meanwhile: it is sent all the same.
    let orphan = OutboundReply { reply_to: Some("77".to_owned()), dedupe_key: "run:2".to_owned(), ..answer };
    channel.send_with_receipt(orphan).await.unwrap();

    let sent = fake.seen().messages;
    assert_eq!((sent[0].channel, sent[0].reply_to, sent[1].reply_to), (thread, Some(asked), None));
    assert_eq!(sent[0].allowed_mentions["parse"], serde_json::json!([]));
    assert_eq!(sent[0].allowed_mentions["replied_user"], serde_json::json!(true));
    assert_eq!(sent[0].flags & 4, 4);
    assert_eq!(sent[0].nonce.as_ref().unwrap().len(), 25);
}

/// G-P41, for a platform that is told the same nonce.
#[tokio::test]
async fn an_attempt_whose_answer_is_lost_makes_one_copy() {
    let scene = Scene::new().await;
    let Scene { fake, ops, .. } = &scene;
    let channel = adapter(fake, "");
    assert!(channel.finds_copies());
    fake.fail_next(DiscordCall::SendMessage, DiscordFault::ServerErrorAfter);
    let outcome = channel.send_with_receipt(reply(*ops, "done", "run:1:0")).await;
    assert!(matches!(outcome, Err(ChannelError::Uncertain { .. })), "{outcome:?}");
    let receipt = channel.send_with_receipt(reply(*ops, "done", "run:1:0")).await.unwrap();
    let seen = fake.seen();
    assert_eq!((seen.messages.len(), seen.repeated_nonces), (1, 1));
    assert_eq!(receipt.message_id, seen.messages[0].id.to_string());

    fake.forget_nonces();
    assert_eq!(channel.reconcile(&reply(*ops, "done", "run:1:0")).await.unwrap(), Some(receipt));
    assert_eq!(channel.reconcile(&reply(*ops, "done", "run:2:0")).await.unwrap(), None);
}

/// G-P42.
#[tokio::test]
async fn a_bucket_that_is_full_is_told_and_stops_no_other_chat() {
    let scene = Scene::new().await;
    let Scene { fake, guild, ops, .. } = &scene;
    let other = fake.channel(*guild, "other");
    let channel = adapter(fake, "");
    for number in 0..5 {
        channel.send_with_receipt(reply(*ops, "x", &format!("k{number}"))).await.unwrap();
    }
    let outcome = channel.send_with_receipt(reply(*ops, "x", "k5")).await;
    assert!(matches!(outcome, Err(ChannelError::RateLimited { .. })), "{outcome:?}");
    channel.send_with_receipt(reply(other, "x", "k6")).await.unwrap();
    // The headers were believed: the platform never had to refuse.
    assert_eq!(fake.seen().rate_limited, 0);

    let fault = DiscordFault::RateLimited { retry_after: Duration::from_secs(20), global: true };
    fake.fail_next(DiscordCall::SendMessage, fault);
    let outcome = channel.send_with_receipt(reply(other, "x", "k7")).await;
    let Err(ChannelError::RateLimited { retry_after }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(retry_after, Duration::from_secs(20));
}

#[tokio::test]
async fn refusals_keep_their_meaning() {
    let scene = Scene::new().await;
    let Scene { fake, ops, .. } = &scene;
    let channel = adapter(fake, "");
    let long = channel.send_with_receipt(reply(*ops, &"x".repeat(2001), "k")).await;
    assert!(matches!(long, Err(ChannelError::Rejected { .. })), "{long:?}");
    let unknown = channel.send_with_receipt(reply(9, "x", "k")).await;
    assert!(matches!(unknown, Err(ChannelError::Rejected { .. })), "{unknown:?}");
    let odd = channel.send_with_receipt(OutboundReply {
        address: Address { chat: "#ops".into(), ..address(1) },
        ..reply(1, "x", "k")
    });
    assert!(matches!(odd.await, Err(ChannelError::Rejected { .. })));
    fake.fail_next(DiscordCall::SendMessage, DiscordFault::Refused { status: 403, code: 50013 });
    let forbidden = channel.send_with_receipt(reply(*ops, "x", "k")).await;
    assert!(matches!(forbidden, Err(ChannelError::NotAllowed { .. })), "{forbidden:?}");
    fake.fail_next(DiscordCall::SendMessage, DiscordFault::Refused { status: 401, code: 0 });
    let stranger = channel.send_with_receipt(reply(*ops, "x", "k")).await;
    assert!(matches!(stranger, Err(ChannelError::Unauthorized { .. })), "{stranger:?}");
    assert!(fake.seen().messages.is_empty());
}

#[tokio::test]
async fn a_press_comes_back_and_is_acknowledged_after_it_is_kept() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let (channel, sink) = (adapter(fake, ""), Arc::new(Sink::default()));
    let running = Running::start(&channel, &sink);
    scene.ready().await;
    let buttons = vec![
        button("Allow", "a:1:allow", ButtonStyle::Success),
        button("Deny", "a:1:deny", ButtonStyle::Danger),
        button("Show all", "a:1:show", ButtonStyle::Secondary),
    ];
    let sent = channel.send_with_buttons(reply(*ops, "Run `df`?", "p1"), buttons).await.unwrap();
    let prompt: u64 = sent.message_id.parse().unwrap();
    let styles: Vec<_> = fake.seen().messages[0].buttons.iter().map(|button| button.style).collect();
    assert_eq!(styles, [3, 4, 2]);

    // The bot's own message moves the watermark, before the press comes.
    sink.wait_for("the prompt", |sink| sink.position(*ops) == Some(prompt as i64)).await;
    sink.block(true);
    let before = sink.attempts();
    let id = fake.press(prompt, *ann, "a:1:allow");
    sink.wait_for("the press to wait", |sink| sink.attempts() > before).await;
    assert!(fake.seen().answers.is_empty());
    sink.block(false);
    let seen = fake.wait_for("the acknowledgement", |seen| !seen.answers.is_empty()).await;
    assert_eq!((seen.answers[0].interaction, seen.answers[0].kind), (id, 6));
    let press = sink.presses().remove(0);
    assert_eq!((press.payload.as_str(), press.message_id.clone()), ("a:1:allow", sent.message_id.clone()));
    assert_eq!((press.address.clone(), press.sender.id.to_string()), (address(*ops), ann.to_string()));

    channel.answer_press(&press, PressAnswer::Refused("Only an approver may decide.".to_owned())).await.unwrap();
    channel.answer_press(&press, PressAnswer::Taken).await.unwrap();
    let followups = fake.seen().followups;
    assert_eq!(followups.len(), 1);
    assert!(followups[0].ephemeral && followups[0].content.contains("approver"), "{followups:?}");

    let message = MessageRef { address: address(*ops), message_id: sent.message_id };
    channel.edit_message(&message, &Body::plain("allowed by Ann"), &[]).await.unwrap();
    let edits = fake.seen().edits;
    assert_eq!((edits[0].content.as_str(), edits[0].buttons.len()), ("allowed by Ann", 0));
    running.stop().await;
}

/// The refusal may be ready before the acknowledgement, which may also fail.
#[tokio::test]
async fn a_refusal_is_told_also_when_the_press_was_not_acknowledged() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let (channel, sink) = (adapter(fake, ""), Arc::new(Sink::default()));
    let running = Running::start(&channel, &sink);
    scene.ready().await;
    let buttons = vec![button("Allow", "a:1:allow", ButtonStyle::Success)];
    let sent = channel.send_with_buttons(reply(*ops, "Run `df`?", "p1"), buttons).await.unwrap();
    fake.fail_next(DiscordCall::AnswerInteraction, DiscordFault::Refused { status: 404, code: 10062 });
    fake.press(sent.message_id.parse().unwrap(), *ann, "a:1:allow");
    sink.wait_for("the press", |sink| !sink.presses().is_empty()).await;
    let asked = |seen: &DiscordRecord| seen.requests.iter().any(|request| request.contains("/callback"));
    fake.wait_for("the acknowledgement", asked).await;
    let press = sink.presses().remove(0);
    channel.answer_press(&press, PressAnswer::Refused("Only an approver may decide.".to_owned())).await.unwrap();
    let followups = fake.seen().followups;
    assert_eq!(followups.len(), 1);
    assert!(followups[0].ephemeral && followups[0].content.contains("approver"), "{followups:?}");
    running.stop().await;
}

/// In a direct chat the presser is a user, not a member of anything.
#[tokio::test]
async fn a_press_in_a_direct_chat_comes_back() {
    let scene = Scene::new().await;
    let Scene { fake, ann, .. } = &scene;
    let (channel, sink) = (adapter(fake, ""), Arc::new(Sink::default()));
    let running = Running::start(&channel, &sink);
    scene.ready().await;
    let direct = fake.direct(*ann);
    let buttons = vec![button("Allow", "a:1:allow", ButtonStyle::Success)];
    let sent = channel.send_with_buttons(reply(direct, "Run `df`?", "p1"), buttons).await.unwrap();
    fake.press(sent.message_id.parse().unwrap(), *ann, "a:1:allow");
    fake.wait_for("the acknowledgement", |seen| !seen.answers.is_empty()).await;
    let press = sink.presses().remove(0);
    assert_eq!((press.sender.id.to_string(), press.payload.as_str()), (ann.to_string(), "a:1:allow"));
    assert!(press.address.direct.is_some(), "{:?}", press.address);
    running.stop().await;
}

#[tokio::test]
async fn files_come_in_after_their_link_expired_and_go_out() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let (channel, sink) = (adapter(fake, ""), Arc::new(Sink::default()));
    let running = Running::start(&channel, &sink);
    scene.ready().await;
    fake.speak(*ops, *ann, &Said::new(mention("")).with_file("disk.txt", "text/plain", b"91 %"));
    sink.wait_for("the file", |sink| sink.messages().len() == 1).await;
    let file = sink.messages().remove(0).attachments.remove(0);
    assert_eq!((file.name.as_str(), file.mime_type.as_deref(), file.size), ("disk.txt", Some("text/plain"), Some(4)));
    fake.expire_links();
    assert_eq!(channel.fetch(&file, 4).await.unwrap(), b"91 %");
    let large = channel.fetch(&file, 3).await;
    assert!(matches!(large, Err(ChannelError::Rejected { .. })), "{large:?}");
    let odd = channel.fetch(&MediaAttachment { id: "https://example.com/x".to_owned(), ..file }, 4).await;
    assert!(matches!(odd, Err(ChannelError::Rejected { .. })), "{odd:?}");

    let out = OutboundFile {
        name: "answer.md".into(),
        content: b"# long".to_vec(),
        caption: Some("whole".into()),
        dedupe_key: "run:1:file".into(),
    };
    fake.fail_next(DiscordCall::SendMessage, DiscordFault::ServerErrorAfter);
    channel.send_file(&address(*ops), out.clone()).await.unwrap_err();
    channel.send_file(&address(*ops), out.clone()).await.unwrap();
    let sent = fake.seen().messages;
    assert_eq!(sent.len(), 1);
    // The same content under another key is another file.
    channel.send_file(&address(*ops), OutboundFile { dedupe_key: "run:2:file".into(), ..out }).await.unwrap();
    assert_eq!(fake.seen().messages.len(), 2);
    assert_eq!((sent[0].content.as_str(), &sent[0].files[0]), ("whole", &("answer.md".to_owned(), b"# long".to_vec())));
    running.stop().await;
}

#[tokio::test]
async fn signs_replace_each_other_and_typing_is_shown() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let said = fake.say(*ops, *ann, "x");
    let channel = adapter(fake, "");
    let message = MessageRef { address: address(*ops), message_id: said.to_string() };
    channel.react(&message, Reaction::Seen, None).await.unwrap();
    channel.react(&message, Reaction::Done, Some(Reaction::Seen)).await.unwrap();
    channel.typing(&address(*ops)).await.unwrap();
    let seen = fake.seen();
    let signs: Vec<_> = seen.reactions.iter().map(|sign| (sign.emoji.as_str(), sign.added)).collect();
    assert_eq!(signs, [("👀", true), ("✅", true), ("👀", false)]);
    assert_eq!(seen.typing, [*ops]);
}

#[tokio::test]
async fn a_test_names_the_bot_and_an_intent_that_is_off() {
    let scene = Scene::new().await;
    let channel = adapter(&scene.fake, "");
    let good = channel.test().await.unwrap();
    assert_eq!(good.identity, format!("@{}", FakeDiscord::BOT_NAME));
    assert!(good.details.contains("Message Content intent is on"), "{}", good.details);
    scene.fake.message_content_intent(false);
    let bad = channel.test().await.unwrap();
    assert!(bad.details.contains("OFF"), "{}", bad.details);
}

/// G-P46.
#[tokio::test]
async fn people_direct_chats_and_threads_are_located() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let thread = fake.thread(*ops, "outage");
    let channel = adapter(fake, "");
    let located = async |id: u64| channel.locate(&address(id)).await.unwrap();
    assert_eq!(located(*ops).await, address(*ops));
    assert_eq!(located(thread).await, Address { thread: Some(thread.to_string()), ..address(*ops) });
    let by_person = located(*ann).await;
    let dm = fake.direct(*ann);
    let direct = Address { direct: Some(ann.to_string().into()), ..address(dm) };
    assert_eq!((&by_person, &located(dm).await), (&direct, &direct));
    assert_eq!(adapter(fake, "").locate(&address(dm)).await.unwrap(), direct);
    assert_eq!(located(77).await, address(77), "nothing of this platform");
    let opened = fake.look(|seen| seen.requests.iter().filter(|it| it.ends_with("/users/@me/channels")).count());
    assert_eq!(opened, 2);
    located(*ann).await;
    assert_eq!(fake.look(|seen| seen.requests.iter().filter(|it| it.ends_with("/users/@me/channels")).count()), 2);
}
