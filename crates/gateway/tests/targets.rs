//! G-P46: what programs send to a name or a person, and where an answer to it lands; on real adapters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use serde_json::{Value, json};
use stakpak_test_support::{BotApi, FakeDiscord, Saying, SlackApi, SlackFault, Words};

use support::line::Line;

fn told(channel: &str, target: &Value) -> Value {
    json!({"channel": channel, "target": target, "text": "Disk 91 %", "context": {"status": "failed"}})
}

fn with_run(mut body: Value) -> Value {
    body["interactive"] = json!({"prompt": "why?"});
    body
}

/// Also when the name cannot be looked up: then the receipt tells what it stands for.
#[tokio::test]
async fn an_answer_to_what_was_sent_to_a_name_on_slack_needs_no_mention() {
    for lookup_fails in [false, true] {
        let slack = SlackApi::start().await;
        let line = Line::slack(&slack).await;
        let answer_in = |thread: &Value, text: &str| {
            let thread = thread.as_str().unwrap();
            slack.write(Saying::new(SlackApi::CHANNEL, SlackApi::ANN, text).in_thread(thread));
        };
        if lookup_fails {
            slack.fail_next("users.conversations", None, SlackFault::ErrorBefore);
        }
        let plain = line.send(&told("slack", &json!({"channel": "#ops"}))).await;
        answer_in(&plain["message_id"], "which disk?");
        let (_, context) = line.arrived(1).await;
        assert!(context.contains("status: failed"), "{context}");

        if lookup_fails {
            slack.fail_next("users.conversations", None, SlackFault::ErrorBefore);
        }
        let run = line.send(&with_run(told("slack", &json!({"channel": "#ops"})))).await;
        assert_eq!(line.arrived(2).await.0, run["session_id"]);
        assert_eq!(run["thread_id"], run["message_id"]);
        answer_in(&run["thread_id"], "and now?");
        assert_eq!(line.arrived(3).await.0, run["session_id"]);
    }
}

/// By the person and by the chat, with and without a run.
#[tokio::test]
async fn an_answer_to_what_was_sent_to_a_person_on_slack_lands_in_the_direct_session() {
    let slack = SlackApi::start().await;
    let dm = slack.dm(SlackApi::ANN);
    let line = Line::slack(&slack).await;
    let run = line.send(&with_run(told("slack", &json!({"channel": SlackApi::ANN})))).await;
    assert_eq!((line.arrived(1).await.0, &run["thread_id"]), (run["session_id"].clone(), &Value::Null));
    slack.wait_for_sent(&dm, 2).await;
    slack.say_in_dm(SlackApi::ANN, "and now?");
    assert_eq!(line.arrived(2).await.0, run["session_id"]);
    let again = line.send(&with_run(told("slack", &json!({"channel": dm})))).await;
    assert_eq!((line.arrived(3).await.0, &again["session_id"]), (run["session_id"].clone(), &run["session_id"]));
    for (number, chat) in [(4, SlackApi::ANN), (5, &dm)] {
        let plain = line.send(&told("slack", &json!({"channel": chat}))).await;
        // Threads inside of a direct chat share its conversation, and what was said into it.
        let thread = plain["message_id"].as_str().unwrap();
        slack.write(Saying::new(&dm, SlackApi::ANN, "why?").in_thread(thread));
        let (session, context) = line.arrived(number).await;
        assert_eq!(session, run["session_id"]);
        assert!(context.contains("status: failed"), "{context}");
    }
}

/// A press names the chat by its id, whatever the file calls it.
#[tokio::test]
async fn a_prompt_that_goes_to_a_name_can_be_answered_there() {
    for lookup_fails in [false, true] {
        let slack = SlackApi::start().await;
        let line = Line::slack(&slack).await;
        if lookup_fails {
            slack.fail_next("users.conversations", None, SlackFault::ErrorBefore);
        }
        line.agent.will_propose(vec![("c1", "stakpak__run_command", json!({"command": "df"}))]);
        slack.say_in_dm(SlackApi::ANN, "df");
        let prompt = slack.wait_for_sent(SlackApi::CHANNEL, 1).await.remove(0);
        let allow = prompt.blocks.as_array().unwrap().iter().find(|block| block["type"] == "actions").unwrap();
        let allow = allow["elements"][0]["action_id"].as_str().unwrap();
        slack.press(SlackApi::CHANNEL, &prompt.ts, SlackApi::ANN, allow);
        assert_eq!(line.agent.decision("c1").await["action"], "accept");
    }
}

