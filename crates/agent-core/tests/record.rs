//! The stored form of records: a contract with the past. A changed snapshot is a journal that can no longer be read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::json;
use stakpak_agent_core::{
    CallEnd, ContextState, Cut, Effect, ModelTerms, Policy, Record, ResolvedCall, Row, RowClass, RunAccepted, Sandbox,
    ToolCall,
};
use stakpak_protocol::{
    Approval, DecidedBy, FinishReason, LastError, LastErrorCode, Message, MessageContent, MessagePart, MessageType,
    ModelCost, Role, RunId, RunLimits, StopReason, ToolDecisionAction, Usage, Visibility,
};
use uuid::Uuid;

fn at() -> DateTime<Utc> {
    "2026-03-01T09:00:00.250Z".parse().unwrap()
}

fn run_id() -> RunId {
    RunId(Uuid::from_u128(1))
}

/// A new variant belongs here and into [`every_record`].
fn name(record: &Record) -> &'static str {
    match record {
        Record::RunAccepted(_) => "run_accepted",
        Record::UserMessage { .. } => "user_message",
        Record::ModelRequested { .. } => "model_requested",
        Record::BackingOff { .. } => "backing_off",
        Record::ModelAnswered { .. } => "model_answered",
        Record::ContextOverflowed { .. } => "context_overflowed",
        Record::ContextCleared { .. } => "context_cleared",
        Record::ContextCut { .. } => "context_cut",
        Record::CompactionStarted { .. } => "compaction_started",
        Record::Compaction { .. } => "compaction",
        Record::CallsResolved { .. } => "calls_resolved",
        Record::Decided { .. } => "decided",
        Record::CallStarted { .. } => "call_started",
        Record::CallEnded { .. } => "call_ended",
        Record::ClockStopped { .. } => "clock_stopped",
        Record::ClockStarted { .. } => "clock_started",
        Record::TurnEnded => "turn_ended",
        Record::CommandQueued { .. } => "command_queued",
        Record::RunEnded { .. } => "run_ended",
        Record::ModelSwitched { .. } => "model_switched",
        Record::SessionChanged { .. } => "session_changed",
        Record::SessionDeleted { .. } => "session_deleted",
    }
}

const VARIANTS: usize = 22;

fn every_record() -> [Record; VARIANTS] {
    [
        run_accepted(Policy::Custom {
            rules: BTreeMap::from([("stakpak__view".into(), Approval::Auto), ("mcp__drop".into(), Approval::Deny)]),
            read_only_commands: true,
            default: Approval::Ask,
            server: BTreeMap::new(),
        }),
        Record::UserMessage { message: Message::user("How full is the disk?"), command: Some(2) },
        Record::ModelRequested { turn: 3, attempt: 2, restarts: 1 },
        Record::BackingOff { attempt: 1, until: at(), restarts: None },
        model_answered(),
        Record::ContextOverflowed { message: "test: 400 conversation too long".into() },
        Record::ContextCleared { before: 7, tokens_before: 90, tokens_after: 60 },
        Record::ContextCut { cut: Cut { before: 8, keep: 400 }, tokens_before: 90, tokens_after: 60 },
        Record::CompactionStarted { first: 5, tokens_before: 90 },
        Record::Compaction {
            first: 5,
            summary: "The disk is full.".into(),
            model: Some("anthropic/claude".into()),
            usage: Usage { prompt_tokens: 80, completion_tokens: 5, total_tokens: 85, ..Usage::default() },
            cost_micros: Some(111),
            tokens_before: 90,
            tokens_after: 30,
            truncated: false,
        },
        calls_resolved(),
        Record::Decided {
            call_id: "call_1".into(),
            decision: DecidedBy { action: ToolDecisionAction::CustomResult, by: "ann".into(), at: at() },
        },
        Record::CallStarted { call_id: "call_1".into(), attempt: 2, probe: None },
        call_ended(CallEnd::Done),
        Record::ClockStopped { at: at() },
        Record::ClockStarted { at: at() },
        Record::TurnEnded,
        Record::CommandQueued { id: 2, kind: MessageType::FollowUp, message: Message::user("And the memory?") },
        Record::RunEnded {
            stop_reason: StopReason::Error,
            detail: None,
            last_error: Some(LastError {
                code: LastErrorCode::ProviderError,
                message: "test: 529 overloaded".into(),
                run_id: run_id(),
                at: at(),
                retryable: true,
            }),
            at: at(),
        },
        Record::ModelSwitched { model: "openai/gpt".into(), terms: ModelTerms::default(), stands_in: false },
        Record::SessionChanged { title: Some("disks".into()), visibility: Some(Visibility::Public), at: at() },
        Record::SessionDeleted { at: at() },
    ]
}

