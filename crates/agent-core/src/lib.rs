//! The agent: a session machine, the turn loop that drives it, approvals, and the ports it needs.
//!
//! It knows neither HTTP nor SQL, nor which provider answers, nor which platform asks.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod session;

mod agent;
mod approving;
mod context;
mod merged;
mod policy;
mod port;
mod record;
mod view;

pub use agent::{
    Agent, AgentConfig, Days, Job, Publisher, ReceiptFor, RequestError, Resident, Slots, Start, is_note, run_agent,
};
pub use approving::approval_of;
pub use context::{Compaction, ContextState, Cut, Measured, Plan, Shrinking, digest};
pub use merged::{MergedRow, event_after, event_time, merge_deltas, merged_ids};
pub use policy::{KeyError, OWN_PREFIX, Policy, Subject, Verdict, check_key, full_name};
pub use port::*;
pub use record::{CallEnd, LimitKeys, ModelTerms, Record, ResolvedCall, RunAccepted};
pub use session::NoProgress;
