//! Runs: order of events, cancel in every state, every way out, conflicts.

use std::{sync::Arc, time::Duration};

use crate::support::{Step, TestServer, names};
use serde_json::json;
use stakpak_agent_core::{AgentConfig, ErrorClass, ModelError};
use stakpak_protocol::Event;
use tokio::sync::Semaphore;

#[tokio::test]
async fn events_of_a_run_with_a_call_come_in_order() {
    let calls = vec![("a", "stakpak__look", json!({}))];
    let server = TestServer::start([Step::Call(calls), Step::Say("it is done")]).await;
    let mut run = server.run("go", json!("all")).await;
    let events = run.finish().await;
    let mut order = names(&events);
    order.dedup();
    assert_eq!(
        order,
        [
            "run_started",
            "turn_started",
            "usage_report",
            "tool_calls_proposed",
            "tool_execution_started",
            "tool_execution_completed",
            "turn_completed",
            "turn_started",
            "text_delta",
            "text_complete",
            "usage_report",
            "turn_completed",
            "run_completed"
        ]
    );
    assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(events[0].id.0, 1, "ids start at 1");
    let Event::RunCompleted { total_turns, total_usage, .. } = &events.last().unwrap().event else { panic!() };
    assert_eq!((*total_turns, total_usage.total_tokens), (2, 34));
    let (_, record) = run.http.get(&format!("/v1/sessions/{}/runs/{}", run.session, run.run)).await;
    assert_eq!(
        (&record["state"], &record["stop_reason"], &record["turns"]),
        (&json!("completed"), &json!("completed"), &json!(2))
    );
    assert_eq!(record["last_event_id"], json!(events.last().unwrap().id));
}

/// P30: the first `text_delta` arrives while the model is still sending; the deltas joined equal `text_complete`.
#[tokio::test]
async fn text_streams_while_the_model_sends() {
    let gate = Arc::new(Semaphore::new(0));
    let server = TestServer::start([Step::SayGated(vec!["one ", "zwei \u{1F600} ", "trois"], gate.clone())]).await;
    let mut run = server.run("go", json!("none")).await;
    let first = run.until("text_delta").await;
    let Event::TextDelta { delta, .. } = &first.last().unwrap().event else { panic!() };
    assert_eq!(delta, "one ");
    gate.add_permits(2);
    let rest = run.finish().await;
    let joined: String = first
        .iter()
        .chain(&rest)
        .filter_map(|envelope| match &envelope.event {
            Event::TextDelta { delta, .. } => Some(delta.as_str()),
            _ => None,
        })
        .collect();
    let complete = rest.iter().find_map(|envelope| match &envelope.event {
        Event::TextComplete { text, .. } => Some(text.clone()),
        _ => None,
    });
    assert_eq!(Some(joined), complete);
}

/// P11: whoever posts on receipt of the terminal event is never refused, and finds the final answer.
#[tokio::test]
async fn a_post_on_the_terminal_event_is_never_refused() {
    const ROUNDS: usize = 1_000;
    let server = TestServer::start((0..ROUNDS).map(|_| Step::Say("an answer"))).await;
    let mut run = server.run("first", json!("none")).await;
    for round in 1..ROUNDS {
        run.finish().await;
        let (_, last) = run.http.get(&format!("/v1/sessions/{}/messages?offset={}", run.session, round * 2)).await;
        assert_eq!(last["messages"][0]["content"][0]["text"], "an answer", "round {round}: {last}");
        let body = json!({"message": {"role": "user", "content": "again"}});
        let (status, posted) = run.http.post(&format!("/v1/sessions/{}/messages", run.session), body).await;
        assert_eq!(status, 200, "round {round}: {posted}");
    }
}

/// P24: the stream from the cursor of a POST begins with `run_started`, however late it is opened.
#[tokio::test]
async fn a_stream_from_the_posts_cursor_begins_with_run_started() {
    let server = TestServer::start([Step::Say("one"), Step::Say("two")]).await;
    let mut first = server.run("one", json!("none")).await;
    first.finish().await;
    let body = json!({"message": {"role": "user", "content": "two"}});
    let (_, posted) = first.http.post(&format!("/v1/sessions/{}/messages", first.session), body).await;
    first.finish().await;
    let mut late = server.client().subscribe_events(&first.session, posted["cursor"].as_u64()).await.unwrap();
    let event = late.next_event().await.unwrap().envelope().unwrap();
    assert_eq!(event.event.name(), "run_started");
    assert_eq!(json!(event.run_id), posted["run_id"]);
}

