//! Decoding of single updates.

use super::*;
use serde_json::json;

fn decoder(require_mention: bool) -> Decoder {
    let me = serde_json::from_value(json!({"id": 99, "username": "OpsBot"})).unwrap();
    Decoder::new(&me, require_mention)
}

fn update(message: &Value) -> Value {
    json!({"update_id": 5, "message": message})
}

fn decoded(decoder: &Decoder, message: &Value) -> Option<InboundMessage> {
    match decoder.decode(5, update(message)) {
        Some(InboundEvent::Message(message)) => Some(*message),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

fn group(text: &str, more: &Value) -> Value {
    let mut message = json!({"message_id": 7, "date": 0, "chat": {"id": -100, "type": "supergroup", "title": "ops"},
        "from": {"id": 1, "is_bot": false, "first_name": "Ann"}, "text": text});
    for (key, value) in more.as_object().unwrap() {
        message[key] = value.clone();
    }
    message
}

#[test]
fn a_direct_message_is_keyed_by_update_chat_and_message() {
    let message = decoded(
        &decoder(true),
        &json!({"message_id": 7, "chat": {"id": 1, "type": "private"}, "text": "hi",
            "from": {"id": 1, "first_name": "Ann", "last_name": "Lee", "username": "ann"}}),
    )
    .unwrap();
    assert_eq!(message.event_key, "5:1:7");
    assert_eq!(message.address.direct, Some("1".into()));
    assert_eq!(message.sender.name(), "Ann Lee");
}

#[test]
fn a_thread_is_only_a_topic() {
    let plain = decoded(&decoder(false), &group("x", &json!({"message_thread_id": 3}))).unwrap();
    assert_eq!(plain.address.thread, None);
    let topic = group("x", &json!({"message_thread_id": 3, "is_topic_message": true}));
    assert_eq!(decoded(&decoder(false), &topic).unwrap().address.thread, Some("3".into()));
}

#[test]
fn in_groups_a_mention_may_be_required() {
    let mention = json!({"entities": [{"type": "mention", "offset": 0, "length": 7}]});
    let text = decoded(&decoder(true), &group("@opsbot disk?\n  df", &mention)).unwrap().text;
    assert_eq!(text, "disk?\n  df");
    assert_eq!(decoded(&decoder(true), &group("disk?", &json!({}))), None);
    let other = json!({"entities": [{"type": "bot_command", "offset": 0, "length": 12}]});
    assert_eq!(decoded(&decoder(true), &group("/start@other", &other)), None);
    let reply = json!({"reply_to_message": {"message_id": 1, "from": {"id": 99, "is_bot": true}}});
    assert!(decoded(&decoder(true), &group("yes", &reply)).is_some());
    assert!(decoded(&decoder(false), &group("disk?", &json!({}))).is_some());
}

#[test]
fn bots_are_ignored_and_the_undecodable_is_kept() {
    let bot = group("x", &json!({"from": {"id": 2, "is_bot": true, "first_name": "b"}}));
    assert_eq!(decoded(&decoder(false), &bot), None);
    let broken = decoder(false).decode(6, json!({"update_id": 6, "message": {"chat": "?"}}));
    assert!(matches!(broken, Some(InboundEvent::Undecodable { order_key: 6, .. })), "{broken:?}");
    assert_eq!(decoder(false).decode(6, json!({"update_id": 6, "poll": {}})), None);
}

#[test]
fn the_name_of_the_bot_is_no_part_of_a_command() {
    let command = json!({"entities": [{"type": "bot_command", "offset": 0, "length": 11}]});
    assert_eq!(decoded(&decoder(true), &group("/new@OpsBot disk?", &command)).unwrap().text, "/new disk?");
    let other = json!({"entities": [{"type": "bot_command", "offset": 0, "length": 10}]});
    assert_eq!(decoded(&decoder(false), &group("/new@other disk?", &other)), None, "a command for another bot");
    let mention = json!({"entities": [{"type": "mention", "offset": 0, "length": 9}]});
    let text = decoded(&decoder(false), &group("@opsbotty hi", &mention)).unwrap().text;
    assert_eq!(text, "@opsbotty hi", "somebody else's name");
}

/// G-P12.
#[test]
fn files_of_all_kinds_are_attachments_and_a_photo_is_its_largest_size() {
    let photo = json!({"text": null, "caption": "what is this?", "photo": [
        {"file_id": "small", "width": 90, "height": 90}, {"file_id": "large", "width": 900, "height": 900, "file_size": 7},
        {"file_id": "middle", "width": 300, "height": 300}]});
    let message = decoded(&decoder(false), &group("", &photo)).unwrap();
    assert_eq!((message.text.as_str(), message.attachments.len()), ("what is this?", 1));
    let file = &message.attachments[0];
    assert_eq!((file.id.as_str(), file.name.as_str(), file.size), ("large", "photo.jpg", Some(7)));
    for (kind, name) in
        [("document", "document"), ("voice", "voice.ogg"), ("audio", "audio.mp3"), ("video", "video.mp4")]
    {
        let mut message = group("", &json!({"text": null}));
        message[kind] = json!({"file_id": "f", "file_unique_id": "u", "duration": 1});
        let message = decoded(&decoder(false), &message).unwrap();
        assert_eq!((message.text.as_str(), message.attachments[0].name.as_str()), ("", name));
    }
}

#[test]
fn what_a_message_answers_is_quoted_above_it_but_not_above_a_command() {
    let reply = json!({"reply_to_message": {"message_id": 3, "from": {"id": 2, "first_name": "Bob"}, "text": "disk\nfull",
        "document": {"file_id": "log"}}});
    let message = decoded(&decoder(false), &group("why?", &reply)).unwrap();
    assert_eq!((message.text.as_str(), message.attachments.len()), ("> disk\n> full\n\nwhy?", 1));
    assert_eq!(decoded(&decoder(false), &group("/deny x", &reply)).unwrap().text, "/deny x");
    let own = json!({"reply_to_message": {"message_id": 3, "from": {"id": 99, "is_bot": true}, "text": "long answer"}});
    assert_eq!(decoded(&decoder(true), &group("more", &own)).unwrap().text, "more", "the bot knows what it said");
    let mut part = own;
    part["quote"] = json!({"text": "answer", "position": 5});
    assert_eq!(decoded(&decoder(true), &group("more", &part)).unwrap().text, "> answer\n\nmore");
    let topic = json!({"message_thread_id": 3, "is_topic_message": true,
        "reply_to_message": {"message_id": 3, "from": {"id": 99, "is_bot": true}, "forum_topic_created": {"name": "x"}}});
    assert_eq!(
        decoded(&decoder(true), &group("hi", &topic)),
        None,
        "to be in a topic the bot opened is no answer to it"
    );
}

#[test]
fn edits_presses_and_new_ids_of_groups_are_events() {
    let edited = decoder(false).decode(8, json!({"update_id": 8, "edited_message": group("new", &json!({}))}));
    let Some(InboundEvent::Edited(message)) = edited else { panic!("{edited:?}") };
    assert_eq!((message.message_id.as_str(), message.text.as_str(), message.order_key), ("7", "new", 8));

    let query = json!({"id": "q1", "from": {"id": 1, "first_name": "Ann"}, "data": "a:x:allow", "chat_instance": "1",
        "message": {"message_id": 9, "date": 0, "chat": {"id": -100, "type": "supergroup"}, "message_thread_id": 3,
            "is_topic_message": true}});
    let pressed = decoder(true).decode(9, json!({"update_id": 9, "callback_query": query}));
    let Some(InboundEvent::Press(press)) = pressed else { panic!("{pressed:?}") };
    assert_eq!((press.token.as_str(), press.payload.as_str(), press.message_id.as_str()), ("q1", "a:x:allow", "9"));
    assert_eq!((press.address.chat.as_str(), press.address.thread.as_deref()), ("-100", Some("3")));

    let moved = group("", &json!({"text": null, "migrate_to_chat_id": -1_005}));
    let moved = decoder(true).decode(5, update(&moved));
    assert_eq!(moved, Some(InboundEvent::Migrated { from: "-100".to_owned(), to: "-1005".to_owned() }));
    let member = json!({"update_id": 6, "my_chat_member": {"chat": {"id": 1, "type": "private"}, "from": {"id": 1},
        "date": 0, "old_chat_member": {"status": "member"}, "new_chat_member": {"status": "kicked"}}});
    assert_eq!(decoder(true).decode(6, member), None);
}
