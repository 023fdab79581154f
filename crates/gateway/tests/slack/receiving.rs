//! What people do arrives once, and is acknowledged when it is kept and not before.

use std::time::Duration;

use serde_json::json;
use stakpak_gateway::{
    Address, ApprovalButton, Body, ButtonStyle, Channel, ChatType, InboundEvent, MessageRef, OutboundReply, PressAnswer,
};
use stakpak_test_support::{Saying, SlackApi};

use crate::Stage;

/// G-P2: blocked for longer than Slack waits.
#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_kept() {
    let stage = Stage::new().await;
    stage.sink.block(true);
    let ts = stage.slack.say_in_dm(SlackApi::ANN, "hi");
    let deliveries = |slack: &SlackApi| slack.envelopes().into_iter().filter(|sent| sent.ts() == Some(&ts)).collect();
    let sent: Vec<stakpak_test_support::SlackEnvelope> = stage
        .slack
        .wait_for("a second delivery", |slack| Some(deliveries(slack)).filter(|sent: &Vec<_>| sent.len() == 2))
        .await;
    assert!(sent.iter().all(|sent| sent.acked.is_none()), "{sent:#?}");
    assert!(stage.sink.texts().is_empty());
    stage.sink.block(false);
    stage.acked(&ts).await;
    stage.sink.wait_for("the repetition", |sink| (sink.repeated() == 1).then_some(())).await;
    assert_eq!(stage.sink.texts(), ["hi"]);
    let late = deliveries(&stage.slack).into_iter().find(|sent| sent.attempt == 0).unwrap();
    assert_eq!(late.acked, None, "past 2.5 s there is no acknowledgement");
}

/// G-P3.
#[tokio::test]
async fn a_redelivery_is_as_good_as_a_first_delivery() {
    let stage = Stage::new().await;
    stage.slack.set_ack_wait(Duration::from_millis(200));
    stage.slack.lose_next_envelope();
    let ts = stage.slack.say_in_dm(SlackApi::ANN, "hi");
    stage.acked(&ts).await;
    assert_eq!(stage.sink.wait_for_texts(1).await, ["hi"]);
    let sent: Vec<_> = stage.slack.envelopes().into_iter().filter(|sent| sent.ts() == Some(&ts)).collect();
    assert_eq!((sent[0].acked, sent[1].attempt, sent[1].acked.is_some()), (None, 1, true));
}

/// G-P4 and G-P13.
#[tokio::test]
async fn a_mention_that_comes_as_two_events_is_one_message() {
    let stage = Stage::new().await;
    let code = "fix this:\nfn main() {\n    a < b && c\n}";
    let ts = stage.slack.mention(SlackApi::CHANNEL, SlackApi::ANN, code);
    stage.sink.wait_for("the second event", |sink| (sink.repeated() == 1).then_some(())).await;
    let [message] = stage.sink.messages().try_into().unwrap();
    assert_eq!(message.text, code);
    assert_eq!(message.event_key, format!("T0TEAM:C0OPS:{ts}"));
    let thread = ChatType::Thread { group_id: SlackApi::CHANNEL.to_owned(), thread_id: ts };
    assert_eq!(message.address.chat_type(), thread);
    assert_eq!(message.sender.name(), "Ann Lee");
}

/// G-P5.
#[tokio::test]
async fn unknown_blocks_events_and_envelopes_lose_no_text_and_stop_nothing() {
    let stage = Stage::new().await;
    let (slack, dm) = (&stage.slack, stage.slack.dm(SlackApi::ANN));
    let odd = json!({ "blocks": [{ "type": "hologram", "elements": [{ "type": "smell" }] }], "unheard_of": [1] });
    slack.write(Saying::new(&dm, SlackApi::ANN, "odd").with(odd));
    slack.send_event(&json!({ "type": "message", "channel": dm, "channel_type": "im", "ts": 7, "text": "broken" }));
    slack.send_event(&json!({ "type": "team_invented", "what": {} }));
    slack.send_envelope("telepathy", &json!({ "thought": "?" }));
    slack.say_in_dm(SlackApi::ANN, "after it");
    let texts = stage.sink.wait_for_texts(2).await;
    assert!(texts.contains(&"odd".to_owned()) && texts.contains(&"after it".to_owned()), "{texts:?}");
    slack
        .wait_for("all acknowledgements", |slack| {
            slack.envelopes().iter().all(|sent| sent.acked.is_some()).then_some(())
        })
        .await;
    let dead = stage.sink.events().into_iter().find_map(|event| match event {
        InboundEvent::Undecodable { event_key, raw, .. } => Some((event_key, raw)),
        _ => None,
    });
    let (event_key, raw) = dead.expect("the broken message is kept");
    assert!(event_key.starts_with("event:Ev") && raw.contains("broken"), "{event_key} {raw}");
}