/// C-P4: cancel in each state brings the terminal event; the session then takes the next message.
#[tokio::test]
async fn cancel_ends_the_run_in_every_state() {
    let gated = || vec![("a", "stakpak__act", json!({"gated": true}))];
    let slow = Arc::new(Semaphore::new(0));
    let unreachable = ModelError::new(ErrorClass::Overloaded, "test: 529");
    let states = [
        ("model silent", Step::Silence, "turn_started", json!("all")),
        ("model streaming", Step::SayGated(vec!["a ", "b"], slow), "text_delta", json!("all")),
        ("tool running", Step::Call(gated()), "tool_execution_started", json!("all")),
        ("approval waiting", Step::Call(gated()), "waiting_for_tool_approval", json!("none")),
        ("back-off", Step::Fail(unreachable), "retry_attempt", json!("all")),
    ];
    for (state, step, reached, approve) in states {
        let server = TestServer::start([step, Step::Say("after")]).await;
        let mut run = server.run("go", approve).await;
        run.until(reached).await;
        let asked = std::time::Instant::now();
        assert_eq!(run.cancel().await.0, 200, "{state}");
        let end = run.finish().await;
        assert!(asked.elapsed() < Duration::from_secs(1), "{state}: {:?}", asked.elapsed());
        let Event::RunCompleted { stop_reason, .. } = &end.last().unwrap().event else { panic!("{state}: {end:?}") };
        assert_eq!(json!(stop_reason), json!("cancelled"), "{state}");
        assert_eq!(server.model.requests.lock().unwrap().len(), 1, "{state}: nothing is asked after a cancel");
        server.run_in(&run.session, "next", json!("none")).await.finish().await;
        let view = serde_json::to_string(&server.model.requests.lock().unwrap()[1].messages).unwrap();
        let expected = usize::from(state.contains("tool") || state.contains("approval"));
        assert_eq!(view.matches("TOOL_CALL_CANCELLED").count(), expected, "{state}: {view}");
    }
}

#[tokio::test]
async fn a_failing_model_ends_in_one_run_error() {
    let refused = ModelError::new(ErrorClass::Auth, "test: 401 key refused");
    for step in [Step::Fail(refused), Step::Panic] {
        let server = TestServer::start([step, Step::Say("after")]).await;
        let mut run = server.run("go", json!("none")).await;
        let events = run.finish().await;
        assert_eq!(names(&events), ["run_started", "turn_started", "turn_completed", "run_error"]);
        let (_, detail) = run.http.get(&format!("/v1/sessions/{}", run.session)).await;
        assert_eq!(detail["session"]["run_status"]["state"], "failed", "{detail}");
        assert_eq!(detail["session"]["run_status"]["last_error"]["code"], "provider_error");
        server.run_in(&run.session, "next", json!("none")).await.finish().await;
    }
}

#[tokio::test]
async fn a_retry_waits_as_long_as_the_provider_asks() {
    let busy = |retry_after| ModelError { retry_after, ..ModelError::new(ErrorClass::RateLimited, "test: 429") };
    let config = AgentConfig { backoff: Duration::from_millis(1), ..AgentConfig::default() };
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let steps = [
        Step::Fail(busy(Some(Duration::from_millis(300)))),
        Step::Say("there"),
        Step::Fail(busy(Some(Duration::from_secs(3600)))),
    ];
    let server = TestServer::start_in(directory, steps, config).await;
    let mut run = server.run("go", json!("none")).await;
    let events = run.finish().await;
    let delay = events.iter().find_map(|envelope| match &envelope.event {
        Event::RetryAttempt { delay_ms, attempt, .. } => Some((*attempt, *delay_ms)),
        _ => None,
    });
    assert_eq!(delay, Some((1, 300)));
    let mut refused = server.run("again", json!("none")).await;
    let events = refused.finish().await;
    let Event::RunError { error, retryable, .. } = &events.last().unwrap().event else { panic!("{events:?}") };
    assert!(error.contains("3600 s") && *retryable, "{error}");
}

