//! From the gateway to the chats.

use stakpak_gateway::{
    ApprovalButton, Body, ButtonStyle, Channel, ChannelError, InboundEvent, MessageRef, OutboundFile, OutboundReply,
    PressAnswer, Reaction,
};
use stakpak_test_support::{SendFault, Words};

use crate::{ANN, GROUP, Stage, direct, group};

fn reply(address: stakpak_gateway::Address, text: &str) -> OutboundReply {
    OutboundReply { address, body: Body::plain(text), reply_to: None, dedupe_key: "k".to_owned() }
}

fn button(label: &str, data: &str) -> ApprovalButton {
    ApprovalButton { label: label.to_owned(), callback_data: data.to_owned(), style: ButtonStyle::Success }
}

#[tokio::test]
async fn a_button_is_shown_pressed_answered_and_taken_away() {
    let stage = Stage::new().await;
    let buttons = vec![button("Allow", "a:x:allow"), button("Deny", "a:x:deny")];
    let receipt = stage.channel.send_with_buttons(reply(direct(ANN), "Shall I?"), buttons.clone()).await.unwrap();
    let prompt = stage.server.sent().remove(0);
    assert_eq!(prompt.message_id.to_string(), receipt.message_id);
    assert_eq!(prompt.buttons.iter().map(|button| button.data.as_str()).collect::<Vec<_>>(), ["a:x:allow", "a:x:deny"]);

    let query = stage.server.press(ANN, prompt.message_id, ANN, "a:x:deny");
    let press = stage.sink.wait_for("the press", |sink| sink.presses().pop()).await;
    assert_eq!((press.payload.as_str(), press.address.clone()), ("a:x:deny", direct(ANN)));
    let refusal = PressAnswer::Refused("no ".repeat(200));
    stage.channel.answer_press(&press, refusal.clone()).await.unwrap();
    let answered = stage.server.answered().remove(0);
    assert_eq!((answered.id, answered.alert, answered.text.encode_utf16().count()), (query, true, 200));
    stage.channel.answer_press(&press, refusal).await.expect("nobody waits for a second answer");

    let message = MessageRef { address: direct(ANN), message_id: receipt.message_id };
    for _ in 0..2 {
        stage
            .channel
            .edit_message(&message, &Body::plain("Denied."), &[])
            .await
            .expect("to repeat an edit is no error");
    }
    let edited = stage.server.sent().remove(0);
    assert_eq!((edited.text.as_str(), edited.buttons.len(), edited.edits.len()), ("Denied.", 0, 1));
}

#[tokio::test]
async fn what_is_gone_is_not_edited() {
    let stage = Stage::new().await;
    let message = MessageRef { address: direct(ANN), message_id: "4711".to_owned() };
    let edited = stage.channel.edit_message(&message, &Body::plain("x"), &[]).await;
    assert!(matches!(edited, Err(ChannelError::Rejected { .. })), "{edited:?}");
}

/// G-P44: what a model writes passes the platform's own checks.
#[tokio::test]
async fn formatting_is_sent_as_entities() {
    let stage = Stage::new().await;
    for body in stage.channel.compose("**Disk** 😀 of `db1` is *full*\n\n> really\n\n```sh\ndf -h\n```") {
        let reply = OutboundReply { body, ..reply(direct(ANN), "") };
        stage.channel.send(reply).await.unwrap();
    }
    let sent = stage.server.sent().remove(0);
    assert!(sent.entities.as_array().unwrap().len() >= 5, "{sent:?}");
    assert!(!sent.text.contains('*') && !sent.text.contains('`'), "{sent:?}");
}

#[tokio::test]
async fn a_file_goes_out_with_its_line() {
    let stage = Stage::new().await;
    let topic = stage.server.open_topic(GROUP);
    let file = OutboundFile {
        name: "report.md".to_owned(),
        content: b"# done".to_vec(),
        caption: Some("the report".to_owned()),
        dedupe_key: "report".to_owned(),
    };
    let receipt = stage.channel.send_file(&group(GROUP, Some(topic)), file).await.unwrap();
    let sent = stage.server.sent().remove(0);
    assert_eq!((receipt.thread_id, sent.thread_id), (Some(topic.to_string()), Some(topic)));
    assert_eq!(sent.text, "the report");
    assert_eq!(sent.file.map(|file| (file.name, file.content)), Some(("report.md".to_owned(), b"# done".to_vec())));
}

#[tokio::test]
async fn a_topic_that_is_gone_falls_back_to_its_chat() {
    let stage = Stage::new().await;
    let topic = stage.server.open_topic(GROUP);
    stage.channel.send(reply(group(GROUP, Some(topic)), "in the topic")).await.unwrap();
    stage.server.delete_topic(GROUP, topic);
    let receipt = stage.channel.send_with_receipt(reply(group(GROUP, Some(topic)), "in the chat")).await.unwrap();
    assert_eq!(receipt.thread_id, None);
    let threads: Vec<_> = stage.server.sent().into_iter().map(|sent| sent.thread_id).collect();
    assert_eq!(threads, [Some(topic), None]);
}

