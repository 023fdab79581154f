//! Tool calls that wait for a person: what policy decides, who is asked, and what they said.
//!
//! * An approval is decided once, by somebody who may, for exactly the arguments that were shown.
//! * It is in the store before it is in a chat, and its decision before the server hears of it; so a restart changes
//!   nothing, and no answer in time is a denial.
//! * Nothing but a press, a command or the operator decides; what somebody writes meanwhile waits.

mod ask;
mod buttons;
mod call;
mod desk;
mod due;
mod policy;
mod prompt;
mod tell;

pub use buttons::parse_approval_callback;
pub(crate) use buttons::{Act, Which, parse};
pub(crate) use call::Call;
pub(crate) use desk::{Approvals, Desk, DeskError};
pub(crate) use policy::{ApprovalPolicy, run_policy};
