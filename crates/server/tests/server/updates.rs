//! Changing title and visibility.

use serde_json::{Value, json};
use stakpak_agent_core::AgentConfig;

use crate::support::{Step, TestServer};

/// The answer is the body of GET session; what is absent or null stays.
#[tokio::test]
async fn a_change_is_seen_and_leaves_the_rest() {
    let server = TestServer::start([]).await;
    let http = server.http();
    let path = format!("/v1/sessions/{}", http.session("old").await);
    let made = http.get(&path).await.1;

    let (status, titled) = http.patch(&path, json!({"title": "new", "visibility": null})).await;
    assert_eq!((status, &titled), (200, &http.get(&path).await.1));
    assert_eq!((&titled["session"]["title"], &titled["session"]["visibility"]), (&json!("new"), &json!("PRIVATE")));
    assert_ne!(titled["session"]["updated_at"], made["session"]["updated_at"]);
    assert_eq!(titled["config"], made["config"]);

    let (_, public) = http.patch(&path, json!({"visibility": "PUBLIC"})).await;
    assert_eq!((&public["session"]["title"], &public["session"]["visibility"]), (&json!("new"), &json!("PUBLIC")));
    let (_, untitled) = http.patch(&path, json!({"title": "", "visibility": "PRIVATE"})).await;
    assert_eq!((&untitled["session"]["title"], &untitled["session"]["visibility"]), (&json!(""), &json!("PRIVATE")));
    assert_eq!(http.get("/v1/sessions?search=old").await.1["total"], 0, "found by its present title only");

    let server = TestServer::start_in(server.crash().await, [], AgentConfig::default()).await;
    assert_eq!(server.http().get(&path).await.1, untitled);
}

#[tokio::test]
async fn a_change_of_nothing_changes_nothing() {
    let server = TestServer::start([]).await;
    let http = server.http();
    let path = format!("/v1/sessions/{}", http.session("same").await);
    let made = http.get(&path).await.1;
    for body in [json!({}), json!({"title": null, "visibility": null}), json!({"unknown": 1})] {
        assert_eq!(http.patch(&path, body).await, (200, made.clone()));
    }
    assert_eq!(http.get(&path).await.1, made, "`updated_at` included");
}

#[tokio::test]
async fn bad_changes_are_refused() {
    let server = TestServer::start([]).await;
    let http = server.http();
    let path = format!("/v1/sessions/{}", http.session("kept").await);
    let made = http.get(&path).await.1;
    for (body, status, code) in [
        (json!({"title": "x".repeat(1_025)}), 400, "invalid_request"),
        (json!({"title": 1}), 422, "invalid_body"),
        (json!({"visibility": "public"}), 422, "invalid_body"),
        (json!({"visibility": "SECRET"}), 422, "invalid_body"),
    ] {
        let (refused, answer) = http.patch(&path, body).await;
        assert_eq!((refused, answer["code"].as_str()), (status, Some(code)), "{answer}");
    }
    let (status, _) = http.patch(&path, json!({"title": "ü".repeat(1_024)})).await;
    assert_eq!(status, 200, "characters count, not bytes");
    assert_eq!(http.patch(&path, json!({"title": "kept"})).await.1["session"]["title"], made["session"]["title"]);
    let unknown = http.patch("/v1/sessions/00000000-0000-4000-8000-000000000000", json!({})).await;
    assert_eq!((unknown.0, &unknown.1["code"]), (404, &json!("not_found")));
}

/// A change does not disturb the run, nor the folding of it after a crash.
#[tokio::test]
async fn a_session_is_changed_while_it_runs() {
    let call = || Step::Call(vec![("a", "stakpak__act", json!({}))]);
    let server = TestServer::start([call()]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    let path = format!("/v1/sessions/{}", run.session);
    let (status, changed) = run.http.patch(&path, json!({"title": "busy", "visibility": "PUBLIC"})).await;
    assert_eq!((status, &changed["session"]["title"]), (200, &json!("busy")));
    assert_eq!(changed["session"]["run_status"]["state"], "running");

    let server = TestServer::start_in(server.crash().await, [Step::Say("done")], AgentConfig::default()).await;
    let http = server.http();
    let decision = json!({"run_id": run.run, "decisions": {"a": {"action": "accept"}}});
    assert_eq!(http.post(&format!("{path}/tools/decisions"), decision).await.1["results"]["a"], "applied");
    let mut events = server.client().subscribe_events(&run.session, Some(0)).await.unwrap();
    while !events.next_event().await.unwrap().is_run_terminal() {}
    let (_, detail) = http.get(&path).await;
    let session = &detail["session"];
    assert_eq!((&session["title"], &session["visibility"]), (&json!("busy"), &json!("PUBLIC")));
    assert_eq!(session["run_status"], json!({"state": "idle"}));
    assert_eq!(session["message_count"], Value::from(5));
}
