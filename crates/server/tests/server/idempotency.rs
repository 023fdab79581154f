//! `Idempotency-Key` on every route that honours it: one effect, equal bytes, also after a restart.

use std::collections::HashMap;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use stakpak_agent_core::{AgentConfig, Record};

use crate::support::{Http, Running, Step, TestServer};

/// Of each route; P40.
const ROUNDS: usize = 500;

/// Status, body, and whether it was a replay.
type Answer = (u16, Vec<u8>, bool);

async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let replayed = response.headers().get("idempotency-replayed").is_some_and(|value| value == "true");
    (response.status().as_u16(), response.bytes().await.unwrap().to_vec(), replayed)
}

fn keyed(http: &Http, method: &Method, path: &str, key: &str, body: Option<&Value>) -> RequestBuilder {
    let request = http.request(method.clone(), path).header("idempotency-key", key);
    match body {
        Some(body) => request.json(body),
        None => request,
    }
}

/// The same request twice at once: one is the first, the other its replay, and both have the same bytes.
async fn twice(http: &Http, method: Method, path: &str, key: &str, body: Option<Value>) -> Answer {
    let request = || send(keyed(http, &method, path, key, body.as_ref()));
    let (one, other) = tokio::join!(request(), request());
    assert_eq!((one.0, &one.1), (other.0, &other.1), "{path}: equal status and bytes");
    assert!((200..300).contains(&one.0), "{path}: {} {}", one.0, String::from_utf8_lossy(&one.1));
    assert!(one.2 != other.2, "{path}: exactly one is a replay");
    one
}

/// What was answered to a key is answered again by the next process on the same journal, and to another body it is 409.
async fn replays_after_a_restart(server: TestServer, method: Method, path: &str, answered: &HashMap<String, Kept>) {
    let server = TestServer::start_in(server.crash().await, [], AgentConfig::default()).await;
    let http = server.http();
    for (key, Kept { body, status, bytes }) in answered {
        let again = send(keyed(&http, &method, path, key, body.as_ref())).await;
        assert_eq!(again, (*status, bytes.clone(), true), "{path} {key}");
        let Some(body) = body else { continue };
        let mut other = body.clone();
        for (name, value) in other.as_object_mut().unwrap() {
            match name.as_str() {
                "run_id" => *value = json!("00000000-0000-4000-8000-000000000009"),
                "title" | "model" => *value = json!("other"),
                _ => {}
            }
        }
        assert_ne!(other, *body, "the other body differs");
        let refused = send(keyed(&http, &method, path, key, Some(&other))).await;
        let error: Value = serde_json::from_slice(&refused.1).unwrap();
        assert_eq!((refused.0, &error["code"], refused.2), (409, &json!("idempotency_key_reused"), false), "{path}");
    }
}

/// A request that was answered.
struct Kept {
    body: Option<Value>,
    status: u16,
    bytes: Vec<u8>,
}

impl Kept {
    fn new(body: Option<Value>, (status, bytes, _): Answer) -> Self {
        Self { body, status, bytes }
    }
}

/// How many records of the session's last run, or of its whole life, are `wanted`.
async fn records(server: &TestServer, session: &str, wanted: impl Fn(&Record) -> bool) -> usize {
    let rows = server.journal.control_rows(session.parse().unwrap(), 0, u64::MAX).await.unwrap();
    rows.iter().filter(|row| wanted(&Record::from_row(row).unwrap())).count()
}

/// A run whose call or answer is awaited for ever.
async fn waiting_run(server: &TestServer) -> Running {
    let mut run = server.run("go", json!("none")).await;
    run.until("turn_started").await;
    run
}

/// P40, P41: POST sessions.
#[tokio::test]
async fn create_happens_once() {
    let server = TestServer::start([]).await;
    let http = server.http();
    let mut answered = HashMap::new();
    for round in 0..ROUNDS {
        let (key, body) = (format!("k{round}"), json!({"title": format!("round {round}")}));
        let answer = twice(&http, Method::POST, "/v1/sessions", &key, Some(body.clone())).await;
        assert_eq!(answer.0, 201);
        answered.insert(key, Kept::new(Some(body), answer));
    }
    assert_eq!(http.get("/v1/sessions?limit=0").await.1["total"], ROUNDS);
    answered.retain(|key, _| key.ends_with("77"));
    replays_after_a_restart(server, Method::POST, "/v1/sessions", &answered).await;
}

