//! What the gateway counts for those who operate it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use serde_json::json;
use support::{ANN, Stage};

#[tokio::test]
async fn messages_runs_sends_and_decisions_are_counted() {
    let stage = Stage::new("progress = \"final\"", "allow_users = [1]\napprovers = [1]").await;
    stage.agent.will_propose(vec![("c1", "stakpak__run_command", json!({"command": "ls"}))]);
    stage.chat.say(ANN, "how full is the disk?").await;
    let prompt = stage.chat.prompt(1).await;
    let happened = || stage.gateway.as_ref().unwrap().happened();
    assert_eq!((happened().accepts.count, happened().approval_waits.count), (1, 0));
    stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await;
    stage.chat.wait_for("the answer", |shown| shown.text.contains("All done.")).await;
    let found = happened();
    assert_eq!((found.accepts.count, found.approval_waits.count), (2, 1), "a press is accepted like a message");
    assert_eq!((found.runs["completed"], found.runs["failed"]), (1, 0));
    let sent = |result| happened().sends.get(&("telegram".into(), result)).copied().unwrap_or_default();
    assert!(sent("sent") >= 2 && sent("refused") == 0, "{:?}", happened().sends);
    stage.chat.refuse_texts(true);
    let text = json!({"channel": "telegram", "target": {"chat_id": 1}, "text": "x"});
    assert_eq!(stage.api("POST", "/send", Some(&text)).await.0, 502);
    assert_eq!(sent("refused"), 1);
}
