//! Which events become what.

use super::*;

fn bot() -> Bot {
    Bot {
        team: "T1".to_owned(),
        enterprise: None,
        user: "U0BOT".to_owned(),
        require_mention: true,
        allow_external: false,
    }
}

fn event(text: &str, more: &Value) -> Value {
    let mut event = json!({"type": "message", "channel": "C1", "user": "U1", "ts": "1700000000.000100", "text": text});
    for (key, value) in more.as_object().unwrap() {
        event[key] = value.clone();
    }
    event
}

fn heard(bot: &Bot, event: &Value, kind: ChatKind) -> Option<Heard> {
    match bot.sort(event, kind) {
        Sorted::Heard(heard) => Some(heard),
        Sorted::Ignored => None,
        Sorted::Undecodable => panic!("not decoded: {event}"),
    }
}

#[test]
fn a_direct_message_needs_no_mention_and_its_threads_share_the_session() {
    let threaded = event("a &amp; b", &json!({"thread_ts": "1600000000.000001"}));
    let heard = heard(&bot(), &threaded, ChatKind::Direct).unwrap();
    assert!(heard.addressed);
    assert_eq!(heard.message.text, "a & b");
    assert_eq!(heard.message.event_key, "T1:C1:1700000000.000100");
    assert_eq!(heard.message.order_key, 1_700_000_000_000_100);
    assert_eq!(heard.message.address.chat_type(), crate::ChatType::Direct);
}

/// G-P4: one key for both events; G-P13.
#[test]
fn a_mention_opens_a_thread_under_one_key() {
    let text = "<@U0BOT> fix\n  this";
    let message = heard(&bot(), &event(text, &json!({})), ChatKind::Channel).unwrap();
    let mention = heard(&bot(), &event(text, &json!({"type": "app_mention"})), ChatKind::Channel).unwrap();
    assert_eq!(message, mention);
    assert!(message.addressed);
    assert_eq!(message.message.text, "fix\n  this");
    assert_eq!(message.message.address.thread.as_deref(), Some("1700000000.000100"));
    let inside = event(text, &json!({"thread_ts": "1600000000.000001"}));
    let inside = heard(&bot(), &inside, ChatKind::Channel).unwrap();
    assert_eq!(inside.message.address.thread.as_deref(), Some("1600000000.000001"));
}

#[test]
fn without_a_mention_only_threads_of_the_bot_are_meant_for_it() {
    assert!(!heard(&bot(), &event("hi", &json!({})), ChatKind::Channel).unwrap().addressed);
    let reply = json!({"thread_ts": "1600000000.000001", "parent_user_id": "U9"});
    assert!(!heard(&bot(), &event("hi", &reply), ChatKind::Channel).unwrap().addressed);
    let to_bot = json!({"thread_ts": "1600000000.000001", "parent_user_id": "U0BOT"});
    assert!(heard(&bot(), &event("hi", &to_bot), ChatKind::Channel).unwrap().addressed);
    let open = Bot { require_mention: false, ..bot() };
    let heard = heard(&open, &event("hi", &json!({})), ChatKind::Channel).unwrap();
    assert_eq!((heard.addressed, heard.message.address.thread), (true, None));
}

/// G-P12.
#[test]
fn a_mention_in_a_group_dm_is_meant_for_the_bot_and_opens_no_thread() {
    let heard = heard(&bot(), &event("<@U0BOT> hi", &json!({})), ChatKind::GroupDm).unwrap();
    assert_eq!((heard.addressed, heard.message.address.thread), (true, None));
}

#[test]
fn bots_system_messages_and_strangers_are_passed_over() {
    for more in [
        json!({"bot_id": "B1"}),
        json!({"user": "U0BOT"}),
        json!({"user": "USLACKBOT"}),
        json!({"user": null}),
        json!({"subtype": "channel_join"}),
        json!({"subtype": "message_deleted"}),
        json!({"user_team": "T2"}),
        json!({"text": " "}),
    ] {
        assert_eq!(heard(&bot(), &event("hi", &more), ChatKind::Direct), None, "{more}");
    }
    let open = Bot { allow_external: true, ..bot() };
    assert!(heard(&open, &event("hi", &json!({"user_team": "T2"})), ChatKind::Direct).is_some());
}

/// G-P5 and G-P12.
#[test]
fn texts_survive_what_is_not_known_around_them() {
    let odd = json!({"blocks": [{"type": "from_the_future", "elements": 7}], "subtype": "file_share",
        "files": [{"id": "F1", "name": "a.txt", "mimetype": "text/plain", "size": 3, "url_private": "https://f/1"},
            {"id": "F2", "mode": "tombstone"}]});
    let heard = heard(&bot(), &event("look", &odd), ChatKind::Direct).unwrap();
    assert_eq!(heard.message.text, "look");
    let file = MediaAttachment {
        id: "https://f/1".to_owned(),
        name: "a.txt".to_owned(),
        mime_type: Some("text/plain".to_owned()),
        size: Some(3),
    };
    assert_eq!(heard.message.attachments, [file]);
    assert_eq!(bot().sort(&event("x", &json!({"ts": 7})), ChatKind::Direct), Sorted::Undecodable);
    assert_eq!(bot().sort(&json!({"type": "message", "text": "x"}), ChatKind::Direct), Sorted::Undecodable);
}

#[test]
fn an_edit_is_one_only_if_the_text_changed() {
    let change = |text: &str| {
        let now = event(text, &json!({"edited": {"user": "U1", "ts": "1700000009.000000"}}));
        json!({"type": "message", "subtype": "message_changed", "channel": "C1", "ts": "1700000009.000000",
            "message": now, "previous_message": event("old", &json!({}))})
    };
    assert_eq!(heard(&bot(), &change("old"), ChatKind::Direct), None);
    let heard = heard(&bot(), &change("new"), ChatKind::Direct).unwrap();
    assert!(heard.edited);
    assert_eq!(heard.message.message_id, "1700000000.000100");
    assert_eq!(heard.message.event_key, "T1:C1:1700000000.000100:1700000009.000000");
}

#[test]
fn a_slash_command_is_a_text_that_begins_with_a_slash() {
    let command = |text: &str| {
        let payload = json!({"channel_id": "D1", "user_id": "U1", "user_name": "ann", "team_id": "T1", "text": text,
            "trigger_id": "1.2"});
        bot().command(&payload, 5).unwrap()
    };
    assert_eq!(command("new fix &lt;this&gt;").text, "/new fix <this>");
    assert_eq!(command("/stop").text, "/stop");
    assert_eq!(command("").text, "/help");
    assert_eq!(command("x").event_key, "T1:command:1.2");
    assert_eq!(command("x").address.direct, Some("U1".into()));
}