/// P40, P41: PATCH.
#[tokio::test]
async fn update_happens_once() {
    let server = TestServer::start([]).await;
    let http = server.http();
    let session = http.session("x").await;
    let path = format!("/v1/sessions/{session}");
    let mut answered = HashMap::new();
    for round in 0..ROUNDS {
        let (key, body) = (format!("k{round}"), json!({"title": format!("round {round}"), "visibility": null}));
        let answer = twice(&http, Method::PATCH, &path, &key, Some(body.clone())).await;
        answered.insert(key, Kept::new(Some(body), answer));
    }
    let changes = records(&server, &session, |record| matches!(record, Record::SessionChanged { .. })).await;
    assert_eq!(changes, ROUNDS);
    answered.retain(|key, _| key.ends_with("77"));
    replays_after_a_restart(server, Method::PATCH, &path, &answered).await;
}

/// P40, P41: DELETE replays an empty 204, also when its session is gone for writers.
#[tokio::test]
async fn delete_happens_once() {
    let server = TestServer::start([]).await;
    let http = server.http();
    let mut last = String::new();
    for round in 0..ROUNDS {
        let session = http.session("x").await;
        last = format!("/v1/sessions/{session}");
        let answer = twice(&http, Method::DELETE, &last, &format!("k{round}"), None).await;
        assert_eq!((answer.0, answer.1.len()), (204, 0));
        let deletions = records(&server, &session, |record| matches!(record, Record::SessionDeleted { .. })).await;
        assert_eq!(deletions, 1);
    }
    let kept = Kept { body: None, status: 204, bytes: Vec::new() };
    let answered = HashMap::from([(format!("k{}", ROUNDS - 1), kept)]);
    replays_after_a_restart(server, Method::DELETE, &last, &answered).await;
}

/// P40, P41: POST messages; the replay of the first run's key neither starts a run nor is refused while another is active.
#[tokio::test]
async fn a_message_is_accepted_once() {
    let server = TestServer::start((0..ROUNDS).map(|_| Step::Say("once"))).await;
    let mut run = server.run("first", json!("none")).await;
    run.finish().await;
    let path = format!("/v1/sessions/{}/messages", run.session);
    let mut answered = HashMap::new();
    for round in 1..ROUNDS {
        let body = json!({"message": {"role": "user", "content": format!("round {round}")}, "model": "scripted"});
        let key = format!("k{round}");
        let answer = twice(&run.http, Method::POST, &path, &key, Some(body.clone())).await;
        run.finish().await;
        answered.insert(key, Kept::new(Some(body), answer));
    }
    assert_eq!(server.model.requests.lock().unwrap().len(), ROUNDS);
    let runs = records(&server, &run.session, |record| matches!(record, Record::RunAccepted(_))).await;
    assert_eq!(runs, ROUNDS);
    answered.retain(|key, _| key.ends_with("77"));
    replays_after_a_restart(server, Method::POST, &path, &answered).await;
}

/// P40, P41: POST model.
#[tokio::test]
async fn a_model_switch_happens_once() {
    let server = TestServer::start([Step::Silence]).await;
    let run = waiting_run(&server).await;
    let path = format!("/v1/sessions/{}/model", run.session);
    let mut answered = HashMap::new();
    for round in 0..ROUNDS {
        let model = if round % 2 == 0 { "test/other" } else { "test/scripted" };
        let (key, body) = (format!("k{round}"), json!({"run_id": run.run, "model": model}));
        let answer = twice(&run.http, Method::POST, &path, &key, Some(body.clone())).await;
        answered.insert(key, Kept::new(Some(body), answer));
    }
    let switches = records(&server, &run.session, |record| matches!(record, Record::ModelSwitched { .. })).await;
    assert_eq!(switches, ROUNDS);
    answered.retain(|key, _| key.ends_with("77"));
    replays_after_a_restart(server, Method::POST, &path, &answered).await;
}

