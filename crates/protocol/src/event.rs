//! Events of a session and the frames that carry them.
//!
//! In JSON an event is an object with one PascalCase key; as an SSE event its name is snake_case. Clients read both.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{EventId, ProposedToolCall, RunId, SessionId, ToolCallId, Usage, Usd};

/// An event with its place: the `data` of an SSE frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventEnvelope {
    /// Same as the frame's `id`.
    pub id: EventId,
    /// The session.
    pub session_id: SessionId,
    /// The run, also inside every payload.
    pub run_id: Option<RunId>,
    /// When it was recorded.
    pub timestamp: DateTime<Utc>,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub enum Event {
    /// A message was accepted and its run exists.
    RunStarted {
        /// The run.
        run_id: RunId,
    },
    /// The model is about to be asked.
    TurnStarted {
        /// The run.
        run_id: RunId,
        /// From 1; goes on through follow-ups.
        turn: u64,
    },
    /// The model thinks.
    ThinkingDelta {
        /// The run.
        run_id: RunId,
        /// More text.
        delta: String,
    },
    /// The model writes.
    TextDelta {
        /// The run.
        run_id: RunId,
        /// More text.
        delta: String,
    },
    /// The turn's whole text; omitted when there is none.
    TextComplete {
        /// The run.
        run_id: RunId,
        /// The turn's deltas joined.
        text: String,
    },
    /// Tokens of one answer.
    UsageReport {
        /// The run.
        run_id: RunId,
        /// The turn.
        turn: u64,
        /// The tokens.
        usage: Usage,
        /// What they cost, where the price is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_usd: Option<Usd>,
    },
    /// Every call of the turn, those that need no approval too.
    ToolCallsProposed {
        /// The run.
        run_id: RunId,
        /// The calls, in declared order.
        tool_calls: Vec<ProposedToolCall>,
    },
    /// Calls that wait for a person.
    WaitingForToolApproval {
        /// The run.
        run_id: RunId,
        /// Undecided calls only.
        pending_tool_call_ids: Vec<ToolCallId>,
    },
    /// A call starts.
    ToolExecutionStarted {
        /// The run.
        run_id: RunId,
        /// The call.
        tool_call_id: ToolCallId,
        /// `server__tool`.
        tool_name: String,
    },
    /// A call has printed more.
    ToolExecutionProgress {
        /// The run.
        run_id: RunId,
        /// The call.
        tool_call_id: ToolCallId,
        /// What is new, at most 4 KiB.
        message: String,
    },
    /// A call has ended.
    ToolExecutionCompleted {
        /// The run.
        run_id: RunId,
        /// The call.
        tool_call_id: ToolCallId,
        /// `server__tool`.
        tool_name: String,
        /// Any JSON; normally a string. Cut at 256 KiB.
        result: Value,
        /// Whether it failed.
        is_error: bool,
        /// Present when the result was cut.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result_truncated: Option<bool>,
        /// Its full size when it was cut.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result_bytes: Option<u64>,
    },
    /// A call was refused or skipped.
    ToolRejected {
        /// The run.
        run_id: RunId,
        /// The call.
        tool_call_id: ToolCallId,
        /// `server__tool`.
        tool_name: String,
        /// By whom or what rule, and how to allow it.
        reason: String,
    },
    /// A turn is over.
    TurnCompleted {
        /// The run.
        run_id: RunId,
        /// The turn.
        turn: u64,
        /// Why the answer ended.
        finish_reason: FinishReason,
        /// Present when the text was cut by the length limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        truncated: Option<bool>,
    },
    /// The request is repeated after a wait.
    RetryAttempt {
        /// The run.
        run_id: RunId,
        /// From 1.
        attempt: u64,
        /// The wait in milliseconds.
        delay_ms: u64,
        /// Why.
        reason: String,
        /// Present when the turn's deltas so far no longer count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        discard_text: Option<bool>,
    },
    /// Old messages are being summed up.
    CompactionStarted {
        /// The run.
        run_id: RunId,
        /// Why.
        reason: String,
    },
    /// Old messages are summed up.
    CompactionCompleted {
        /// The run.
        run_id: RunId,
        /// Size before.
        tokens_before: u64,
        /// Size after.
        tokens_after: u64,
        /// Whether something was cut.
        truncated: bool,
    },
    /// Terminal: the run ended by itself, by request, or at its last turn.
    RunCompleted {
        /// The run.
        run_id: RunId,
        /// Turns begun.
        total_turns: u64,
        /// Summed over its answers.
        total_usage: Usage,
        /// Why it ended.
        stop_reason: StopReason,
        /// More of that, where there is more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<StopDetail>,
        /// Accepted commands that were not used.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unconsumed: Vec<UnconsumedCommand>,
    },
    /// Terminal: the run failed.
    RunError {
        /// The run.
        run_id: RunId,
        /// `provider: status class` and a short message.
        error: String,
        /// Whether the same message may work later.
        retryable: bool,
        /// Accepted commands that were not used.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unconsumed: Vec<UnconsumedCommand>,
    },
}

