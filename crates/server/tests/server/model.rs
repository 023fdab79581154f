//! Switching the model of a run.

use serde_json::json;
use stakpak_agent_core::AgentConfig;

use crate::support::{OTHER_OUTPUT, Running, Step, TestServer};

fn waiting_call() -> Step {
    Step::Call(vec![("a", "stakpak__act", json!({}))])
}

async fn switch(run: &Running, model: &str) -> (u16, serde_json::Value) {
    let body = json!({"run_id": run.run, "model": model});
    run.http.post(&format!("/v1/sessions/{}/model", run.session), body).await
}

/// The output limits that requests so far were sent with.
fn limits(server: &TestServer) -> Vec<Option<u64>> {
    server.model.requests.lock().unwrap().iter().map(|request| request.max_output_tokens).collect()
}

/// P20: from the next request on, with the new model's output limit; the session keeps it, and the run says nothing of it.
#[tokio::test]
async fn a_switch_counts_from_the_next_request_and_outlives_the_run() {
    let server = TestServer::start([waiting_call(), Step::Say("done"), Step::Say("next")]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    for name in ["other", "test/other"] {
        let (status, answer) = switch(&run, name).await;
        assert_eq!(status, 200);
        assert_eq!(answer, json!({"accepted": true, "run_id": run.run, "model": "test/other"}));
    }
    run.decide("a", "accept").await;
    run.finish().await;
    let path = format!("/v1/sessions/{}", run.session);
    assert_eq!(run.http.get(&path).await.1["session"]["model"], "test/other");
    server.run_in(&run.session, "again", json!("none")).await.finish().await;
    let limits = limits(&server);
    assert_ne!(limits[0], Some(OTHER_OUTPUT));
    assert_eq!(limits[1..], [Some(OTHER_OUTPUT); 2]);
    assert_eq!(run.http.get("/v1/config").await.1["default_model"], "test/scripted", "of this session only");
}

/// P20 after a crash: a switch that was answered 200 holds.
#[tokio::test]
async fn a_switch_survives_a_crash() {
    let server = TestServer::start([waiting_call()]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    assert_eq!(switch(&run, "other").await.0, 200);
    let server = TestServer::start_in(server.crash().await, [Step::Say("done")], AgentConfig::default()).await;
    let decision = json!({"run_id": run.run, "action": "accept"});
    let http = server.http();
    assert_eq!(http.post(&format!("/v1/sessions/{}/tools/a/decision", run.session), decision).await.0, 200);
    let mut events = server.client().subscribe_events(&run.session, Some(0)).await.unwrap();
    while !events.next_event().await.unwrap().is_run_terminal() {}
    assert_eq!(limits(&server), [Some(OTHER_OUTPUT)]);
    assert_eq!(http.get(&format!("/v1/sessions/{}", run.session)).await.1["session"]["model"], "test/other");
}

/// P15: a typo is 400 before anything else is looked at, and changes nothing; then the table of conflicts.
#[tokio::test]
async fn a_switch_is_checked() {
    let server = TestServer::start([waiting_call(), Step::Say("done")]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    let path = format!("/v1/sessions/{}/model", run.session);
    let other_run = "00000000-0000-4000-8000-000000000001";
    let cases = [
        (json!({"run_id": run.run, "model": "othr"}), 400, "invalid_model"),
        (json!({"run_id": other_run, "model": "othr"}), 400, "invalid_model"),
        (json!({"run_id": other_run, "model": "other"}), 409, "run_mismatch"),
        (json!({"model": "other"}), 422, "invalid_body"),
        (json!({"run_id": run.run}), 422, "invalid_body"),
        (json!({"run_id": "x", "model": "other"}), 422, "invalid_body"),
    ];
    for (body, status, code) in cases {
        let (refused, answer) = run.http.post(&path, body).await;
        assert_eq!((refused, answer["code"].as_str()), (status, Some(code)), "{answer}");
    }
    run.decide("a", "accept").await;
    run.finish().await;
    assert_ne!(limits(&server)[1], Some(OTHER_OUTPUT));
    let (status, answer) = switch(&run, "other").await;
    assert_eq!((status, &answer["code"]), (409, &json!("session_not_running")));
    let nobody = path.replace(&run.session, other_run);
    assert_eq!(run.http.post(&nobody, json!({"run_id": run.run, "model": "othr"})).await.0, 404);
}