#[tokio::test]
async fn a_group_that_moved_is_followed_and_told_of_once() {
    let stage = Stage::new().await;
    let to = stage.server.upgrade_silently(-5001);
    for text in ["one", "two"] {
        stage.channel.send(reply(group(-5001, None), text)).await.unwrap();
    }
    assert_eq!(stage.server.messages(to).len(), 2);
    // Told with the next poll, which an update ends.
    stage.server.say(ANN, "hello");
    let migrated = InboundEvent::Migrated { from: "-5001".to_owned(), to: to.to_string() };
    let events =
        stage.sink.wait_for("the new id", |sink| Some(sink.events()).filter(|all| all.contains(&migrated))).await;
    assert_eq!(events.iter().filter(|event| **event == migrated).count(), 1);
}

#[tokio::test]
async fn an_answer_names_its_question_even_if_that_is_gone() {
    let stage = Stage::new().await;
    let (_, question) = stage.server.speak(Words::group(GROUP, ANN, "disk?"));
    for (id, shown) in [(question, Some(question)), (4711, None)] {
        let reply = OutboundReply { reply_to: Some(id.to_string()), ..reply(group(GROUP, None), "full") };
        stage.channel.send(reply).await.unwrap();
        assert_eq!(stage.server.sent().last().unwrap().reply_to, shown);
    }
}

#[tokio::test]
async fn signs_are_those_of_the_platform_and_the_menu_is_set_once() {
    let mut stage = Stage::new().await;
    let (_, id) = stage.server.speak(Words::direct(ANN, "disk?"));
    let message = MessageRef { address: direct(ANN), message_id: id.to_string() };
    for reaction in [Reaction::Seen, Reaction::Done, Reaction::Failed] {
        stage.channel.react(&message, reaction, None).await.unwrap();
    }
    assert_eq!(stage.server.messages(ANN)[0].reactions, ["👀", "👍", "👎"]);
    stage.channel.typing(&direct(ANN)).await.unwrap();
    assert_eq!(stage.server.actions(), [(ANN, None, "typing".to_owned())]);
    let menu =
        stage.server.wait_for("the menu", |server| Some(server.commands()).filter(|menu| !menu.is_empty())).await;
    assert!(menu.iter().any(|(name, _)| name == "approve"), "{menu:?}");
    stage.kill().await;
    stage.start();
    let update = stage.server.say(ANN, "x");
    stage.server.wait_for_confirmed(update).await;
    assert_eq!(stage.server.calls().iter().filter(|call| call.method == "setmycommands").count(), 1);
}

#[tokio::test]
async fn a_server_with_the_three_needed_methods_stays_well() {
    let stage = Stage::new().await;
    for method in ["editMessageText", "setMessageReaction", "sendChatAction", "setMyCommands", "sendDocument"] {
        stage.server.without(method);
    }
    let (_, id) = stage.server.speak(Words::direct(ANN, "disk?"));
    let message = MessageRef { address: direct(ANN), message_id: id.to_string() };
    stage.channel.react(&message, Reaction::Seen, None).await.unwrap();
    stage.channel.typing(&direct(ANN)).await.unwrap();
    for _ in 0..2 {
        let edited = stage.channel.edit_message(&message, &Body::plain("x"), &[]).await;
        assert!(matches!(edited, Err(ChannelError::Rejected { .. })), "{edited:?}");
    }
    assert_eq!(stage.server.calls().iter().filter(|call| call.method == "editmessagetext").count(), 1);
    let (name, dedupe_key) = ("a".to_owned(), "a".to_owned());
    let file = OutboundFile { name, content: b"a".to_vec(), caption: None, dedupe_key };
    let sent = stage.channel.send_file(&direct(ANN), file).await;
    assert!(matches!(sent, Err(ChannelError::Rejected { .. })), "{sent:?}");
    stage.channel.send(reply(direct(ANN), "still here")).await.unwrap();
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let stage = Stage::new().await;
    let send = || stage.channel.send(reply(direct(ANN), "x"));
    stage.server.fail_next(SendFault::RateLimited(20));
    assert!(matches!(send().await, Err(ChannelError::RateLimited { retry_after }) if retry_after.as_secs() == 20));
    stage.server.fail_next(SendFault::Blocked);
    assert!(matches!(send().await, Err(ChannelError::NotAllowed { .. })));
    stage.server.fail_next(SendFault::Refused);
    assert!(matches!(send().await, Err(ChannelError::Rejected { .. })));
    stage.server.fail_next(SendFault::BadGateway);
    assert!(matches!(send().await, Err(ChannelError::Uncertain { reason, .. }) if reason.contains("Bad Gateway")));
    stage.server.fail_next(SendFault::AnswerCut);
    let cut = send().await.unwrap_err();
    assert!(matches!(&cut, ChannelError::Uncertain { .. }) && !cut.to_string().contains("1:x"), "{cut}");
    assert_eq!(stage.server.sent().len(), 1, "the one whose answer was cut");
}

/// The library would sit on a 5xx for 10 s; no time passes here.
#[tokio::test]
async fn a_5xx_is_told_at_once() {
    let stage = Stage::new().await;
    stage.server.fail_next(SendFault::BadGateway);
    let before = std::time::Instant::now();
    assert!(matches!(stage.channel.send(reply(direct(ANN), "x")).await, Err(ChannelError::Uncertain { .. })));
    assert!(before.elapsed() < std::time::Duration::from_secs(8), "{:?}", before.elapsed());
}
