//! Which effects the state waits for, live and after a restart.

use chrono::{DateTime, Utc};

use super::{CallStatus, Session, Step};
use crate::ToolCall;

/// An effect that the state waits for. Equal values are the same effect.
#[derive(Debug, Clone, PartialEq)]
pub enum Owed {
    /// Ask the model.
    Ask {
        /// Names the request.
        request: u64,
    },
    /// Sum up older messages.
    Compact {
        /// Names the request.
        request: u64,
        /// The first message that is not summed up.
        first: u64,
    },
    /// Wait, then report.
    Wait {
        /// The request that failed.
        request: u64,
        /// Until when.
        until: DateTime<Utc>,
    },
    /// Look at what a call will change, then report: it starts then.
    Probe {
        /// The call.
        call: ToolCall,
    },
    /// Run a call.
    Run {
        /// The call.
        call: ToolCall,
        /// From 1.
        attempt: u64,
    },
    /// Report when the first deadline has passed: of an approval, or of the run.
    Deadline {
        /// When.
        at: DateTime<Utc>,
    },
}

impl Session {
    /// Everything the state waits for.
    #[must_use]
    pub fn owed(&self) -> Vec<Owed> {
        let Some(run) = self.active() else { return Vec::new() };
        let mut owed = match run.step {
            Step::Asking { .. } => vec![Owed::Ask { request: run.request }],
            Step::Compacting { first, .. } => vec![Owed::Compact { request: run.request, first }],
            Step::BackingOff { until, .. } => vec![Owed::Wait { request: run.request, until }],
            Step::Calling { .. } => {
                let running = run.calls.iter().filter_map(|call| match call.status {
                    CallStatus::Running { attempt } => Some(Owed::Run { call: call.resolved.call.clone(), attempt }),
                    _ => None,
                });
                let probed = run.call_to_probe().map(|call| Owed::Probe { call: call.resolved.call.clone() });
                running.chain(probed).collect()
            }
            Step::Ready | Step::Ended { .. } => Vec::new(),
        };
        let deadline = run.waiting_calls().map(|call| call.resolved.deadline).chain(run.expires_at()).min();
        owed.extend(deadline.map(|at| Owed::Deadline { at }));
        owed
    }
}