/// G-P12.
#[tokio::test]
async fn files_me_messages_and_group_dms_are_messages() {
    let stage = Stage::new().await;
    let dm = stage.slack.dm(SlackApi::ANN);
    stage.slack.write(Saying::new(&dm, SlackApi::ANN, "").with_file("a.txt", "text/plain", b"content"));
    stage.sink.wait_for_texts(1).await;
    stage.slack.write(Saying::new(&dm, SlackApi::ANN, "waves").subtype("me_message"));
    stage.sink.wait_for_texts(2).await;
    stage.slack.say(SlackApi::GROUP_DM, SlackApi::BOB, "not for the bot");
    stage.slack.mention(SlackApi::GROUP_DM, SlackApi::BOB, "for the bot");
    assert_eq!(stage.sink.wait_for_texts(3).await, ["", "waves", "for the bot"]);
    let messages = stage.sink.messages();
    let file = &messages[0].attachments[0];
    assert_eq!((file.name.as_str(), file.size), ("a.txt", Some(7)));
    assert_eq!(stage.channel.fetch(file, 7).await.unwrap(), b"content");
    assert_eq!(messages[2].address.chat_type(), ChatType::Group { id: SlackApi::GROUP_DM.to_owned() });
}

/// G-P15: what the sink knows survives a restart, so the thread does.
#[tokio::test]
async fn a_reply_in_a_thread_of_the_bot_needs_no_mention() {
    let mut stage = Stage::new().await;
    let known = stage.slack.mention(SlackApi::CHANNEL, SlackApi::ANN, "begin");
    stage.sink.wait_for_texts(1).await;
    let other = stage.slack.say(SlackApi::CHANNEL, SlackApi::BOB, "among people");
    stage.sink.take_part(SlackApi::CHANNEL, &known);
    stage.stop().await;
    stage.restart().await;
    let foreign = stage.slack.write(Saying::new(SlackApi::CHANNEL, SlackApi::BOB, "no").in_thread(&other));
    stage.slack.write(Saying::new(SlackApi::CHANNEL, SlackApi::BOB, "go on").in_thread(&known));
    assert_eq!(stage.sink.wait_for_texts(2).await, ["begin", "go on"]);
    stage.acked(&foreign).await;
    assert_eq!(stage.sink.messages()[1].address.thread, Some(known));
    assert_eq!(stage.sink.texts().len(), 2);
}

#[tokio::test]
async fn what_is_not_for_the_bot_moves_only_the_watermark() {
    let stage = Stage::new().await;
    let ts = stage.slack.say(SlackApi::CHANNEL, SlackApi::ANN, "lunch?");
    stage.acked(&ts).await;
    assert_eq!(stage.sink.events(), []);
    assert_eq!(stage.sink.position("chat:C0OPS"), Some(ts.replace('.', "").parse().unwrap()));
    let stranger = stage.slack.say_in_dm(SlackApi::EVE, "let me in");
    stage.acked(&stranger).await;
    assert_eq!(stage.sink.events(), [], "people of other workspaces are not heard");
}

#[tokio::test]
async fn an_edit_tells_the_new_text_of_the_old_message() {
    let stage = Stage::new().await;
    let ts = stage.slack.say_in_dm(SlackApi::ANN, "restart db1");
    stage.sink.wait_for_texts(1).await;
    stage.slack.edit(&stage.slack.dm(SlackApi::ANN), &ts, "restart db2");
    let edited = stage.sink.wait_for("the edit", |sink| {
        sink.events()
            .into_iter()
            .find_map(|event| if let InboundEvent::Edited(edited) = event { Some(edited) } else { None })
    });
    let edited = edited.await;
    assert_eq!((edited.text.as_str(), edited.message_id), ("restart db2", ts));
}

