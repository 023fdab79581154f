//! The one redactor behind every sink: what a model, a log, an event, a chat or a file may not see becomes
//! [`REDACTED`], or a placeholder if a session has met it and may need it again.
//!
//! Three sources say what that is: the secret values this process knows ([`Redactor::new`]), those a session has met
//! ([`Vaults`]), and rules. The crate does not know where text comes from or goes.

mod known;
mod placeholder;
mod rules;

mod redactor;
mod stream;
mod vault;
mod vaults;

pub use known::BuildError;
pub use placeholder::{Placeholder, placeholders, replace_placeholders};
pub use redactor::{PortableRedactor, REDACTED, Redactor};
pub use rules::{CustomRule, RuleError};
pub use stream::Stream;
pub use vaults::{Grant, PortableVaults, RestoreError, Vaults};
