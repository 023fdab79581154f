//! The one redactor behind every sink: what a model, a log, an event, a chat or a file may not see becomes
//! [`REDACTED`].
//!
//! Two sources say what that is: the secret values this process knows ([`Redactor::new`]), and rules for the shapes
//! that well-known tokens have. The crate does not know where text comes from or goes.

mod known;
mod rules;

mod redactor;

pub use known::BuildError;
pub use redactor::{REDACTED, Redactor};
