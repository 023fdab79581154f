//! A-P36: keys of the file, each with what would not happen if it were ignored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use stakpak_gateway::{Gateway, GatewayCliFlags, GatewayConfig, MediaAttachment};
use support::{ANN, Stage, chat::Chat, chat::direct};

const ALL: &str = "allow_users = [1]";

/// Keeps a run under way: it waits for a decision.
fn waits(stage: &Stage) {
    stage.agent.will_propose(vec![("c1", "stakpak__run_command", json!({"command": "ls"}))]);
}

/// Changes the store while nobody uses it.
async fn change(stage: &mut Stage, sql: &str) {
    stage.kill().await;
    let file = rusqlite::Connection::open(stage.store_path()).unwrap();
    assert!(file.execute(sql, []).unwrap() > 0, "{sql} changes nothing");
    drop(file);
    stage.start().await;
}

#[tokio::test]
async fn sessions_have_the_title_that_the_file_gives_them() {
    let stage = Stage::new("title_template = \"{peer} on {channel}\"", ALL).await;
    stage.chat.say(ANN, "hi").await;
    stage.agent.wait_for_messages(1).await;
    assert_eq!(stage.agent.created()[0]["title"], "Ann on telegram");
}

#[tokio::test]
async fn runs_of_a_channel_have_its_profile_and_its_sandbox() {
    let stage = Stage::new("", &format!("{ALL}\nprofile = \"ops\"\nsandbox = \"on\"")).await;
    stage.chat.say(ANN, "hi").await;
    stage.agent.wait_for_messages(1).await;
    let (_, body) = stage.agent.posted().remove(0);
    assert_eq!((&body["overrides"]["profile"], &body["sandbox"]), (&json!("ops"), &json!(true)), "{body}");
}

#[tokio::test]
async fn a_message_interrupts_a_run_where_the_file_says_so() {
    let stage = Stage::new("busy_policy = \"interrupt\"", ALL).await;
    waits(&stage);
    stage.chat.say(ANN, "first").await;
    stage.chat.prompt(1).await;
    stage.chat.say(ANN, "second").await;
    stage.agent.wait_for_messages(2).await;
    assert!(stage.agent.decisions().is_empty(), "nobody has decided: the first run was ended");
}

#[tokio::test]
async fn no_more_messages_wait_than_the_file_allows() {
    let stage = Stage::new("queue_limit = 1", ALL).await;
    waits(&stage);
    stage.chat.say(ANN, "first").await;
    stage.chat.prompt(1).await;
    stage.chat.say(ANN, "second").await;
    stage.chat.say(ANN, "third").await;
    stage.chat.wait_for("a refusal", |shown| shown.text.contains("Too many messages wait")).await;
}

/// The run began two minutes ago, and has one.
#[tokio::test]
async fn a_run_that_takes_too_long_is_ended() {
    let mut stage = Stage::new("run_timeout_minutes = 1", ALL).await;
    waits(&stage);
    stage.chat.say(ANN, "go").await;
    stage.chat.prompt(1).await;
    change(&mut stage, "UPDATE runs SET started_at = started_at - 120000").await;
    stage.chat.wait_for("its end", |shown| shown.text.contains("took longer than it may")).await;
}

#[tokio::test]
async fn a_file_larger_than_the_file_allows_is_not_fetched() {
    let stage = Stage::new("max_attachment_mb = 3", ALL).await;
    let size = Some(4 * 1024 * 1024);
    let attachment = MediaAttachment { id: "f".into(), name: "dump.bin".into(), mime_type: None, size };
    stage.chat.say_with(direct(ANN), ANN, "look", None, vec![attachment]).await;
    stage.agent.wait_for_messages(1).await;
    let (_, body) = stage.agent.posted().remove(0);
    assert!(body.to_string().contains("dump.bin could not be read: larger than 3 MiB"), "{body}");
}

/// Four hours unless the file says less.
#[tokio::test]
async fn what_a_program_said_is_context_for_so_long() {
    for (key, is_told) in [("delivery_context_ttl_hours = 1", false), ("delivery_context_ttl_hours = 3", true)] {
        let mut stage = Stage::new(key, ALL).await;
        let body =
            json!({"channel": "telegram", "target": {"chat_id": 1}, "text": "Disk", "context": {"status": "full"}});
        assert_eq!(stage.api("POST", "/send", Some(&body)).await.0, 200);
        change(&mut stage, "UPDATE delivery_context SET expires_at = expires_at - 2 * 3600 * 1000").await;
        stage.chat.say(ANN, "why?").await;
        stage.agent.wait_for_messages(1).await;
        let context = stage.agent.posted()[0].1["context"].to_string();
        assert_eq!(context.contains("full"), is_told, "{key}: {context}");
    }
}

/// A conversation that nobody went on with is a new session. A week unless the file says less.
#[tokio::test]
async fn conversations_are_forgotten_after_so_long() {
    for (key, sessions) in [("prune_after_hours = 1", 2), ("prune_after_hours = 3", 1)] {
        let mut stage = Stage::new(key, ALL).await;
        stage.chat.say(ANN, "hi").await;
        stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
        change(&mut stage, "UPDATE sessions SET updated_at = updated_at - 2 * 3600 * 1000").await;
        let is_known = || {
            let store = rusqlite::Connection::open(stage.store_path()).unwrap();
            store.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0)).unwrap() > 0
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while sessions == 2 && is_known() {
            assert!(std::time::Instant::now() < deadline, "{key}: the conversation stays");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stage.chat.say(ANN, "again").await;
        stage.agent.wait_for_messages(2).await;
        assert_eq!(stage.agent.created().len(), sessions, "{key}");
    }
}

#[tokio::test]
async fn the_store_is_where_the_file_says() {
    let home = tempfile::tempdir().unwrap();
    let (file, store) = (home.path().join("autopilot.toml"), home.path().join("elsewhere.db"));
    let text = format!("[gateway]\nstore = \"{}\"\n[channels.telegram]\ntoken = \"1:x\"\n", store.display());
    std::fs::write(&file, text).unwrap();
    let config = GatewayConfig::load(file.as_path(), &GatewayCliFlags::default()).unwrap();
    let config = config.with_server("http://127.0.0.1:9".to_owned(), "token");
    let channel = Chat::new().channel();
    drop(Arc::new(Gateway::with_channels(config, vec![channel]).unwrap()));
    assert!(store.exists());
}
