//! Runs and their states.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{EventId, RunId, SessionId, StopDetail, StopReason, Usage, Usd};

/// What a session is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum RunStatus {
    /// Ready for a message.
    Idle,
    /// Accepted, waiting for its turn.
    Starting {
        /// The run.
        run_id: RunId,
        /// Place in the queue, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue_position: Option<u64>,
    },
    /// At work, or waiting for a person.
    Running {
        /// The run.
        run_id: RunId,
        /// Calls that wait for a person; omitted when none does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pending_tool_calls: Option<u64>,
        /// Present when a cancel was requested.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cancelling: Option<bool>,
    },
    /// The last run failed; the next message is accepted.
    Failed {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_error: Option<LastError>,
    },
}

/// Why the last run failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LastError {
    /// What clients branch on.
    pub code: LastErrorCode,
    /// For people.
    pub message: String,
    /// The run.
    pub run_id: RunId,
    /// When.
    pub at: DateTime<Utc>,
    /// Whether the same message may work later.
    pub retryable: bool,
}

/// Class of a failed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LastErrorCode {
    /// The model's provider.
    ProviderError,
    /// The conversation does not fit the model.
    ContextOverflow,
    /// The journal could not be written.
    StorageUnavailable,
    /// The asked-for isolation is missing.
    SandboxUnavailable,
    /// The process died too often, or too long ago.
    Interrupted,
    /// The run's wall clock is used up.
    DeadlineExceeded,
    /// The run's budget is used up.
    BudgetExceeded,
    /// Unexpected.
    InternalError,
}

/// One run, as `GET …/runs/{run_id}` tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// Where it stands.
    pub state: RunState,
    /// Why it ended; absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
    /// More of that, where there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<StopDetail>,
    /// When its message was accepted.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// Turns begun.
    pub turns: u64,
    /// Whether a call that is not pure was started.
    pub side_effects: bool,
    /// Version 5 id of (session, last message) at the run's last pause or end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_id: Option<Uuid>,
    /// Its `run_started`.
    pub first_event_id: EventId,
    /// Its newest event.
    pub last_event_id: EventId,
    /// Summed over its answers.
    pub total_usage: Usage,
    /// What they cost; absent when the price of one is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<Usd>,
    /// Why it failed; only in `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// Answer of GET runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunList {
    /// Oldest first.
    pub runs: Vec<Run>,
    /// All matches, not of this page.
    pub total: u64,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waiting for its turn.
    Queued,
    /// At work.
    Running,
    /// A call waits for a person.
    WaitingApproval,
    /// Ended by itself, or at its last turn.
    Completed,
    /// Ended by request.
    Cancelled,
    /// Ended by an error.
    Failed,
}

impl RunState {
    /// Whether the run has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Failed)
    }
}
