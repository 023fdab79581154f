//! The wire as it was published: names, spelling, null versus omitted.
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::{Value, json};
use stakpak_protocol::{
    Event, EventEnvelope, FinishReason, LastError, LastErrorCode, Message, PostMessageRequest, ProposedToolCall, RunId,
    RunStatus, SessionId, StopReason, Usage, to_ascii_json,
};
use uuid::Uuid;

fn run() -> RunId {
    RunId(Uuid::from_u128(7))
}

fn every_event() -> Vec<Event> {
    let run_id = run();
    let call = || "call_1".into();
    let usage = Usage { prompt_tokens: 26, completion_tokens: 6, total_tokens: 32, ..Usage::default() };
    let tool_name = || "stakpak__run_command".to_owned();
    vec![
        Event::RunStarted { run_id },
        Event::TurnStarted { run_id, turn: 1 },
        Event::ThinkingDelta { run_id, delta: "df will tell".into() },
        Event::TextDelta { run_id, delta: "Let me ".into() },
        Event::TextComplete { run_id, text: "Let me look.".into() },
        Event::UsageReport { run_id, turn: 1, usage: usage.clone(), cost_usd: None },
        Event::ToolCallsProposed {
            run_id,
            tool_calls: vec![ProposedToolCall {
                id: call(),
                name: tool_name(),
                arguments: json!({"command": "df -h"}),
                metadata: None,
                approval: None,
                approval_reason: None,
            }],
        },
        Event::WaitingForToolApproval { run_id, pending_tool_call_ids: vec![call()] },
        Event::ToolExecutionStarted { run_id, tool_call_id: call(), tool_name: tool_name() },
        Event::ToolExecutionProgress { run_id, tool_call_id: call(), message: "Filesystem  Size".into() },
        Event::ToolExecutionCompleted {
            run_id,
            tool_call_id: call(),
            tool_name: tool_name(),
            result: json!("Filesystem  Size"),
            is_error: false,
            result_truncated: None,
            result_bytes: None,
        },
        Event::ToolRejected { run_id, tool_call_id: call(), tool_name: tool_name(), reason: "not on prod".into() },
        Event::TurnCompleted { run_id, turn: 1, finish_reason: FinishReason::ToolCalls, truncated: None },
        Event::RetryAttempt { run_id, attempt: 1, delay_ms: 2000, reason: "529 overloaded".into(), discard_text: None },
        Event::CompactionStarted { run_id, reason: "context is full".into() },
        Event::CompactionCompleted { run_id, tokens_before: 118_000, tokens_after: 31_000, truncated: true },
        Event::RunCompleted {
            run_id,
            total_turns: 2,
            total_usage: usage,
            stop_reason: StopReason::Completed,
            detail: None,
            unconsumed: vec![],
        },
        Event::RunError { run_id, error: "anthropic: 401 invalid key".into(), retryable: false, unconsumed: vec![] },
    ]
}

#[test]
fn frames_are_as_published() {
    let frames = every_event().into_iter().enumerate().map(|(index, event)| {
        let envelope = EventEnvelope {
            id: stakpak_protocol::EventId(43 + index as u64),
            session_id: SessionId(Uuid::from_u128(1)),
            run_id: Some(event.run_id()),
            timestamp: "2026-03-01T09:00:00.892923415Z".parse().unwrap(),
            event,
        };
        let data = to_ascii_json(&envelope).unwrap();
        assert_eq!(serde_json::from_str::<EventEnvelope>(&data).unwrap(), envelope);
        format!("id: {}\nevent: {}\ndata: {data}\n", envelope.id, envelope.event.name())
    });
    insta::assert_snapshot!(frames.collect::<Vec<_>>().join("\n"));
}

#[test]
fn messages_come_back_as_they_went() {
    for text in [
        r#"{"role":"user","content":"how full are my disks?"}"#,
        r#"{"role":"user","content":[{"type":"text","text":"what is this?"},{"type":"image","url":"data:image/png;base64,iVBORw0KGgo=","detail":"low"}]}"#,
        r#"{"role":"assistant","content":[{"type":"text","text":"Let me look."},{"type":"tool_call","id":"toolu_1","name":"stakpak__run_command","arguments":{"command":"df -h"},"metadata":{"thought_signature":"c2ln"}}]}"#,
        r#"{"role":"tool","content":[{"type":"tool_result","tool_call_id":"toolu_1","content":"x","is_error":true}]}"#,
        r#"{"role":"user","content":[],"name":"ann","provider_options":{"anthropic":{"cache_control":{"type":"ephemeral","ttl":"1h"}}}}"#,
    ] {
        let message: Message = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
    }
    for text in [
        r#"{"role":"user"}"#,
        r#"{"role":"user","content":null}"#,
        r#"{"role":"user","content":{"text":"x"}}"#,
        r#"{"role":"robot","content":"x"}"#,
        r#"{"role":"user","content":[{"type":"audio"}]}"#,
    ] {
        serde_json::from_str::<Message>(text).unwrap_err();
    }
}

/// Clients of 0.3.x send `null` for every unset field.
#[test]
fn null_and_absent_options_mean_the_same() {
    let absent = json!({"message": {"role": "user", "content": "x"}});
    let null = json!({"message": {"role": "user", "content": "x"}, "type": null, "run_id": null, "model": null,
        "sandbox": null, "context": null, "overrides": null});
    let read = |value: Value| serde_json::from_value::<PostMessageRequest>(value).unwrap();
    assert_eq!(read(absent), read(null));
}

#[test]
fn run_states_have_their_keys() {
    let last_error = LastError {
        code: LastErrorCode::ProviderError,
        message: "anthropic: 401 invalid key".into(),
        run_id: run(),
        at: "2026-03-01T09:00:02Z".parse().unwrap(),
        retryable: false,
    };
    let states = [
        RunStatus::Idle,
        RunStatus::Starting { run_id: run(), queue_position: Some(3) },
        RunStatus::Running { run_id: run(), pending_tool_calls: Some(1), cancelling: None },
        RunStatus::Failed { last_error: Some(last_error) },
    ];
    let texts: Vec<String> = states.iter().map(|state| serde_json::to_string(state).unwrap()).collect();
    insta::assert_snapshot!(texts.join("\n"));
}
