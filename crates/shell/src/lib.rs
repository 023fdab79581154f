//! What a bash command line would start: commands, redirections, and why it is not fully understood.
//!
//! * Pure: nothing is run, read or looked up. It never panics. Depth is bounded by the guard, and what is parsed by an
//!   estimate that is made before.
//! * A [`Line`] without doubts tells everything that bash would start for it. What is not certain is a [`Doubt`], and
//!   programs that may be started all the same are listed as [`Role::Possible`].
//! * It knows programs (which of them start others), and nothing of rules or approvals.

mod ansi_c;
mod arithmetic;
mod builtins;
mod guard;
mod invoke;
mod line;
mod options;
mod programs;
mod reader;
mod shells;
mod simple;
mod variables;
mod words;
mod work;
mod wrappers;

pub use line::{Command, Doubt, Line, Origin, Redirect, RedirectKind, Role, Word};
pub use options::{Candidates, candidates};
pub use variables::is_dangerous as is_dangerous_variable;

/// Reads a command line as bash would, `bash -c` style: no aliases, no extended globs, no history.
#[must_use]
pub fn read(text: &str) -> Line {
    reader::read(text)
}
