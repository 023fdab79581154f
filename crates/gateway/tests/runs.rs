//! From messages to runs and back when the server, the clock or the stream are not as they should be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use serde_json::{Value, json};
use support::{
    ANN, Stage,
    chat::{Shown, group},
};

const ALL: &str = "allow_users = [1]\napprovers = [1]";

fn command(id: &'static str, command: &str) -> Vec<(&'static str, &'static str, Value)> {
    vec![(id, "stakpak__run_command", json!({ "command": command }))]
}

fn count(stage: &Stage, is_it: impl Fn(&Shown) -> bool) -> usize {
    stage.chat.shown().iter().filter(|shown| is_it(shown)).count()
}

/// G-P16: what waited while the gateway was away for longer than `stale_after_minutes` runs only when somebody says so; so
/// does what comes in right afterwards. After a shorter time it runs by itself.
#[tokio::test]
async fn what_waited_out_a_long_absence_is_asked_about() {
    for (minutes, held) in [(70, true), (50, false)] {
        let mut stage = Stage::new("stale_after_minutes = 60", ALL).await;
        stage.agent.will_propose(command("c1", "ls"));
        stage.chat.say(ANN, "first").await;
        let prompt = stage.chat.prompt(1).await;
        stage.chat.say(ANN, "restart the database").await;
        stage.chat.wait_for("a hint", |shown| shown.text.contains("This message waits")).await;
        stage.kill().await;
        let database = rusqlite::Connection::open(stage.store_path()).unwrap();
        let earlier = "UPDATE watermarks SET position = position - ?1 WHERE stream = 'alive'";
        assert_eq!(database.execute(earlier, [minutes * 60_000]).unwrap(), 1);
        drop(database);
        stage.start().await;
        stage.chat.say_in(group("-5"), ANN, "arrived late").await;
        stage.chat.press(ANN, &prompt, &prompt.payload("Deny")).await;
        stage.chat.wait_for("the first answer", |shown| shown.text.ends_with("All done.")).await;
        if held {
            for chat in [ANN, "-5"] {
                let asked = |shown: &Shown| shown.chat == chat && shown.text.contains("`/queue continue`");
                stage.chat.wait_for("the question", asked).await;
            }
            assert_eq!(stage.agent.messages().len(), 1, "{:?}", stage.agent.messages());
            stage.chat.say(ANN, "/queue continue").await;
            stage.agent.wait_for_messages(2).await;
            assert!(stage.agent.messages()[1].contains("restart the database"));
        } else {
            stage.agent.wait_for_messages(3).await;
            assert_eq!(count(&stage, |shown| shown.text.contains("/queue continue")), 0);
        }
    }
}

/// G-P19: a run that is over before anybody listens is reported, and the next message runs.
#[tokio::test]
async fn a_run_that_fails_before_anybody_listens_is_reported() {
    let stage = Stage::new("", ALL).await;
    stage.agent.will_fail("the model is gone");
    stage.chat.say(ANN, "list").await;
    stage.chat.wait_for("the failure", |shown| shown.text.contains("the model is gone")).await;
    stage.chat.say(ANN, "again").await;
    stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
}

/// G-P20: what was proposed in a gap of the events is asked about, and an answer given in one is told, whole and once.
#[tokio::test]
async fn a_gap_hides_neither_approvals_nor_the_answer() {
    let stage = Stage::new("", ALL).await;
    stage.agent.will_propose(command("c1", "one"));
    stage.chat.say(ANN, "list").await;
    stage.chat.prompt(1).await;
    stage.agent.propose_unheard(command("c2", "two"));
    let unheard = stage.chat.prompt(2).await;
    assert!(unheard.text.contains("two") && !unheard.text.contains("one"), "{unheard:?}");
    stage.chat.press(ANN, &unheard, &unheard.payload("Deny")).await;
    assert_eq!(stage.agent.decision("c2").await["action"], "reject");
    stage.agent.write("half of the");
    stage.chat.wait_for("the live message", |shown| shown.text.starts_with("half")).await;
    stage.agent.end_unheard("The whole answer.");
    stage.chat.wait_for("the answer", |shown| shown.text == "The whole answer.").await;
    assert_eq!(count(&stage, |shown| shown.text.contains("half") || shown.text.contains("The whole answer.")), 1);
    stage.chat.say(ANN, "and now?").await;
    stage.chat.wait_for("the next answer", |shown| shown.text == "All done.").await;
}

/// G-P23: a session that was deleted on the server is replaced, and the chat hears that its history is gone.
#[tokio::test]
async fn a_deleted_session_is_replaced_and_the_chat_hears_it() {
    let stage = Stage::new("", ALL).await;
    stage.chat.say(ANN, "before").await;
    stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
    stage.agent.delete_sessions();
    stage.chat.say(ANN, "after").await;
    stage.chat.wait_for("a notice", |shown| shown.text.contains("was deleted on the server")).await;
    stage.agent.wait_for_messages(2).await;
    let posted = stage.agent.posted();
    assert_ne!(posted[0].0, posted[1].0);
    assert!(stage.agent.messages()[1].contains("after"));
    stage.chat.say(ANN, "later").await;
    stage.agent.wait_for_messages(3).await;
    assert_eq!(stage.agent.posted()[2].0, posted[1].0, "it stays in the new one");
    assert_eq!(count(&stage, |shown| shown.text.contains("was deleted on the server")), 1);
}

