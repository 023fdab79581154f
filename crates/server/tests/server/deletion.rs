//! Deleting a session: its run ends, its streams end, it takes no writes, and it can still be read.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use stakpak_agent_core::{AgentConfig, ErrorClass, ModelError};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::support::{Http, Step, TestServer};

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// Reads the session's stream to its end.
fn stream(http: &Http, session: &str, query: &str) -> JoinHandle<String> {
    let request = http.request(Method::GET, &format!("/v1/sessions/{session}/events{query}"));
    tokio::spawn(async move {
        let read = async { request.send().await.unwrap().text().await.unwrap() };
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("the stream ends")
    })
}

fn names(stream: &str) -> Vec<&str> {
    stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect()
}

/// What a run does when its session is deleted, and the event that tells that it is there.
fn states() -> Vec<(&'static str, Vec<Step>, Value, &'static str)> {
    let act = |gated: bool| Step::Call(vec![("a", "stakpak__act", json!({"gated": gated}))]);
    let overloaded = ModelError::new(ErrorClass::Overloaded, "test: 529 overloaded");
    let gate = Arc::new(Semaphore::new(0));
    vec![
        ("the model is silent", vec![Step::Silence], json!("none"), "turn_started"),
        ("text is streamed", vec![Step::SayGated(vec!["a", "b"], gate)], json!("none"), "text_delta"),
        ("a retry is waited for", vec![Step::Fail(overloaded)], json!("none"), "retry_attempt"),
        ("a call waits for a person", vec![act(false)], json!("none"), "waiting_for_tool_approval"),
        ("a call runs", vec![act(true)], json!("all"), "tool_execution_started"),
    ]
}