impl Event {
    /// The SSE event name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run_started",
            Self::TurnStarted { .. } => "turn_started",
            Self::ThinkingDelta { .. } => "thinking_delta",
            Self::TextDelta { .. } => "text_delta",
            Self::TextComplete { .. } => "text_complete",
            Self::UsageReport { .. } => "usage_report",
            Self::ToolCallsProposed { .. } => "tool_calls_proposed",
            Self::WaitingForToolApproval { .. } => "waiting_for_tool_approval",
            Self::ToolExecutionStarted { .. } => "tool_execution_started",
            Self::ToolExecutionProgress { .. } => "tool_execution_progress",
            Self::ToolExecutionCompleted { .. } => "tool_execution_completed",
            Self::ToolRejected { .. } => "tool_rejected",
            Self::TurnCompleted { .. } => "turn_completed",
            Self::RetryAttempt { .. } => "retry_attempt",
            Self::CompactionStarted { .. } => "compaction_started",
            Self::CompactionCompleted { .. } => "compaction_completed",
            Self::RunCompleted { .. } => "run_completed",
            Self::RunError { .. } => "run_error",
        }
    }

    /// Whether this is the last event of its run.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::RunCompleted { .. } | Self::RunError { .. })
    }

    /// The run it belongs to.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        match self {
            Self::RunStarted { run_id }
            | Self::TurnStarted { run_id, .. }
            | Self::ThinkingDelta { run_id, .. }
            | Self::TextDelta { run_id, .. }
            | Self::TextComplete { run_id, .. }
            | Self::UsageReport { run_id, .. }
            | Self::ToolCallsProposed { run_id, .. }
            | Self::WaitingForToolApproval { run_id, .. }
            | Self::ToolExecutionStarted { run_id, .. }
            | Self::ToolExecutionProgress { run_id, .. }
            | Self::ToolExecutionCompleted { run_id, .. }
            | Self::ToolRejected { run_id, .. }
            | Self::TurnCompleted { run_id, .. }
            | Self::RetryAttempt { run_id, .. }
            | Self::CompactionStarted { run_id, .. }
            | Self::CompactionCompleted { run_id, .. }
            | Self::RunCompleted { run_id, .. }
            | Self::RunError { run_id, .. } => *run_id,
        }
    }
}

/// Why a model's answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// By itself.
    Stop,
    /// It wants tools run.
    ToolCalls,
    /// At the length limit.
    MaxOutputTokens,
    /// By request.
    Cancelled,
    /// By an error.
    Error,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// By itself.
    Completed,
    /// By request.
    Cancelled,
    /// At its last allowed turn.
    MaxTurns,
    /// By an error.
    Error,
}

/// Why a run was not given more turns, if it was not for their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopDetail {
    /// It made the same calls with the same results again and again.
    NoProgress,
}

/// A command that was accepted and not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnconsumedCommand {
    /// `steering` or `follow_up`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its text.
    pub text: String,
}

/// Names of the frames that have no `id` line and no envelope; the cursor does not move.
pub const CONTROL_EVENTS: [&str; 3] = ["gap_detected", "server_shutdown", "session_deleted"];

/// Control frame: events the client asked for are gone, or never were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GapDetected {
    /// The client's cursor.
    pub requested_after_id: u64,
    /// Oldest event that can be read.
    pub oldest_available_id: u64,
    /// Newest event.
    pub newest_available_id: u64,
    /// `refresh_snapshot_then_resume`: read the messages, then go on.
    pub resume_hint: String,
}

/// Control frame: the server is going down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerShutdown {
    /// Newest event.
    pub last_event_id: u64,
    /// How long to wait before the next attempt.
    pub reconnect_after_ms: u64,
}

/// Control frame: the session was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionDeleted {
    /// The session.
    pub session_id: SessionId,
}
