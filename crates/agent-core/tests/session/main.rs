//! The session machine, without a driver: what is decided, what is recorded, what is owed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod commands;
mod compacting;
mod decisions;
mod denied;
mod ending;
mod fallback;
mod lifecycle;
mod limits;
mod machine;
mod properties;
mod questions;
mod queueing;
mod recovery;
mod repeating;
mod results;
mod retrying;
mod snapshots;