/// P6: in each state of a run, before the 204 the run has ended as cancelled and its terminal event is out; streams get
/// that, then `session_deleted`, and end; nothing of the run goes on.
#[tokio::test]
async fn a_deletion_ends_run_and_streams_in_every_state() {
    for (state, steps, approve, reached) in states() {
        let config = AgentConfig { backoff: Duration::from_secs(60), ..AgentConfig::default() };
        let server = TestServer::start_in(Arc::new(tempfile::tempdir().unwrap()), steps, config).await;
        let mut run = server.run("go", approve).await;
        run.until(reached).await;
        let path = format!("/v1/sessions/{}", run.session);
        let streams = [stream(&run.http, &run.session, "?after=0"), stream(&run.http, &run.session, "?after=1")];

        assert_eq!(run.http.delete(&path).await, (204, Value::Null), "{state}");

        let (_, detail) = run.http.get(&path).await;
        assert_eq!(detail["session"]["status"], "DELETED", "{state}");
        assert_eq!(detail["session"]["run_status"], json!({"state": "idle"}), "{state}");
        let (_, record) = run.http.get(&format!("{path}/runs/{}", run.run)).await;
        assert_eq!((&record["state"], &record["stop_reason"]), (&json!("cancelled"), &json!("cancelled")), "{state}");
        assert_eq!(run.http.get("/v1/runs?state=active").await.1, json!({"runs": [], "total": 0}), "{state}");
        for stream in streams {
            let text = stream.await.unwrap();
            let names = names(&text);
            assert_eq!(names[names.len() - 2..], ["run_completed", "session_deleted"], "{state}");
            assert_eq!(names.iter().filter(|name| **name == "run_completed").count(), 1, "{state}");
            let control = format!("event: session_deleted\ndata: {{\"session_id\":\"{}\"}}\n\n", run.session);
            assert!(text.ends_with(&control), "{state}: {text}");
        }
        assert_eq!(run.finish().await.last().unwrap().event.name(), "run_completed", "{state}");
        assert_eq!(run.events.next_event().await.map(|event| event.event_type).as_deref(), Some("session_deleted"));
        assert!(run.events.next_event().await.is_none(), "{state}");
        let gone = async {
            while server.server.live_sessions() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("nothing of the run is left");
    }
}

/// P34: a deleted session takes no write, a second DELETE is 204, an unknown id 404, and lists leave it out unless asked.
#[tokio::test]
async fn a_deleted_session_takes_no_write_and_can_be_read() {
    let server = TestServer::start([Step::Say("hello")]).await;
    let mut run = server.run("hi", json!("none")).await;
    run.finish().await;
    let (http, path) = (&run.http, format!("/v1/sessions/{}", run.session));
    let before = http.get(&format!("{path}/messages")).await;
    assert_eq!(http.delete(&path).await.0, 204);
    let deleted = http.get(&path).await.1;

    let named = json!({"run_id": run.run, "model": "test/other", "action": "accept", "decisions": {}});
    let message = json!({"message": {"role": "user", "content": "again"}});
    let steering = json!({"message": {"role": "user", "content": "x"}, "type": "steering", "run_id": run.run});
    for (end, body) in [
        ("messages", &message),
        ("messages", &steering),
        ("cancel", &named),
        ("model", &named),
        ("tools/decisions", &named),
        ("tools/resolve", &named),
        ("tools/a/decision", &named),
    ] {
        let (status, answer) = http.post(&format!("{path}/{end}"), body.clone()).await;
        assert_eq!((status, &answer["code"]), (404, &json!("not_found")), "{end}: {answer}");
    }
    for body in [json!({}), json!({"title": "new"})] {
        let (status, answer) = http.patch(&path, body).await;
        assert_eq!((status, &answer["code"]), (404, &json!("not_found")));
    }
    for _ in 0..2 {
        assert_eq!(http.delete(&path).await, (204, Value::Null));
    }
    assert_eq!(http.get(&path).await.1, deleted, "nothing was recorded");
    assert_eq!(http.get(&format!("{path}/messages")).await, before);
    assert_eq!(http.get(&format!("{path}/tools/pending")).await.0, 200);

    let (status, answer) = http.delete(&format!("/v1/sessions/{NOBODY}")).await;
    assert_eq!((status, &answer["code"]), (404, &json!("not_found")));
    for (query, total) in [("", 0), ("?status=active", 0), ("?status=deleted", 1), ("?status=all", 1)] {
        assert_eq!(http.get(&format!("/v1/sessions{query}")).await.1["total"], total, "{query}");
    }
}

/// A stream that is opened afterwards replays what there is, says that the session is deleted, and ends.
#[tokio::test]
async fn streams_of_a_deleted_session_end() {
    let server = TestServer::start([Step::Say("hello")]).await;
    let mut run = server.run("hi", json!("none")).await;
    run.finish().await;
    assert_eq!(run.http.delete(&format!("/v1/sessions/{}", run.session)).await.0, 204);
    for (query, first) in [("?after=0", "run_started"), ("", "session_deleted"), ("?after=9999", "gap_detected")] {
        let text = stream(&run.http, &run.session, query).await.unwrap();
        let names = names(&text);
        assert_eq!((names[0], names[names.len() - 1]), (first, "session_deleted"), "{query}: {names:?}");
    }
}

#[tokio::test]
async fn a_session_stays_deleted_after_a_crash() {
    let server = TestServer::start([Step::Silence]).await;
    let mut run = server.run("hi", json!("none")).await;
    run.until("turn_started").await;
    assert_eq!(run.http.delete(&format!("/v1/sessions/{}", run.session)).await.0, 204);
    let server = TestServer::start_in(server.crash().await, [], AgentConfig::default()).await;
    let http = server.http();
    let (_, detail) = http.get(&format!("/v1/sessions/{}", run.session)).await;
    assert_eq!(detail["session"]["status"], "DELETED");
    assert_eq!(http.patch(&format!("/v1/sessions/{}", run.session), json!({"title": "x"})).await.0, 404);
    assert_eq!(http.get("/v1/runs").await.1["total"], 0);
    assert!(server.model.requests.lock().unwrap().is_empty(), "the model is not asked again");
}

/// Whichever comes first wins: a message is either part of the deleted history or refused, and no run is left.
#[tokio::test]
async fn a_message_and_a_deletion_at_once_leave_no_run() {
    let server = TestServer::start((0..100).map(|_| Step::Silence)).await;
    let http = server.http();
    for _ in 0..100 {
        let session = http.session("x").await;
        let path = format!("/v1/sessions/{session}");
        let messages = format!("{path}/messages");
        let body = json!({"message": {"role": "user", "content": "go"}});
        let ((posted, answer), (deleted, _)) = tokio::join!(http.post(&messages, body), http.delete(&path));
        assert_eq!(deleted, 204);
        assert!(posted == 200 || (posted, &answer["code"]) == (404, &json!("not_found")), "{posted} {answer}");
        let (_, detail) = http.get(&path).await;
        assert_eq!(detail["session"]["status"], "DELETED");
        assert_eq!(detail["session"]["run_status"], json!({"state": "idle"}));
    }
    assert_eq!(http.get("/v1/runs").await.1["total"], 0);
}

/// P6: a run that is still queued ends too, and the one it waited for goes on.
#[tokio::test]
async fn a_deletion_ends_a_queued_run() {
    let config = AgentConfig { active_runs: 1, ..AgentConfig::default() };
    let steps = [Step::Silence, Step::Say("never asked")];
    let server = TestServer::start_in(Arc::new(tempfile::tempdir().unwrap()), steps, config).await;
    let mut first = server.run("first", json!("none")).await;
    first.until("turn_started").await;
    let mut queued = server.run("queued", json!("none")).await;
    queued.until("run_started").await;
    let path = format!("/v1/sessions/{}", queued.session);
    let is_queued = async { while queued.http.get(&path).await.1["session"]["run_status"]["state"] != "starting" {} };
    tokio::time::timeout(Duration::from_secs(20), is_queued).await.expect("the run is queued");
    let (_, runs) = queued.http.get("/v1/runs?state=active").await;
    let states: Vec<_> = runs["runs"].as_array().unwrap().iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert_eq!((states, &runs["total"]), (vec!["running", "queued"], &json!(2)));
    let (_, changed) = queued.http.patch(&path, json!({"title": "soon gone"})).await;
    assert_eq!(changed["session"]["run_status"]["state"], "starting", "a change does not start it");

    let stream = stream(&queued.http, &queued.session, "?after=0");
    assert_eq!(queued.http.delete(&path).await.0, 204);

    assert_eq!(names(&stream.await.unwrap()), ["run_started", "run_completed", "session_deleted"]);
    let (_, runs) = first.http.get("/v1/runs").await;
    assert_eq!((&runs["runs"][0]["run_id"], &runs["total"]), (&json!(first.run), &json!(1)));
    assert_eq!(server.model.requests.lock().unwrap().len(), 1);
}