#[tokio::test]
async fn an_answer_to_what_was_sent_to_a_person_on_discord_lands_in_the_direct_session() {
    let fake = FakeDiscord::start().await;
    let ann = fake.person("Ann");
    let guild = fake.guild("company");
    let thread = fake.thread(fake.channel(guild, "ops"), "outage");
    let line = Line::new(&format!(
        "[channels.discord]\ntoken = \"{}\"\napi_base_url = \"{}\"\nallow_users = [\"{ann}\"]\n",
        FakeDiscord::TOKEN,
        fake.base_url()
    ))
    .await;
    fake.wait_for("a session", |seen| seen.identifies.iter().any(|identify| identify.outcome.is_ok())).await;
    let run = line.send(&with_run(told("discord", &json!({"channel_id": ann.to_string()})))).await;
    assert_eq!(line.arrived(1).await.0, run["session_id"]);
    let dm = fake.direct(ann);
    fake.wait_for("the answer", |seen| seen.messages.iter().filter(|it| it.channel == dm).count() == 2).await;
    fake.say(dm, ann, "and now?");
    assert_eq!(line.arrived(2).await.0, run["session_id"]);
    let again = line.send(&with_run(told("discord", &json!({"channel_id": dm})))).await;
    assert_eq!((line.arrived(3).await.0, &again["session_id"]), (run["session_id"].clone(), &run["session_id"]));

    // A thread is named by its own id, and is a part of its channel all the same.
    let there = line.send(&with_run(told("discord", &json!({"channel_id": thread.to_string()})))).await;
    assert_eq!(
        (line.arrived(4).await.0, &there["thread_id"]),
        (there["session_id"].clone(), &json!(thread.to_string()))
    );
    fake.say(thread, ann, "and here?");
    assert_eq!(line.arrived(5).await.0, there["session_id"]);
}

/// A public group has a name; what is said there comes from its id. A server that cannot look names up tells it with the
/// receipt.
#[tokio::test]
async fn an_answer_to_what_was_sent_to_a_name_on_telegram_lands_in_the_group() {
    const ANN: i64 = 42;
    const OPS: i64 = -1_001_234;
    for cannot_look_up in [false, true] {
        let telegram = BotApi::start().await;
        telegram.publish(OPS, "@ops_room");
        if cannot_look_up {
            telegram.without("getchat");
        }
        let config = format!(
            "[channels.telegram]\ntoken = \"1:x\"\napi_base_url = \"{}\"\nallow_users = [{ANN}]\n",
            telegram.base_url()
        );
        let line = Line::new(&config).await;
        telegram.wait_for("a poll", |bot| (!bot.offsets().is_empty()).then_some(())).await;
        line.send(&told("telegram", &json!({"chat_id": "@Ops_Room"}))).await;
        telegram.say_in_group(OPS, ANN, "which disk?");
        let (session, context) = line.arrived(1).await;
        assert!(context.contains("status: failed"), "{context}");

        let run = line.send(&with_run(told("telegram", &json!({"chat_id": "@ops_room"})))).await;
        let there = line.arrived(2).await.0;
        assert_eq!(there, run["session_id"]);
        assert_eq!(there == session, !cannot_look_up, "the session of the group, if its id is known in time");
        let asked: i64 = run["message_id"].as_str().unwrap().parse().unwrap();
        telegram.speak(Words::group(OPS, ANN, "and now?").in_reply_to(asked));
        assert_eq!(line.arrived(3).await.0, run["session_id"]);
    }
}
