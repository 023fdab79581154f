//! What is sent is sent once, is what was meant, and fails with the reason that the core acts on.

use std::time::Duration;

use serde_json::json;
use stakpak_gateway::{
    Address, Body, Channel, ChannelError, MediaAttachment, MessageRef, OutboundFile, OutboundReply, Reaction,
    channels::SlackChannel,
};
use stakpak_test_support::{SlackApi, SlackFault};

use crate::adapter;

async fn connect() -> (SlackApi, SlackChannel) {
    let slack = SlackApi::start().await;
    let channel = adapter(&slack.base_url(), "");
    (slack, channel)
}

fn place(chat: &str, thread: Option<&str>) -> Address {
    Address { channel: "slack".into(), chat: chat.to_owned(), thread: thread.map(str::to_owned), direct: None }
}

fn reply(address: &Address, text: &str, key: &str) -> OutboundReply {
    let (address, dedupe_key) = (address.clone(), key.to_owned());
    OutboundReply { address, body: Body::plain(text), reply_to: None, dedupe_key }
}

/// G-P41: the look-up that comes before a second attempt.
#[tokio::test]
async fn a_copy_whose_receipt_was_lost_is_found() {
    let (slack, channel) = connect().await;
    let thread = slack.say(SlackApi::CHANNEL, SlackApi::ANN, "parent");
    for (index, address) in [place(SlackApi::CHANNEL, None), place(SlackApi::CHANNEL, Some(&thread))].iter().enumerate()
    {
        let lost = reply(address, "same text", &format!("run:{index}"));
        let other = reply(address, "same text", &format!("other:{index}"));
        channel.send_with_receipt(other.clone()).await.unwrap();
        for fault in [SlackFault::AnswerLost, SlackFault::ErrorAfter, SlackFault::ErrorBefore] {
            let there = fault != SlackFault::ErrorBefore;
            slack.fail_next("chat.postMessage", Some(SlackApi::CHANNEL), fault.clone());
            let attempt = reply(address, "same text", &format!("run:{index}:{fault:?}"));
            let error = channel.send_with_receipt(attempt.clone()).await.unwrap_err();
            assert!(matches!(error, ChannelError::Uncertain { .. }), "{error:?}");
            let found = channel.reconcile(&attempt).await.unwrap();
            let newest = slack.sent(SlackApi::CHANNEL).last().unwrap().ts.clone();
            assert_eq!(found.map(|found| found.message_id), there.then_some(newest), "{fault:?}");
        }
        assert_eq!(channel.reconcile(&lost).await.unwrap(), None);
    }
}

/// G-P42 in the adapter: the wait is the platform's.
#[tokio::test]
async fn refusals_tell_what_to_do_next() {
    let (slack, channel) = connect().await;
    let send = async |chat: &str| channel.send_with_receipt(reply(&place(chat, None), "x", "k")).await.unwrap_err();
    slack.fail_next("chat.postMessage", None, SlackFault::RateLimited(20));
    let limited = send(SlackApi::CHANNEL).await;
    assert!(
        matches!(limited, ChannelError::RateLimited { retry_after } if retry_after == Duration::from_secs(20)),
        "{limited:?}"
    );
    let unknown = send("C0NOWHERE").await;
    assert!(matches!(&unknown, ChannelError::Rejected { reason } if reason == "channel_not_found"), "{unknown:?}");
    slack.revoke_scope("chat:write");
    let missing = send(SlackApi::CHANNEL).await;
    assert!(matches!(&missing, ChannelError::MissingScope { scope, .. } if scope == "chat:write"), "{missing:?}");
    slack.revoke_tokens(true);
    let refused = send(SlackApi::CHANNEL).await;
    assert!(matches!(refused, ChannelError::Unauthorized { .. }), "{refused:?}");
    let fresh = adapter(&slack.base_url(), "");
    drop(slack);
    let gone = fresh.send_with_receipt(reply(&place(SlackApi::CHANNEL, None), "x", "k")).await.unwrap_err();
    assert!(matches!(gone, ChannelError::Unreachable { .. }), "{gone:?}");
}

/// G-P40 in the adapter: rejected blocks are a rejection, and the plain text goes through.
#[tokio::test]
async fn blocks_are_sent_as_composed_or_rejected_by_name() {
    let (slack, channel) = connect().await;
    let mut message = reply(&place(SlackApi::CHANNEL, None), "plain", "k");
    let section =
        |text: String| json!({ "blocks": [{ "type": "section", "text": { "type": "mrkdwn", "text": text } }] });
    message.body.format = Some(section("x".repeat(3001)));
    let error = channel.send_with_receipt(message.clone()).await.unwrap_err();
    assert!(matches!(&error, ChannelError::Rejected { reason } if reason.contains("invalid_blocks")), "{error:?}");
    assert!(slack.sent(SlackApi::CHANNEL).is_empty());
    message.body.format = Some(section("fine".to_owned()));
    channel.send_with_receipt(message.clone()).await.unwrap();
    message.body.format = None;
    channel.send_with_receipt(message).await.unwrap();
    let sent = slack.sent(SlackApi::CHANNEL);
    assert_eq!((&sent[0].blocks[0]["text"]["text"], sent[1].blocks.is_null()), (&json!("fine"), true));
}