#[tokio::test]
async fn a_button_comes_back_as_a_press_and_an_edit_takes_it_away() {
    let stage = Stage::new().await;
    let dm = stage.slack.dm(SlackApi::ANN);
    let address =
        Address { channel: "slack".into(), chat: dm.clone(), thread: None, direct: Some(SlackApi::ANN.into()) };
    let reply = OutboundReply {
        address: address.clone(),
        body: Body::plain("run `rm -rf <x>`?"),
        reply_to: None,
        dedupe_key: "k".to_owned(),
    };
    let button = |label: &str, data: &str, style| ApprovalButton {
        label: label.to_owned(),
        callback_data: data.to_owned(),
        style,
    };
    let buttons = vec![
        button("Allow", "a:x:allow", ButtonStyle::Success),
        button("Deny", "a:x:deny", ButtonStyle::Danger),
        button("Show", "a:x:show", ButtonStyle::Secondary),
    ];
    let prompt = stage.channel.send_with_buttons(reply, buttons).await.unwrap().message_id;
    let action_ts = stage.slack.press(&dm, &prompt, SlackApi::ANN, "a:x:deny");
    let press = stage.sink.wait_for("the press", |sink| sink.presses().pop()).await;
    assert_eq!(
        (press.payload.as_str(), &press.message_id, press.event_key.as_str()),
        ("a:x:deny", &prompt, &*action_ts)
    );
    assert_eq!((press.address.clone(), press.sender.id.as_str()), (address.clone(), SlackApi::ANN));

    stage.channel.answer_press(&press, PressAnswer::Refused("not an approver".to_owned())).await.unwrap();
    assert_eq!(stage.slack.ephemeral(), [(dm.clone(), SlackApi::ANN.to_owned(), "not an approver".to_owned())]);
    let message = MessageRef { address, message_id: prompt };
    for _ in 0..2 {
        stage.channel.edit_message(&message, &Body::plain("denied by Ann"), &[]).await.unwrap();
    }
    let shown = stage.slack.sent(&dm).remove(0);
    assert_eq!((shown.text.as_str(), shown.blocks.is_null()), ("denied by Ann", true));
}

#[tokio::test]
async fn a_slash_command_is_a_chat_command() {
    let stage = Stage::new().await;
    stage.slack.slash_command(SlackApi::CHANNEL, SlackApi::ANN, "/stakpak", "new look at db1");
    let message = stage.sink.wait_for("the command", |sink| sink.messages().pop()).await;
    assert_eq!(message.text, "/new look at db1");
    assert_eq!(message.address.chat_type(), ChatType::Group { id: SlackApi::CHANNEL.to_owned() });
    stage.slack.wait_for("its acknowledgement", |slack| slack.envelopes()[0].acked).await;
}

/// What was said in a thread before the bot was called into it can be told, the newest of it, by whom.
#[tokio::test]
async fn the_last_messages_of_a_thread_are_told() {
    let stage = Stage::new().await;
    stage.slack.add_person(SlackApi::BOB, "Bob");
    let thread = stage.slack.say(SlackApi::CHANNEL, SlackApi::BOB, "disk <full>");
    let said = |text: &str| stage.slack.write(Saying::new(SlackApi::CHANNEL, SlackApi::BOB, text).in_thread(&thread));
    for number in 0..30 {
        said(&format!("line {number}"));
    }
    let mention = Saying::new(SlackApi::CHANNEL, SlackApi::ANN, "help").to_bot().in_thread(&thread);
    let mention = stage.slack.write(mention);
    said("after it");
    stage.sink.wait_for_texts(1).await;
    let message = stage.sink.messages().remove(0);
    assert_eq!((&message.message_id, message.metadata["mentioned"].as_bool()), (&mention, Some(true)));
    let before = |most| stage.channel.said_before(&message.address, &mention, most);
    let texts: Vec<_> = before(20).await.unwrap().into_iter().map(|said| said.text).collect();
    assert_eq!(texts, (10..30).map(|number| format!("line {number}")).collect::<Vec<_>>());
    let first = before(100).await.unwrap().remove(0);
    assert_eq!((first.name.as_str(), first.text.as_str()), ("Bob", "disk <full>"));
}
