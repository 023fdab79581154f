//! What the HTTP API tells of sessions and of the gateway itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use serde_json::{Value, json};
use support::{ANN, Stage, chat::group};

fn send(chat: i64, title: &str) -> Value {
    json!({"channel": "telegram", "target": {"chat_id": chat}, "text": "x",
        "interactive": {"prompt": "why?", "title": title, "session": "new"}})
}

async fn of(stage: &Stage, session: &Value) -> Value {
    let (status, body) = stage.api("GET", &format!("/sessions/{}", session.as_str().unwrap()), None).await;
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test]
async fn a_session_is_active_from_the_request_to_the_end_of_its_run() {
    let stage = Stage::new("progress = \"final\"", "allow_users = [1]\napprovers = [1]").await.impatient().await;
    stage.agent.will_propose(vec![("c1", "stakpak__run_command", json!({"command": "ls"}))]);
    stage.chat.is_silent(true);
    let session = stage.api("POST", "/send", Some(&send(1, "Disk"))).await.1["session_id"].clone();
    let queued = of(&stage, &session).await;
    assert_eq!((&queued["active"], &queued["title"]), (&json!(true), &json!("Disk")), "{queued}");
    assert!(queued.get("last_run").is_none(), "{queued}");
    stage.chat.is_silent(false);
    let prompt = stage.chat.prompt(1).await;
    assert_eq!(of(&stage, &session).await["active"], true);
    assert_eq!(stage.api("GET", "/status", None).await.1["approvals_pending"], 1);
    stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await;
    stage.chat.wait_for("the answer", |shown| shown.text.contains("All done.")).await;
    let ended = of(&stage, &session).await;
    assert_eq!(ended["active"], false, "{ended}");
    let run = &ended["last_run"];
    assert_eq!((&run["outcome"], run.get("error")), (&json!("completed"), None));
    assert!(run["finished_at"].as_i64().unwrap() > 0 && run["run_id"].is_string());
    assert_eq!(stage.api("GET", "/status", None).await.1["approvals_pending"], 0);
    let unknown = stage.api("GET", "/sessions/nothing", None).await;
    assert_eq!((unknown.0, &unknown.1["error"]), (404, &json!("session_not_found")));
}

#[tokio::test]
async fn sessions_are_listed_by_page_newest_first() {
    let stage = Stage::new("", "allow_users = [1]").await;
    for title in ["a", "b", "c"] {
        assert_eq!(stage.api("POST", "/send", Some(&send(1, title))).await.0, 200);
    }
    stage.chat.say_in(group("-5"), ANN, "hi").await;
    let titles = async |query: &str| {
        let (status, body) = stage.api("GET", &format!("/sessions{query}"), None).await;
        assert_eq!(status, 200, "{body}");
        let sessions = body["sessions"].as_array().unwrap().iter();
        sessions.map(|session| session["title"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    stage.agent.wait_for_messages(4).await;
    let all = titles("").await;
    assert_eq!((all.len(), all[0].as_str()), (4, "telegram / Ann"));
    assert_eq!(titles("?limit=2&offset=1").await, all[1..3]);
    assert_eq!(titles("?channel=telegram").await, all);
    assert_eq!(titles("?channel=slack").await, Vec::<String>::new());
    for wrong in ["?limit=0", "?limit=1001", "?limit=x", "?offset=-1"] {
        let (status, body) = stage.api("GET", &format!("/sessions{wrong}"), None).await;
        assert_eq!((status, &body["error"]), (400, &json!("invalid_request")), "{wrong}");
    }
}

#[tokio::test]
async fn a_gateway_that_cannot_write_its_store_says_so() {
    let mut stage = Stage::new("", "allow_users = [1]").await;
    assert_eq!(stage.api("GET", "/status", None).await.1["status"], "ok");
    stage.kill().await;
    let file = rusqlite::Connection::open(stage.store_path()).unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON watermarks BEGIN SELECT RAISE(FAIL, 'disk full'); END";
    file.execute(full, []).unwrap();
    drop(file);
    stage.start().await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while stage.api("GET", "/status", None).await.1["status"] != "degraded" {
        assert!(std::time::Instant::now() < deadline, "the status stays ok");
        tokio::task::yield_now().await;
    }
}