/// P40, P41: POST cancel; the run has ended, and the replay says so again.
#[tokio::test]
async fn a_cancel_happens_once() {
    let server = TestServer::start((0..ROUNDS).map(|_| Step::Silence)).await;
    let http = server.http();
    let session = http.session("x").await;
    let path = format!("/v1/sessions/{session}/cancel");
    let mut answered = HashMap::new();
    for round in 0..ROUNDS {
        let message = json!({"message": {"role": "user", "content": "go"}});
        let (status, posted) = http.post(&format!("/v1/sessions/{session}/messages"), message).await;
        assert_eq!(status, 200, "{posted}");
        let (key, body) = (format!("k{round}"), json!({"run_id": posted["run_id"]}));
        let answer = twice(&http, Method::POST, &path, &key, Some(body.clone())).await;
        answered.insert(key, Kept::new(Some(body), answer));
    }
    let ends = records(&server, &session, |record| matches!(record, Record::RunEnded { .. })).await;
    assert_eq!(ends, ROUNDS);
    answered.retain(|key, _| key.ends_with("77"));
    replays_after_a_restart(server, Method::POST, &path, &answered).await;
}

/// Calls that wait for a person, one a round.
fn calls(count: usize) -> Step {
    let id = |n: usize| -> &'static str { Box::leak(format!("call_{n}").into_boxed_str()) };
    Step::Call((0..count).map(|n| (id(n), "stakpak__act", json!({}))).collect())
}

/// P40, P41: POST decision; `applied` is said both times.
#[tokio::test]
async fn a_decision_counts_once() {
    let server = TestServer::start([calls(ROUNDS + 1)]).await;
    let run = waiting_run(&server).await;
    let mut last = (String::new(), HashMap::new());
    for round in 0..ROUNDS {
        let path = format!("/v1/sessions/{}/tools/call_{round}/decision", run.session);
        let body = json!({"run_id": run.run, "action": "reject", "content": "no"});
        let answer = twice(&run.http, Method::POST, &path, "k", Some(body.clone())).await;
        let results = serde_json::from_slice::<Value>(&answer.1).unwrap()["results"].clone();
        assert_eq!(results, json!({format!("call_{round}"): "applied"}));
        last = (path, HashMap::from([("k".to_owned(), Kept::new(Some(body), answer))]));
    }
    let decided = records(&server, &run.session, |record| matches!(record, Record::Decided { .. })).await;
    assert_eq!(decided, ROUNDS);
    replays_after_a_restart(server, Method::POST, &last.0, &last.1).await;
}

/// P40, P41: POST decisions and its alias, which are one path.
#[tokio::test]
async fn decisions_count_once() {
    let server = TestServer::start([calls(ROUNDS + 1)]).await;
    let run = waiting_run(&server).await;
    let path = format!("/v1/sessions/{}/tools/decisions", run.session);
    let alias = format!("/v1/sessions/{}/tools/resolve", run.session);
    let mut answered = HashMap::new();
    for round in 0..ROUNDS {
        let key = format!("k{round}");
        let body = json!({"run_id": run.run, "decisions": {format!("call_{round}"): {"action": "reject"}}});
        let request = |path| send(keyed(&run.http, &Method::POST, path, &key, Some(&body)));
        let (one, other) = tokio::join!(request(&path), request(&alias));
        assert_eq!((one.0, &one.1), (200, &other.1));
        assert!(one.2 != other.2, "exactly one is a replay");
        answered.insert(key, Kept::new(Some(body), one));
    }
    let decided = records(&server, &run.session, |record| matches!(record, Record::Decided { .. })).await;
    assert_eq!(decided, ROUNDS);
    answered.retain(|key, _| key.ends_with("77"));
    replays_after_a_restart(server, Method::POST, &alias, &answered).await;
}