#[tokio::test]
async fn a_busy_session_refuses_the_second_message() {
    let server = TestServer::start([Step::Silence]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("turn_started").await;
    let path = format!("/v1/sessions/{}/messages", run.session);
    let message = json!({"role": "user", "content": "me too"});
    let other = "00000000-0000-4000-8000-000000000000";
    for (run_id, code) in [
        (json!(null), "session_already_running"),
        (json!(run.run), "session_already_running"),
        (json!(other), "run_mismatch"),
    ] {
        let (status, body) = run.http.post(&path, json!({"message": message, "run_id": run_id})).await;
        assert_eq!((status, body["code"].as_str().unwrap()), (409, code));
    }
    let (status, body) = run.http.post(&path, json!({"message": message, "type": "follow_up", "run_id": other})).await;
    assert_eq!((status, body["code"].as_str().unwrap()), (409, "run_mismatch"));
    run.cancel().await;
    run.finish().await;
    let (status, body) =
        run.http.post(&path, json!({"message": message, "type": "follow_up", "run_id": run.run})).await;
    assert_eq!((status, body["code"].as_str().unwrap()), (409, "session_not_running"));
    let (status, body) = run.cancel().await;
    assert_eq!((status, body["code"].as_str().unwrap()), (409, "session_not_running"));
}

#[tokio::test]
async fn a_follow_up_is_used_and_steering_skips_calls() {
    let gate = Arc::new(Semaphore::new(0));
    let calls = vec![("a", "stakpak__act", json!({}))];
    let steps = [Step::SayGated(vec!["first ", "answer"], gate.clone()), Step::Call(calls), Step::Say("as you wish")];
    let server = TestServer::start(steps).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("text_delta").await;
    let path = format!("/v1/sessions/{}/messages", run.session);
    let send = |kind: &str, text: &str| json!({"message": {"role": "user", "content": text}, "type": kind, "run_id": run.run, "model": "scripted"});
    let (status, body) = run.http.post(&path, send("follow_up", "and then?")).await;
    assert_eq!((status, &body["ignored"]), (200, &json!(["model"])));
    gate.add_permits(1);
    run.until("waiting_for_tool_approval").await;
    let send =
        |kind: &str, text: &str| json!({"message": {"role": "user", "content": text}, "type": kind, "run_id": run.run});
    assert_eq!(run.http.post(&path, send("steering", "stop that")).await.0, 200);
    let events = run.finish().await;
    assert!(names(&events).contains(&"tool_rejected"));
    assert!(server.tools.acted.lock().unwrap().is_empty());
    let roles: Vec<_> = run.messages().await["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["role"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant", "tool", "user", "assistant"]);
}

#[tokio::test]
async fn max_turns_ends_the_run() {
    let call = || Step::Call(vec![("a", "stakpak__look", json!({}))]);
    let server = TestServer::start([call(), call(), call()]).await;
    let http = server.http();
    let session = http.post("/v1/sessions", json!({"title": ""})).await.1["id"].as_str().unwrap().to_owned();
    let body =
        json!({"message": {"role": "user", "content": "go"}, "overrides": {"auto_approve": "all", "max_turns": 2}});
    let (_, posted) = http.post(&format!("/v1/sessions/{session}/messages"), body).await;
    let events = server.client().subscribe_events(&session, Some(0)).await.unwrap();
    let mut run = crate::support::Running { session, run: posted["run_id"].as_str().unwrap().into(), events, http };
    let events = run.finish().await;
    let Event::RunCompleted { stop_reason, total_turns, .. } = &events.last().unwrap().event else { panic!() };
    assert_eq!((json!(stop_reason), *total_turns), (json!("max_turns"), 2));
    let ids: Vec<_> = server.tools.acted.lock().unwrap().clone();
    assert_ne!(ids[0], ids[1], "a repeated id is replaced: ids are unique in the session");
}
