//! What one client, or all of them together, may take of the server.

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use stakpak_agent_core::{Policy, SessionRow, full_name};
use stakpak_protocol::{Approval, Run, RunLimits, RunState, RunStatus};

use crate::Server;

/// Bounds of requests and streams, and of what a message may ask for; those of all runs together are in
/// [`stakpak_agent_core::AgentConfig`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a message's body, which may carry images.
    pub message_body: usize,
    /// Bytes of any other body.
    pub body: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long a request waits for the answer to an earlier one with its `Idempotency-Key`.
    pub key_patience: Duration,
    /// Open event streams of one session.
    pub streams_per_session: usize,
    /// Open event streams of all sessions.
    pub streams: usize,
    /// Requests a second with one token; none: as many as there are.
    pub requests_per_second: Option<NonZeroU32>,
    /// How long a session that nothing happens in is kept in memory.
    pub idle_after: Duration,
    /// What a run may take at most, whatever its message says.
    pub run: RunLimits,
    /// What a message may let run without a question.
    pub approval_ceiling: ApprovalCeiling,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_body: 16 * 1024 * 1024,
            body: 2 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            key_patience: Duration::from_secs(10),
            streams_per_session: 2_048,
            streams: 8_192,
            requests_per_second: None,
            idle_after: Duration::from_secs(5 * 60),
            run: RunLimits::default(),
            approval_ceiling: ApprovalCeiling::All,
        }
    }
}

/// What a message may let run without a question; more is refused. What profiles grant is not its business.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ApprovalCeiling {
    /// Everything.
    #[default]
    All,
    /// Nothing.
    None,
    /// These tools.
    Tools(BTreeSet<String>),
}

impl ApprovalCeiling {
    /// Of a list of policy keys; one without a server is the product's own.
    #[must_use]
    pub fn tools<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Tools(names.into_iter().map(|name| full_name(name.trim())).collect())
    }

    /// It as a policy: what is above it asks.
    pub(crate) fn policy(&self) -> Policy {
        match self {
            Self::All => Policy::All,
            Self::None => Policy::None,
            Self::Tools(tools) => Policy::approving(tools.iter().map(String::as_str)),
        }
    }

    /// The first thing in the policy that is above it.
    pub(crate) fn first_above<'a>(&self, policy: &'a Policy) -> Option<&'a str> {
        let allows = |tool: &str| match self {
            Self::All => true,
            Self::None => false,
            // A key covers those that go on below it.
            Self::Tools(tools) => tools.iter().any(|allowed| {
                tool.strip_prefix(allowed.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            }),
        };
        match policy {
            Policy::None => None,
            Policy::All => (*self != Self::All).then_some("all"),
            Policy::Both { policy, .. } => self.first_above(policy),
            Policy::Custom { rules, .. } => {
                let granted = rules.iter().filter(|(_, rule)| **rule == Approval::Auto).map(|(tool, _)| tool.as_str());
                granted.into_iter().find(|tool| !allows(tool))
            }
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