/// P42: a batch of 20 decisions resent with another key order, other formatting, unknown fields and nulls is a replay.
#[tokio::test]
async fn a_batch_in_another_order_is_a_replay() {
    let server = TestServer::start([calls(21)]).await;
    let run = waiting_run(&server).await;
    let path = format!("/v1/sessions/{}/tools/decisions", run.session);
    let post = |body: String| {
        let request = run.http.request(Method::POST, &path).header("idempotency-key", "k");
        send(request.header("content-type", "application/json").body(body))
    };
    let decisions = |order: Vec<usize>, end: &str| {
        let each: Vec<_> = order.iter().map(|n| format!(r#""call_{n}":{{"action":"reject"{end}}}"#)).collect();
        each.join(",")
    };
    let first = format!(r#"{{"run_id":"{}","decisions":{{{}}}}}"#, run.run, decisions((0..20).collect(), ""));
    let end = r#" , "content":null, "x": [1]"#;
    let second =
        format!("{{\n \"decisions\" : {{ {} }}, \"run_id\":\"{}\"}}", decisions((0..20).rev().collect(), end), run.run);
    let first = post(first).await;
    assert_eq!((first.0, first.2), (200, false), "{}", String::from_utf8_lossy(&first.1));
    assert_eq!(post(second).await, (200, first.1, true));
}

/// P43: a failed request does not consume its key, whatever failed it.
#[tokio::test]
async fn a_failure_leaves_the_key_free() {
    let server = TestServer::start([calls(1), Step::Say("done")]).await;
    let http = server.http();
    let session = http.session("x").await;
    let path = format!("/v1/sessions/{session}");
    let nobody = "/v1/sessions/00000000-0000-4000-8000-000000000000";
    let run = json!("00000000-0000-4000-8000-000000000009");
    let unknown_run =
        json!({"run_id": run, "model": "other", "action": "accept", "decisions": {"call_0": {"action": "accept"}}});
    let message = json!({"message": {"role": "user", "content": "go"}});
    for (method, path, body, status) in [
        (Method::POST, "/v1/sessions".to_owned(), json!({"title": "x".repeat(1_025)}), 400),
        (Method::PATCH, path.clone(), json!({"title": "x".repeat(1_025)}), 400),
        (Method::PATCH, nobody.to_owned(), json!({"title": "x"}), 404),
        (Method::DELETE, nobody.to_owned(), Value::Null, 404),
        (Method::POST, format!("{nobody}/messages"), message.clone(), 404),
        (Method::POST, format!("{path}/messages"), json!({"message": {"role": "tool", "content": "go"}}), 400),
        (Method::POST, format!("{path}/cancel"), unknown_run.clone(), 409),
        (Method::POST, format!("{path}/model"), unknown_run.clone(), 409),
        (Method::POST, format!("{path}/tools/decisions"), unknown_run.clone(), 409),
        (Method::POST, format!("{path}/tools/call_0/decision"), unknown_run, 409),
    ] {
        for _ in 0..2 {
            let answer = send(keyed(&http, &method, &path, "k", Some(&body))).await;
            assert_eq!((answer.0, answer.2), (status, false), "{method} {path}");
        }
    }

    // And then succeed under the same key.
    let posted = send(keyed(&http, &Method::POST, &format!("{path}/messages"), "k", Some(&message))).await;
    let run = serde_json::from_slice::<Value>(&posted.1).unwrap()["run_id"].clone();
    for (method, path, body) in [
        (Method::POST, "/v1/sessions".to_owned(), json!({"title": "x"})),
        (Method::PATCH, path.clone(), json!({"title": "y"})),
        (Method::POST, format!("{path}/model"), json!({"run_id": run, "model": "other"})),
        (Method::POST, format!("{path}/cancel"), json!({"run_id": run})),
        (Method::DELETE, path.clone(), Value::Null),
    ] {
        let answer = send(keyed(&http, &method, &path, "k", Some(&body))).await;
        assert!((200..300).contains(&answer.0) && !answer.2, "{method} {path}: {answer:?}");
    }
}

/// A replay is looked up before the session is: what was answered to a session that is deleted now is answered again.
#[tokio::test]
async fn a_deleted_session_still_replays() {
    let server = TestServer::start([Step::Silence]).await;
    let http = server.http();
    let path = format!("/v1/sessions/{}", http.session("x").await);
    let message = json!({"message": {"role": "user", "content": "go"}});
    let posted = send(keyed(&http, &Method::POST, &format!("{path}/messages"), "k", Some(&message))).await;
    let run = serde_json::from_slice::<Value>(&posted.1).unwrap()["run_id"].clone();
    let mut requests = vec![(Method::POST, format!("{path}/messages"), Some(message), posted)];
    for (method, path, body) in [
        (Method::PATCH, path.clone(), Some(json!({"title": "y"}))),
        (Method::POST, format!("{path}/cancel"), Some(json!({"run_id": run}))),
        (Method::DELETE, path.clone(), None),
    ] {
        let answer = send(keyed(&http, &method, &path, "k", body.as_ref())).await;
        requests.push((method, path, body, answer));
    }
    for (method, path, body, (status, bytes, replayed)) in requests {
        assert!((200..300).contains(&status) && !replayed, "{method} {path}");
        let again = send(keyed(&http, &method, &path, "k", body.as_ref())).await;
        assert_eq!(again, (status, bytes, true), "{method} {path}");
    }
}
