//! One unattended agent run through the server's public interface: session, message, events, decisions, outcome.
//!
//! Invariants: the outcome is the recorded state of the run, never the end of a stream; decisions go only to calls that the
//! server says are waiting; requests that get no answer are repeated under the same idempotency key.

mod decisions;
mod drive;
mod report;
mod retry;
mod spawn;

pub use decisions::build_tool_decisions;
pub(crate) use decisions::{WhenAsked, reject_unattended};
pub(crate) use drive::{
    DriveError, HandOver, Limits, Observer, Order, Progress, Way, call_off, drive, pause_reason, settle,
};
pub use report::{AgentError, AgentOutcome, AgentReport, AgentRequest, AgentResult};
pub use spawn::{AgentServerConnection, SpawnConfig, spawn_agent, spawn_agent_report};
