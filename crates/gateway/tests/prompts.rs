//! Prompts that go elsewhere, are recalled, or are lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stakpak_gateway::PressAnswer;
use support::{
    ANN, BOB, EVE, Stage,
    chat::{Shown, group},
};

const PATIENCE: Duration = Duration::from_secs(30);

fn waits() -> Vec<(&'static str, &'static str, Value)> {
    vec![("c1", "stakpak__run_command", json!({"command": "ls"}))]
}

fn refused(answer: &PressAnswer) -> &str {
    match answer {
        PressAnswer::Refused(reason) => reason,
        PressAnswer::Taken => panic!("the press counted"),
    }
}

fn count(stage: &Stage, is_it: impl Fn(&Shown) -> bool) -> usize {
    stage.chat.shown().iter().filter(|shown| is_it(shown)).count()
}

/// With `approval_route` the prompt is in the routed chat, its outcome too, and those decide who are approvers: the requester
/// is not, and the conversation hears where it was asked.
#[tokio::test]
async fn a_routed_prompt_is_asked_and_decided_in_the_routed_chat() {
    let stage = Stage::new("approval_route = \"telegram:-77\"", "allow_users = [1]\napprovers = [2]").await;
    stage.agent.will_propose(waits());
    stage.chat.say_in(group("-5"), ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    assert_eq!(prompt.chat, "-77");
    let note = stage.chat.wait_for("a note", |shown| shown.text.contains("was asked for in")).await;
    assert_eq!((note.chat.as_str(), note.text.contains("telegram:chat:-77")), ("-5", true), "{note:?}");

    let allow = prompt.payload("Allow");
    for who in [ANN, EVE] {
        assert!(refused(&stage.chat.press(who, &prompt, &allow).await).contains("not an approver"), "{who}");
    }
    let elsewhere = stage.chat.press_as(BOB, group("-5"), &prompt.id, &allow, None).await;
    assert!(refused(&elsewhere).contains("not the message"));
    assert_eq!(stage.agent.posts(), 0);
    assert_eq!(stage.chat.press(BOB, &prompt, &allow).await, PressAnswer::Taken);
    assert_eq!(stage.agent.decision("c1").await["action"], "accept");
    let outcome = stage.chat.wait_for("the outcome", |shown| shown.id == prompt.id && shown.buttons.is_empty()).await;
    assert!(outcome.text.starts_with("Allowed by Bob."), "{outcome:?}");
    let answer = stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
    assert_eq!(answer.chat, "-5");
}

/// A prompt in another chat can be decided in words too, where it is and where it was asked for, by the same people.
#[tokio::test]
async fn a_routed_prompt_is_decided_in_words_in_both_chats() {
    let stage = Stage::new("approval_route = \"telegram:-77\"", "allow_users = [1]\napprovers = [2]").await;
    for (number, chat) in [(1, "-77"), (2, "-5")] {
        stage.agent.will_propose(waits());
        stage.chat.say_in(group("-5"), ANN, "list").await;
        stage.chat.prompt(number).await;
        stage.chat.say_in(group("-5"), ANN, "/approve").await;
        stage.chat.wait_for("a refusal", |shown| shown.chat == "-5" && shown.text.contains("not an approver")).await;
        assert_eq!(stage.agent.posts(), number - 1);
        stage.chat.say_in(group(chat), BOB, "/deny not now").await;
        stage.chat.wait_for("an answer", |shown| shown.chat == chat && shown.text == "Denied.").await;
        stage.agent.wait_for_posts(number).await;
        assert_eq!(stage.agent.decision("c1").await["content"], "not now");
        let answers = |shown: &Shown| shown.chat == "-5" && shown.text == "All done.";
        stage.chat.wait_for("the answer", answers).await;
    }
}

/// At half its time an open approval is recalled, once, and can still be decided.
#[tokio::test]
async fn an_open_approval_is_recalled_once_at_half_its_time() {
    let mut stage = Stage::new("approval_timeout_minutes = 60", "allow_users = [1]").await;
    stage.agent.will_propose(waits());
    stage.chat.say(ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    let id = prompt.payload("Deny")[2..10].to_owned();
    let is_reminder = |shown: &Shown| shown.text.starts_with("An approval is still open");
    // What is young is not recalled; what is 31 minutes old is.
    for (minutes, reminders) in [(10, 0), (21, 1), (10, 1)] {
        stage.kill().await;
        let database = rusqlite::Connection::open(stage.store_path()).unwrap();
        let earlier = "UPDATE approvals SET created_at = created_at - ?1, remind_at = remind_at - ?1,
                       expires_at = expires_at - ?1";
        assert_eq!(database.execute(earlier, [minutes * 60_000]).unwrap(), 1);
        stage.start().await;
        if reminders == 1 {
            let reminder = stage.chat.wait_for("a reminder", is_reminder).await;
            assert!(reminder.text.contains("will be denied in 28 minutes") && reminder.text.contains(&id));
        }
        assert_eq!(count(&stage, is_reminder), reminders, "{minutes}");
    }
    assert_eq!(stage.chat.press(ANN, &prompt, &prompt.payload("Deny")).await, PressAnswer::Taken);
    stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
    assert_eq!(count(&stage, is_reminder), 1);
}

/// A prompt that the platform refused is posted again, by the process that lost it or by the next, and can be decided.
#[tokio::test]
async fn a_prompt_that_was_lost_is_posted_again() {
    for restarted in [false, true] {
        let mut stage = Stage::new("", "allow_users = [1]").await;
        stage.chat.refuse_prompts(true);
        stage.agent.will_propose(waits());
        stage.chat.say(ANN, "list").await;
        let database = rusqlite::Connection::open(stage.store_path()).unwrap();
        let given_up = "SELECT 1 FROM outbox WHERE kind = 'prompt' AND state = 'failed'";
        let deadline = Instant::now() + PATIENCE;
        while !database.prepare(given_up).unwrap().exists([]).unwrap() {
            assert!(Instant::now() < deadline, "the prompt is not given up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stage.chat.refuse_prompts(false);
        if restarted {
            stage.kill().await;
            stage.start().await;
        } else {
            stage.agent.propose(vec![("c2", "stakpak__run_command", json!({"command": "df"}))]);
            let other = stage.chat.wait_for("the other prompt", |shown| shown.text.contains("df")).await;
            stage.chat.press(ANN, &other, &other.payload("Deny")).await;
        }
        let prompt = stage.chat.wait_for("the prompt", |shown| shown.text.contains("ls")).await;
        assert_eq!(stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await, PressAnswer::Taken);
        assert_eq!(stage.agent.decision("c1").await["action"], "accept");
        stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
    }
}

/// A prompt of unknown fate is shown a second time by editing an empty message: a third copy cannot come of it.
#[tokio::test]
async fn a_prompt_that_perhaps_arrived_is_shown_once_more_at_most() {
    let mut stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(waits());
    stage.chat.say(ANN, "list").await;
    stage.chat.prompt(1).await;
    stage.kill().await;
    let database = rusqlite::Connection::open(stage.store_path()).unwrap();
    let parked =
        "UPDATE outbox SET state = 'unknown', uncertain = 10, platform_message_id = NULL WHERE kind = 'prompt'";
    assert_eq!(database.execute(parked, []).unwrap(), 1);
    stage.chat.refuse_prompts(true);
    stage.start().await;
    let prompt = stage.chat.prompt(2).await;
    assert_eq!(stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await, PressAnswer::Taken);
    assert_eq!(stage.agent.decision("c1").await["action"], "accept");
    stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
    assert_eq!(count(&stage, |shown| shown.text.contains("ls")), 2);
}
