//! After a crash: ids go on, what was recorded holds, nothing runs twice.

use std::sync::Arc;

use crate::support::{Step, TestServer, names};
use serde_json::json;
use stakpak_agent_core::AgentConfig;
use stakpak_protocol::{Event, MessagePart};
use tokio::sync::Semaphore;

/// The wait before a request is repeated is not what these tests are about.
fn quick() -> AgentConfig {
    AgentConfig { backoff: std::time::Duration::from_millis(1), ..AgentConfig::default() }
}

async fn replay(server: &TestServer, session: &str, after: u64, events: usize) -> Vec<String> {
    let mut stream = server.client().subscribe_events(session, Some(after)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < events {
        seen.push(stream.next_event().await.unwrap().data);
    }
    seen
}

/// P25, P30: after a crash in mid-answer the events seen before are replayed byte for byte, ids go on, and the deltas since
/// `discard_text` joined equal `text_complete`.
#[tokio::test]
async fn a_crash_in_mid_answer_keeps_ids_and_asks_again() {
    let gate = Arc::new(Semaphore::new(0));
    let server = TestServer::start([Step::SayGated(vec!["half ", "never"], gate)]).await;
    let mut run = server.run("go", json!("none")).await;
    let seen = run.until("text_delta").await;
    let before = replay(&server, &run.session, 0, seen.len()).await;
    let directory = server.crash().await;

    let server = TestServer::start_in(directory, [Step::Say("the whole answer")], quick()).await;
    let mut events = server.client().subscribe_events(&run.session, Some(0)).await.unwrap();
    let mut all = Vec::new();
    while !all
        .last()
        .is_some_and(|(envelope, _): &(stakpak_protocol::EventEnvelope, String)| envelope.event.is_terminal())
    {
        let event = events.next_event().await.unwrap();
        all.push((event.envelope().unwrap(), event.data));
    }
    let after: Vec<_> = all.iter().take(before.len()).map(|(_, data)| data.clone()).collect();
    assert_eq!(after, before, "events seen before are the same bytes");
    assert!(all.windows(2).all(|pair| pair[0].0.id < pair[1].0.id));
    let discarded = all
        .iter()
        .position(|(envelope, _)| matches!(envelope.event, Event::RetryAttempt { discard_text: Some(true), .. }))
        .unwrap();
    let joined: String = all[discarded..]
        .iter()
        .filter_map(|(envelope, _)| match &envelope.event {
            Event::TextDelta { delta, .. } => Some(delta.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(joined, "the whole answer");
    assert_eq!(all.iter().filter(|(envelope, _)| envelope.event.is_terminal()).count(), 1);
    // A cursor at any point yields exactly the rest.
    for (index, (envelope, _)) in all.iter().enumerate().take(all.len() - 1) {
        let rest = replay(&server, &run.session, envelope.id.0, all.len() - index - 1).await;
        assert_eq!(rest, all[index + 1..].iter().map(|(_, data)| data.clone()).collect::<Vec<_>>());
    }
    server.run_in(&run.session, "next", json!("none")).await.finish().await;
}

/// G6: a call with effects that was running is not run again; the model is told that the outcome is unknown.
#[tokio::test]
async fn a_crash_in_an_unsafe_call_makes_its_outcome_unknown() {
    let calls = vec![("a", "stakpak__act", json!({"gated": true})), ("b", "stakpak__act", json!({}))];
    let server = TestServer::start([Step::Call(calls)]).await;
    let mut run = server.run("go", json!("all")).await;
    run.until("tool_execution_started").await;
    server.tools.started.acquire().await.unwrap().forget();
    let directory = server.crash().await;

    let server = TestServer::start_in(directory, [Step::Say("I will check")], quick()).await;
    let mut stream = server.client().subscribe_events(&run.session, Some(0)).await.unwrap();
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|envelope: &stakpak_protocol::EventEnvelope| envelope.event.is_terminal()) {
        seen.push(stream.next_event().await.unwrap().envelope().unwrap());
    }
    assert_eq!(server.tools.acted.lock().unwrap().as_slice(), ["b".into()], "only the call that had not started ran");
    let asked = server.model.requests.lock().unwrap();
    assert_eq!(asked.len(), 1, "the recorded answer is not asked for again");
    let view = serde_json::to_string(&asked[0].messages).unwrap();
    assert!(view.contains("OUTCOME_UNKNOWN"), "{view}");
    assert_eq!(names(&seen).last(), Some(&"run_completed"));
}

#[tokio::test]
async fn a_crash_in_a_pure_call_runs_it_again() {
    let calls = vec![("a", "stakpak__look", json!({"gated": true}))];
    let server = TestServer::start([Step::Call(calls)]).await;
    let mut run = server.run("go", json!("all")).await;
    run.until("tool_execution_started").await;
    let directory = server.crash().await;
    let server = TestServer::start_in(directory, [Step::Say("seen")], quick()).await;
    server.tools.gate.add_permits(1);
    let mut stream = server.client().subscribe_events(&run.session, Some(0)).await.unwrap();
    while !stream.next_event().await.unwrap().is_run_terminal() {}
    assert_eq!(server.tools.acted.lock().unwrap().as_slice(), ["a".into()]);
}

/// C-P14: what a provider said beside its answer survives a crash and goes back with it, and no reader ever sees it.
#[tokio::test]
async fn what_goes_back_to_a_provider_survives_a_crash() {
    let reasoning = json!({ "items": [{ "position": 0, "data": { "signature": "c2VjcmV0" } }] });
    let call = MessagePart::ToolCall {
        id: "a".into(),
        name: "stakpak__look".into(),
        arguments: json!({ "gated": true }),
        metadata: None,
        provider_options: None,
    };
    let server = TestServer::start([Step::Reason(vec![call], reasoning.clone())]).await;
    let mut run = server.run("go", json!("all")).await;
    run.until("tool_execution_started").await;
    let directory = server.crash().await;

    let server = TestServer::start_in(directory, [Step::Say("seen"), Step::Say("again")], quick()).await;
    server.tools.gate.add_permits(1);
    let mut stream = server.client().subscribe_events(&run.session, Some(0)).await.unwrap();
    let mut shown = String::new();
    loop {
        let event = stream.next_event().await.unwrap();
        shown.push_str(&event.data);
        if event.is_run_terminal() {
            break;
        }
    }
    let mut next = server.run_in(&run.session, "next", json!("none")).await;
    next.finish().await;
    shown.push_str(&next.messages().await.to_string());
    assert!(!shown.contains("c2VjcmV0"), "{shown}");
    let asked = server.model.requests.lock().unwrap();
    for request in asked.iter() {
        let [replay] = request.replays.as_slice() else { panic!("{:?}", request.replays) };
        assert_eq!((replay.message, replay.first_part, replay.reasoning.as_ref()), (1, 0, &reasoning));
    }
    assert_eq!(asked.len(), 2, "from the journal, and as it was followed");
}

/// P9, D10, D11: pending approvals are the same after a crash; a decision answered 200 just before holds.
#[tokio::test]
async fn approvals_survive_a_crash() {
    let calls = vec![("a", "stakpak__act", json!({})), ("b", "stakpak__act", json!({}))];
    let server = TestServer::start([Step::Call(calls)]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    assert_eq!(run.decide("b", "accept").await.1["results"]["b"], "applied");
    let directory = server.crash().await;

    let server = TestServer::start_in(directory, [Step::Say("done")], quick()).await;
    let http = server.http();
    let pending = http.get(&format!("/v1/sessions/{}/tools/pending", run.session)).await.1;
    assert_eq!(pending["tool_calls"].as_array().unwrap().len(), 1, "{pending}");
    assert_eq!(pending["tool_calls"][0]["id"], "a");
    let body = json!({"run_id": run.run, "action": "accept"});
    assert_eq!(http.post(&format!("/v1/sessions/{}/tools/a/decision", run.session), body).await.0, 200);
    let mut stream = server.client().subscribe_events(&run.session, Some(0)).await.unwrap();
    while !stream.next_event().await.unwrap().is_run_terminal() {}
    assert_eq!(server.tools.acted.lock().unwrap().as_slice(), ["a".into(), "b".into()]);
}

/// C-P26: a crash loop asks the model at most 3 times for one turn.
#[tokio::test]
async fn a_crash_loop_is_bounded() {
    let server = TestServer::start([Step::Silence]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("turn_started").await;
    let mut directory = server.crash().await;
    let mut asked = 1;
    for _ in 0..2 {
        let server = TestServer::start_in(directory, [Step::Silence], quick()).await;
        let mut stream = server.client().subscribe_events(&run.session, Some(0)).await.unwrap();
        while stream.next_event().await.unwrap().event_type != "retry_attempt" {}
        while server.model.requests.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        asked += server.model.requests.lock().unwrap().len();
        directory = server.crash().await;
    }
    let server = TestServer::start_in(directory, [Step::Say("never")], quick()).await;
    let mut stream = server.client().subscribe_events(&run.session, Some(0)).await.unwrap();
    let last = loop {
        let event = stream.next_event().await.unwrap();
        if event.is_run_terminal() {
            break event.envelope().unwrap();
        }
    };
    let Event::RunError { error, .. } = &last.event else { panic!("{last:?}") };
    assert!(error.starts_with("interrupted"), "{error}");
    assert_eq!((asked, server.model.requests.lock().unwrap().len()), (3, 0));
}

/// An old unfinished run is not resumed; it says how to go on.
#[tokio::test]
async fn a_run_that_is_too_old_ends_as_interrupted() {
    let server = TestServer::start([Step::Silence]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("turn_started").await;
    let directory = server.crash().await;
    let config = AgentConfig { resume_max_age: std::time::Duration::ZERO, ..AgentConfig::default() };
    let server = TestServer::start_in(directory, [], config).await;
    let mut stream = server.client().subscribe_events(&run.session, Some(0)).await.unwrap();
    while !stream.next_event().await.unwrap().is_run_terminal() {}
    let (_, detail) = server.http().get(&format!("/v1/sessions/{}", run.session)).await;
    assert_eq!(detail["session"]["run_status"]["last_error"]["code"], "interrupted");
}