/// G-P31 for plain text.
#[tokio::test]
async fn model_text_names_nobody() {
    let (slack, channel) = connect().await;
    let text = "<!channel> <@U0ANN> a && b <https://evil|good>";
    channel.send_with_receipt(reply(&place(SlackApi::CHANNEL, None), text, "k")).await.unwrap();
    let sent = slack.sent(SlackApi::CHANNEL).remove(0);
    assert_eq!(sent.text, "&lt;!channel&gt; &lt;@U0ANN&gt; a &amp;&amp; b &lt;https://evil|good&gt;");
    let composed = Body { text: text.to_owned(), format: Some(json!({"blocks": [{"type": "divider"}]})) };
    let mut with_blocks = reply(&place(SlackApi::CHANNEL, None), text, "k2");
    with_blocks.body = composed;
    channel.send_with_receipt(with_blocks).await.unwrap();
    assert_eq!(slack.sent(SlackApi::CHANNEL)[1].text, sent.text, "escaped once");
    let call = slack.calls().pop().unwrap().arguments;
    assert_eq!((&call["parse"], &call["link_names"]), (&json!("none"), &json!("false")));
}

#[tokio::test]
async fn a_sign_takes_the_place_of_another_and_may_be_repeated() {
    let (slack, channel) = connect().await;
    let message_id = slack.say(SlackApi::CHANNEL, SlackApi::ANN, "hi");
    let message = MessageRef { address: place(SlackApi::CHANNEL, None), message_id };
    for _ in 0..2 {
        channel.react(&message, Reaction::Seen, None).await.unwrap();
    }
    for _ in 0..2 {
        channel.react(&message, Reaction::Done, Some(Reaction::Seen)).await.unwrap();
    }
    assert_eq!(slack.messages(SlackApi::CHANNEL)[0].reactions, ["white_check_mark"]);
}

#[tokio::test]
async fn a_person_is_an_address_too() {
    let (slack, channel) = connect().await;
    let address = place(SlackApi::BOB, None);
    let sent = channel.send_with_receipt(reply(&address, "hello", "k")).await.unwrap();
    assert_eq!(slack.sent(&slack.dm(SlackApi::BOB))[0].ts, sent.message_id);
    let again = adapter(&slack.base_url(), "");
    assert_eq!(again.reconcile(&reply(&address, "hello", "k")).await.unwrap(), Some(sent));
}

#[tokio::test]
async fn files_go_out_and_come_in_from_the_platform_only() {
    let (slack, channel) = connect().await;
    let parent = slack.say(SlackApi::CHANNEL, SlackApi::ANN, "parent");
    let file = OutboundFile {
        name: "answer.md".to_owned(),
        content: b"# all of it".to_vec(),
        caption: Some("the <whole> answer".to_owned()),
        dedupe_key: "run:1:file".to_owned(),
    };
    channel.send_file(&place(SlackApi::CHANNEL, Some(&parent)), file).await.unwrap();
    let shown = slack.sent(SlackApi::CHANNEL).remove(0);
    assert_eq!((shown.files, shown.thread_ts), (vec!["answer.md".to_owned()], Some(parent)));
    assert_eq!(shown.text, "the &lt;whole&gt; answer");
    let kept = slack.files().remove(0);
    assert_eq!(kept.content, b"# all of it");

    let url = format!("{}/files/{}/{}", slack.base_url().trim_end_matches("/api"), kept.id, kept.name);
    let attachment =
        |id: &str| MediaAttachment { id: id.to_owned(), name: "a".to_owned(), mime_type: None, size: None };
    assert_eq!(channel.fetch(&attachment(&url), 11).await.unwrap(), b"# all of it");
    let large = channel.fetch(&attachment(&url), 10).await.unwrap_err();
    assert!(matches!(&large, ChannelError::Rejected { reason } if reason.contains("larger")), "{large:?}");
    for foreign in
        ["https://evil.example/files/x", "http://files.slack.com/x", "https://files.slack.com.evil.example/x"]
    {
        let error = channel.fetch(&attachment(foreign), 10).await.unwrap_err();
        assert!(matches!(&error, ChannelError::Rejected { reason } if reason.contains("host")), "{error:?}");
    }
    slack.revoke_scope("files:read");
    let error = channel.fetch(&attachment(&url), 11).await.unwrap_err();
    assert!(matches!(error, ChannelError::NotAllowed { .. }), "{error:?}");
}

/// G-P46: what is known by its id is not asked about, and nothing twice.
#[tokio::test]
async fn names_people_and_direct_chats_are_located_once() {
    let (slack, channel) = connect().await;
    let dm = slack.dm(SlackApi::ANN);
    let direct = Address { direct: Some(SlackApi::ANN.into()), ..place(&dm, None) };
    for _ in 0..2 {
        let located = async |chat: &str| channel.locate(&place(chat, None)).await.unwrap();
        assert_eq!(located(SlackApi::CHANNEL).await, place(SlackApi::CHANNEL, None));
        assert_eq!(located("#ops").await, place(SlackApi::CHANNEL, None));
        assert_eq!(located(SlackApi::ANN).await, direct);
        assert_eq!(located(&dm).await, direct);
    }
    let calls: Vec<_> = slack.calls().into_iter().map(|call| call.method).collect();
    assert_eq!(calls, ["users.conversations", "conversations.open", "conversations.info"]);
    let unknown = place("#nowhere", None);
    assert_eq!(channel.locate(&unknown).await.unwrap(), unknown);
    let sent = channel.send_with_receipt(reply(&place("#ops", None), "x", "k")).await.unwrap();
    assert_eq!(sent.chat.as_deref(), Some(SlackApi::CHANNEL));
}
