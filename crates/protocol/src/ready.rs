//! Readiness: whether the server can do its work now.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET /v1/ready`: 200 when ready, else 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// True when no part is `read_only`, `starting` or `failed`.
    pub ready: bool,
    /// Each part.
    pub checks: ReadyChecks,
}

/// The parts that the server needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyChecks {
    /// Whether appends to the journal are durable.
    pub journal: CheckState,
    /// Whether schedules fire.
    pub scheduler: CheckState,
    /// Whether chat platforms are served.
    pub channels: CheckState,
    /// Whether tools that ask for isolation can run.
    pub sandbox: CheckState,
}

/// State of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Works.
    Ok,
    /// Not used by this process: not configured, or switched off.
    Off,
    /// Works with loss, such as one chat platform that cannot be reached; does not make the server unready.
    Degraded,
    /// Will work soon.
    Starting,
    /// Can be read, not written: the disk is full or fails.
    ReadOnly,
    /// Does not work; tried again by itself.
    Failed,
}

impl CheckState {
    /// Whether the server can do its work with a part in this state.
    #[must_use]
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ok | Self::Off | Self::Degraded)
    }
}

impl ReadyChecks {
    /// The answer that these checks come to.
    #[must_use]
    pub fn judge(self) -> Ready {
        let Self { journal, scheduler, channels, sandbox } = self;
        Ready { ready: [journal, scheduler, channels, sandbox].into_iter().all(CheckState::is_ready), checks: self }
    }
}