fn run_accepted(policy: Policy) -> Record {
    Record::RunAccepted(RunAccepted {
        run_id: run_id(),
        at: at(),
        model: "anthropic/claude".into(),
        profile: "default".into(),
        system_prompt: "Be brief.".into(),
        max_turns: 64,
        no_progress: stakpak_agent_core::NoProgress::default(),
        policy,
        cwd: "/srv".into(),
        limits: RunLimits::default(),
        limit_keys: stakpak_agent_core::LimitKeys::default(),
        terms: ModelTerms::default(),
        sandbox: Sandbox::default(),
        notify_route: None,
        interactive: false,
        context: ContextState::default(),
    })
}

fn model_answered() -> Record {
    let call = MessagePart::ToolCall {
        id: "call_1".into(),
        name: "stakpak__run_command".into(),
        arguments: json!({ "command": "df -h" }),
        metadata: Some(json!({ "signature": "c2ln" })),
        provider_options: None,
    };
    Record::ModelAnswered {
        message: Message::assistant(vec![MessagePart::text("Let me look."), call]),
        reasoning: Some(json!([{ "signature": "c2ln", "thinking": "df will tell" }])),
        usage: Usage { prompt_tokens: 12, completion_tokens: 5, total_tokens: 17, ..Usage::default() },
        finish: FinishReason::ToolCalls,
        cost_micros: Some(111),
        estimated: None,
    }
}

fn calls_resolved() -> Record {
    let call = |id: &str, metadata| ToolCall {
        id: id.into(),
        name: "stakpak__run_command".into(),
        arguments: json!({ "command": "df -h" }),
        metadata,
    };
    let asked = ResolvedCall {
        call: call("call_1", Some(json!({ "signature": "c2ln" }))),
        effect: Effect::Unsafe,
        approval: Approval::Ask,
        reason: Some("outside the working directory".into()),
        deadline: at(),
        invalid: None,
    };
    let invalid = ResolvedCall {
        call: call("call_2", None),
        effect: Effect::Pure,
        approval: Approval::Auto,
        reason: None,
        deadline: at(),
        invalid: Some("INVALID_ARGUMENTS\n`command` is missing".into()),
    };
    Record::CallsResolved { calls: vec![asked, invalid] }
}

fn call_ended(end: CallEnd) -> Record {
    let result = MessagePart::ToolResult {
        tool_call_id: "call_1".into(),
        content: "Filesystem  Size".into(),
        is_error: false,
        provider_options: None,
    };
    Record::CallEnded {
        call_id: "call_1".into(),
        end,
        message: Message::new(Role::Tool, MessageContent::Parts(vec![result])),
    }
}

fn stored(record: &Record) -> String {
    serde_json::to_string_pretty(record).unwrap()
}

fn read(payload: String) -> Record {
    let row = Row { seq: 1, class: RowClass::Control, kind: String::new(), payload, message_index: None };
    Record::from_row(&row).unwrap()
}

#[test]
fn the_stored_form_is_as_released() {
    let records = every_record();
    assert_eq!(records.iter().map(name).collect::<BTreeSet<_>>().len(), VARIANTS);
    for record in &records {
        insta::assert_snapshot!(name(record), stored(record));
        assert_eq!(read(stored(record)), *record);
    }
}

/// A field that came later is absent where it says nothing.
#[test]
fn later_fields_are_read_back_and_left_out_when_absent() {
    let repeated = Record::BackingOff { attempt: 1, until: at(), restarts: Some(2) };
    assert_eq!(read(stored(&repeated)), repeated);
    let Record::RunAccepted(mut limited) = run_accepted(Policy::None) else { panic!("another record") };
    limited.limits = RunLimits { wall_clock_s: Some(60), tokens: Some(1_000), cost_usd: Some(0.5) };
    let price = Some(ModelCost { input: 3.0, output: 15.0, cache_read: Some(0.3), cache_write: None });
    limited.terms = ModelTerms { price, max_output_tokens: Some(8_192) };
    let switched = Record::ModelSwitched { model: "openai/gpt".into(), terms: limited.terms, stands_in: false };
    assert_eq!(read(stored(&switched)), switched);
    let limited = Record::RunAccepted(limited);
    insta::assert_snapshot!("run_accepted_with_limits", stored(&limited));
    assert_eq!(read(stored(&limited)), limited);
}

/// Enumerations inside records, by their stored names.
#[test]
fn the_stored_names_are_as_released() {
    for (end, name) in [
        (CallEnd::Done, "done"),
        (CallEnd::Invalid, "invalid"),
        (CallEnd::Rejected, "rejected"),
        (CallEnd::Answered, "answered"),
        (CallEnd::Skipped, "skipped"),
        (CallEnd::Cancelled, "cancelled"),
        (CallEnd::Unknown, "unknown"),
    ] {
        assert_eq!(serde_json::to_value(call_ended(end)).unwrap()["call_ended"]["end"], name);
    }
    for (policy, name) in [(Policy::None, "none"), (Policy::All, "all")] {
        assert_eq!(serde_json::to_value(run_accepted(policy)).unwrap()["run_accepted"]["policy"], name);
    }
}
