//! What the agent needs from the outside, as object-safe traits: models, tools, the journal, a clock.
//!
//! Each port says what its implementations must guarantee; the journal's is held by the conformance suite.

mod clock;
mod journal;
mod model;
mod sandbox;
mod secrets;
mod spending;
mod tool;
mod upkeep;

pub use clock::{Clock, SystemClock};
pub use journal::{
    Append, EventRecord, Journal, JournalError, NewSession, Receipt, Row, RowClass, SessionCursor, SessionPage,
    SessionQuery, SessionRow, Snapshot,
};
pub use model::{
    Effort, ErrorClass, Model, ModelAnswer, ModelError, ModelEvent, ModelRequest, ModelStream, Models, Profile,
    ProfileError, Profiles, Purpose, Reasoning, Replay, Takes, UnknownModel, longest_answer,
};
pub use sandbox::{Sandbox, SandboxLevel, SandboxUnavailable};
pub(crate) use secrets::SessionSecrets;
pub use secrets::{HiddenStream, NoSecrets, SecretGrant, SecretRefused, Secrets};
pub use spending::{Calendar, DayBudget, Spending, Spent};
pub use tool::{Effect, InvalidCall, Place, Probe, Probed, ToolCall, ToolContext, ToolOutcome, ToolSpec, Tools};
pub use upkeep::{Progress, Retention, Upkeep};
