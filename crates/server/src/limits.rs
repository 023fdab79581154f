//! What one client, or all of them together, may take of the server.

use std::time::Duration;

use stakpak_agent_core::SessionRow;
use stakpak_protocol::{Run, RunState, RunStatus};

use crate::Server;

/// Bounds of requests and streams; those of runs are in [`stakpak_agent_core::AgentConfig`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a message's body, which may carry images.
    pub message_body: usize,
    /// Bytes of any other body.
    pub body: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Open event streams of one session.
    pub streams_per_session: usize,
    /// Open event streams of all sessions.
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_body: 16 * 1024 * 1024,
            body: 2 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            streams_per_session: 2_048,
            streams: 8_192,
        }
    }
}

impl Server {
    /// The session as it is now: which runs are queued is known to this process only and not stored.
    pub(crate) fn with_queue(&self, mut row: SessionRow) -> SessionRow {
        if let RunStatus::Running { run_id, pending_tool_calls: None, .. } = row.run_status
            && let queue_position @ Some(_) = self.agent().slots.position(row.id)
        {
            row.run_status = RunStatus::Starting { run_id, queue_position };
        }
        row
    }

    /// The run as it is now, for the same reason.
    pub(crate) fn with_queued_state(&self, mut run: Run) -> Run {
        if run.state == RunState::Running && self.agent().slots.position(run.session_id).is_some() {
            run.state = RunState::Queued;
        }
        run
    }
}
