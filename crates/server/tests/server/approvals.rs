//! Decisions about tool calls: in any order, at any time, any number of times.

use std::sync::Arc;

use crate::support::{Setting, Step, TestServer, names};
use serde_json::{Value, json};
use stakpak_protocol::Event;
use stakpak_server::{ApprovalCeiling, Limits};

fn two_calls(first: serde_json::Value) -> Step {
    Step::Call(vec![("a", "stakpak__look", first), ("b", "stakpak__act", json!({}))])
}

/// P1, C-P2: call A runs, call B waits: a decision for B sent while A runs is applied, and the run goes on to its end.
#[tokio::test]
async fn a_decision_while_another_call_runs_is_applied() {
    let server = TestServer::start([two_calls(json!({"gated": true})), Step::Say("both done")]).await;
    let mut run = server.run("go", json!(["look"])).await;
    run.until("tool_execution_started").await;
    server.tools.started.acquire().await.unwrap().forget();

    let (status, body) = run.decide("b", "accept").await;

    assert_eq!((status, &body["results"]["b"]), (200, &json!("applied")));
    server.tools.gate.add_permits(1);
    let events = run.finish().await;
    assert_eq!(names(&events).last(), Some(&"run_completed"));
    assert_eq!(server.tools.acted.lock().unwrap().as_slice(), ["a".into(), "b".into()]);
    let results: Vec<_> = run.messages().await["messages"].as_array().unwrap()[3..5]
        .iter()
        .map(|message| message["content"][0]["content"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(results, ["a done", "b done"], "results stand in declared order");
}

/// C-P2 in the other order: the call that waits is declared first.
#[tokio::test]
async fn decisions_in_reverse_order_run_the_calls_in_declared_order() {
    let calls = (0..20).map(|index| (CALLS[index], "stakpak__act", json!({}))).collect();
    let server = TestServer::start([Step::Call(calls), Step::Say("done")]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    for call in CALLS.iter().rev() {
        assert_eq!(run.decide(call, "accept").await.1["results"][call], "applied");
    }
    run.finish().await;
    let acted: Vec<String> = server.tools.acted.lock().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(acted, CALLS);
}

const CALLS: [&str; 20] = [
    "c00", "c01", "c02", "c03", "c04", "c05", "c06", "c07", "c08", "c09", "c10", "c11", "c12", "c13", "c14", "c15",
    "c16", "c17", "c18", "c19",
];

/// P2: the same decision any number of times, before and after the call ran, never ends or fails the run.
#[tokio::test]
async fn repeated_decisions_are_harmless() {
    let server = TestServer::start([two_calls(json!({})), Step::Say("done")]).await;
    let mut run = server.run("go", json!(["look"])).await;
    run.until("waiting_for_tool_approval").await;
    assert_eq!(run.decide("b", "accept").await.1["results"]["b"], "applied");
    for _ in 0..100 {
        let (status, body) = run.decide("b", "accept").await;
        assert_eq!((status, &body["results"]["b"]), (200, &json!("duplicate")));
        assert_eq!(body["decided"]["b"]["action"], "accept");
    }
    let (status, body) = run.decide("b", "reject").await;
    assert_eq!((status, &body["results"]["b"]), (200, &json!("too_late")));
    assert_eq!(names(&run.finish().await).last(), Some(&"run_completed"));
    assert_eq!(server.tools.acted.lock().unwrap().len(), 2, "each call ran once");
}

/// P3: a client that accepts every proposed call, auto-approved ones too, also after the run ended, gets 200 each time.
#[tokio::test]
async fn accepting_everything_at_any_delay_is_answered_200() {
    let server = TestServer::start([two_calls(json!({})), Step::Say("done"), Step::Say("next")]).await;
    let mut run = server.run("go", json!("all")).await;
    let events = run.finish().await;
    assert!(!names(&events).contains(&"waiting_for_tool_approval"));
    for call in ["a", "b"] {
        let (status, body) = run.decide(call, "accept").await;
        assert_eq!((status, &body["results"][call]), (200, &json!("duplicate")), "{body}");
    }
    let (status, body) = run.decide("nonsense", "accept").await;
    assert_eq!((status, &body["code"]), (409, &json!("session_not_running")));
}

#[tokio::test]
async fn a_reject_reaches_the_event_and_the_model() {
    let server = TestServer::start([two_calls(json!({})), Step::Say("understood")]).await;
    let mut run = server.run("go", json!(["look"])).await;
    run.until("waiting_for_tool_approval").await;
    let body = json!({"run_id": run.run, "action": "reject", "content": "not on prod"});
    let (status, _) = run.http.post(&format!("/v1/sessions/{}/tools/b/decision", run.session), body).await;
    assert_eq!(status, 200);
    let events = run.finish().await;
    let reason = events.iter().find_map(|envelope| match &envelope.event {
        Event::ToolRejected { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason.as_deref(), Some("Tool call rejected by user: not on prod"));
    let requests = server.model.requests.lock().unwrap();
    let last = serde_json::to_string(&requests.last().unwrap().messages).unwrap();
    assert!(last.contains("not on prod"), "{last}");
    assert!(!server.tools.acted.lock().unwrap().contains(&"b".into()));
}

#[tokio::test]
async fn a_custom_result_is_the_result_and_nothing_runs() {
    let server = TestServer::start([Step::Call(vec![("b", "stakpak__act", json!({}))]), Step::Say("42 it is")]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    let path = format!("/v1/sessions/{}/tools/b/decision", run.session);
    let missing = run.http.post(&path, json!({"run_id": run.run, "action": "custom_result"})).await;
    assert_eq!((missing.0, &missing.1["code"]), (400, &json!("invalid_request")));
    let unknown = run.http.post(&path.replace("/b/", "/x/"), json!({"run_id": run.run, "action": "accept"})).await;
    assert_eq!(unknown.0, 404);
    let body = json!({"run_id": run.run, "action": "custom_result", "content": "42"});
    assert_eq!(run.http.post(&path, body).await.0, 200);
    let events = run.finish().await;
    assert!(!names(&events).contains(&"tool_execution_started"));
    assert!(server.tools.acted.lock().unwrap().is_empty());
    assert_eq!(run.messages().await["messages"][3]["content"][0]["content"], "42");
}

/// C-P10: invalid arguments and unknown tools are answered with what was wrong; nothing runs with `{}`.
#[tokio::test]
async fn invalid_calls_never_run() {
    let calls = vec![("a", "stakpak__act", json!("{broken")), ("b", "other__thing", json!({}))];
    let server = TestServer::start([Step::Call(calls), Step::Say("sorry")]).await;
    let mut run = server.run("go", json!("all")).await;
    let events = run.finish().await;
    assert!(server.tools.acted.lock().unwrap().is_empty());
    let messages = run.messages().await;
    let result = |index: usize| messages["messages"][index]["content"][0].clone();
    assert_eq!(result(3)["content"], "INVALID_ARGUMENTS\nmust be an object");
    assert_eq!(result(4)["content"], "UNKNOWN_TOOL\nthere is no tool other__thing");
    assert_eq!(result(3)["is_error"], true);
    assert_eq!(names(&events).last(), Some(&"run_completed"));
}

#[tokio::test]
async fn pending_holds_only_calls_that_wait_for_a_person() {
    let server = TestServer::start([two_calls(json!({})), Step::Say("done")]).await;
    let mut run = server.run("go", json!(["look"])).await;
    run.until("waiting_for_tool_approval").await;
    let path = format!("/v1/sessions/{}/tools/pending", run.session);
    let pending = run.http.get(&path).await.1;
    assert_eq!(pending["run_id"], json!(run.run));
    assert_eq!(pending["tool_calls"], json!([{"id": "b", "name": "stakpak__act", "arguments": {}, "approval": "ask"}]));
    run.decide("b", "accept").await;
    run.finish().await;
    assert_eq!(run.http.get(&path).await.1, json!({"run_id": null, "tool_calls": []}));
}

/// What a run asks about that wants to look and to act, under a policy of the caller.
async fn asked(has_own_policy: bool, approval_ceiling: ApprovalCeiling, caller: Value) -> Vec<String> {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let limits = Limits { approval_ceiling, ..Limits::default() };
    let setting = Setting { limits, has_own_policy, ..Setting::on(&directory) };
    let server = TestServer::start_on(directory, [two_calls(json!({})), Step::Say("done")], setting).await;
    let (http, session) = (server.http(), server.http().session("test").await);
    let overrides = json!({ "caller_auto_approve": caller });
    let body = json!({"message": {"role": "user", "content": "go"}, "overrides": overrides});
    let (status, posted) = http.post(&format!("/v1/sessions/{session}/messages"), body).await;
    assert_eq!(status, 200, "{posted}");
    let mut events = server.client().subscribe_events(&session, Some(0)).await.unwrap();
    let is_over = |name: &str| ["waiting_for_tool_approval", "run_completed"].contains(&name);
    while !is_over(&events.next_event().await.unwrap().event_type) {}
    let pending = http.get(&format!("/v1/sessions/{session}/tools/pending")).await.1;
    let waiting = pending["tool_calls"].as_array().unwrap().iter();
    waiting.map(|call| call["name"].as_str().unwrap().trim_start_matches("stakpak__").to_owned()).collect()
}

/// G-P11, G-P26: the policy of whoever sends a message counts where the profile says nothing, and otherwise only makes it
/// stricter. The ceiling holds for it too; what is above asks instead of being refused.
#[tokio::test]
async fn a_policy_of_the_caller_is_below_that_of_the_profile() {
    use ApprovalCeiling::{All, None};
    // The profile lets it look.
    for (own, ceiling, caller, expected) in [
        (false, All, json!(null), vec!["act"]),
        (false, All, json!(["stakpak__act"]), vec!["look"]),
        (false, All, json!("all"), vec![]),
        (false, All, json!("none"), vec!["look", "act"]),
        (false, ApprovalCeiling::tools(["look"]), json!("all"), vec!["act"]),
        (false, ApprovalCeiling::tools(["look"]), json!(["act"]), vec!["look", "act"]),
        (false, None, json!(["look"]), vec!["look", "act"]),
        (true, All, json!("all"), vec!["act"]),
        (true, All, json!(["look", "act"]), vec!["act"]),
        (true, All, json!(["act"]), vec!["look", "act"]),
        (true, All, json!("none"), vec!["look", "act"]),
        (true, None, json!("all"), vec!["act"]),
    ] {
        let waiting = asked(own, ceiling.clone(), caller.clone()).await;
        assert_eq!(waiting, expected, "{own} {ceiling:?} {caller}");
    }
}