/// G-P24: a person and a program at once make one session.
#[tokio::test]
async fn two_first_messages_at_once_create_one_session() {
    let stage = Stage::new("", ALL).await;
    let send = json!({"channel": "telegram", "target": {"chat_id": 1}, "text": "Disk 91 %",
        "interactive": {"prompt": "find out why"}});
    let (answer, ()) = tokio::join!(stage.api("POST", "/send", Some(&send)), stage.chat.say(ANN, "hello"));
    assert_eq!(answer.0, 200, "{answer:?}");
    stage.agent.wait_for_messages(2).await;
    let posted = stage.agent.posted();
    assert_eq!((stage.agent.created().len(), &posted[0].0), (1, &posted[1].0));
}

/// G-P27: what a program said before belongs to one message: to the same one when its run could not be started at first.
#[tokio::test]
async fn context_survives_a_failed_start_and_belongs_to_one_message() {
    let stage = Stage::new("", ALL).await;
    let text = |status: &str| json!({"channel": "telegram", "target": {"chat_id": 1}, "text": "Disk", "context": {"status": status}});
    let context = |at: usize| stage.agent.posted()[at].1["context"].to_string();
    assert_eq!(stage.api("POST", "/send", Some(&text("is failed"))).await.0, 200);
    stage.agent.refuse_messages(2);
    stage.chat.say(ANN, "why?").await;
    stage.agent.wait_for_messages(1).await;
    assert!(context(0).contains("is failed"), "{}", context(0));
    assert_eq!(stage.api("POST", "/send", Some(&text("is well"))).await.0, 200);
    stage.chat.say(ANN, "and now?").await;
    stage.agent.wait_for_messages(2).await;
    assert!(context(1).contains("is well") && !context(1).contains("is failed"), "{}", context(1));
    stage.chat.say(ANN, "and then?").await;
    stage.agent.wait_for_messages(3).await;
    assert!(!context(2).contains("watch_delivery_context"), "{}", context(2));
}

/// G-P53: a store that 0.3.x wrote is opened in place: its conversations go on in their sessions, and what it had delivered is
/// the context of the next message.
#[tokio::test]
async fn a_store_of_an_earlier_version_goes_on() {
    let mut stage = Stage::new("", ALL).await;
    stage.kill().await;
    for file in ["gateway.db", "gateway.db-wal", "gateway.db-shm"] {
        let _ = std::fs::remove_file(stage.home.path().join(file));
    }
    let session = "0b8f7a52-3c1e-4d55-9a57-6f0d2f1c9e11";
    let database = rusqlite::Connection::open(stage.store_path()).unwrap();
    let tables = "CREATE TABLE sessions (routing_key TEXT PRIMARY KEY, session_id TEXT NOT NULL, title TEXT NOT NULL,
            channel TEXT NOT NULL, peer_id TEXT NOT NULL, chat_type TEXT NOT NULL, channel_meta TEXT NOT NULL,
            created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
        CREATE TABLE delivery_context (channel TEXT NOT NULL, target_key TEXT NOT NULL, context TEXT NOT NULL,
            delivered_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, PRIMARY KEY (channel, target_key));";
    database.execute_batch(tables).unwrap();
    let row = "INSERT INTO sessions VALUES ('telegram:dm:1', ?1, 'old', 'telegram', '1', ?2, '{}', 1, 2)";
    database.execute(row, [session, r#"{"kind":"direct"}"#]).unwrap();
    let row = "INSERT INTO delivery_context VALUES ('telegram', 'telegram:chat:1', ?1, 1, 9999999999999)";
    database.execute(row, [r#"{"status":"disk is full"}"#]).unwrap();
    drop(database);
    stage.start().await;
    stage.chat.say(ANN, "why?").await;
    stage.agent.wait_for_messages(1).await;
    let (posted_to, body) = stage.agent.posted().remove(0);
    assert_eq!((posted_to.as_str(), stage.agent.created().len()), (session, 0));
    assert!(body["context"].to_string().contains("disk is full"), "{body}");
}

/// G-P21: a session that is busy with somebody else's run is waited for, not asked again and again; then what waits starts by
/// itself, in order.
#[tokio::test]
async fn a_run_that_somebody_else_started_is_waited_for() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.chat.say(ANN, "zero").await;
    stage.chat.wait_for("an answer", |shown| shown.text == "All done.").await;
    stage.agent.occupy();
    stage.chat.say(ANN, "one").await;
    stage.agent.wait_for_subscriptions(2).await;
    stage.chat.say(ANN, "two").await;
    assert_eq!(stage.agent.conflicts(), 1);
    stage.agent.vacate();
    stage.agent.wait_for_messages(3).await;
    let texts: Vec<_> = stage.agent.messages().iter().map(|text| text.trim_matches('"').to_owned()).collect();
    assert_eq!(texts, ["zero", "one", "two"]);
    assert_eq!(stage.agent.conflicts(), 1, "its end was heard");
    stage.chat.wait_for("no more", |_| count(&stage, |shown| shown.text == "All done.") == 3).await;
}
