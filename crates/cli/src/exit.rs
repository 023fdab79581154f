//! How a command ends.

use std::process::ExitCode;

/// An error that has its own exit code. Everything else is 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A flag or a combination of flags that is refused.
    #[error("{0}")]
    Usage(String),
    /// What scripts know by a word.
    #[error("{text}")]
    Named {
        /// The word.
        code: &'static str,
        /// For people.
        text: String,
    },
    /// It waits for a person.
    #[error("it waits for an approval")]
    Paused,
    /// It took longer than it may.
    #[error("timed out")]
    TimedOut,
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Everything is said already.
    #[error("failed")]
    Silent,
    /// Everything is said already, and this is the exit code.
    #[error("exit code {0}")]
    Told(u8),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Paused => 10,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
            Self::Silent | Self::Named { .. } => 1,
            Self::Told(code) => *code,
        }
    }
}

/// Says what went wrong, with its causes, and tells the shell.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let failure = error.downcast_ref::<Failure>();
    let text = format!("{error:#}");
    match failure {
        Some(Failure::Silent | Failure::Told(_)) => {}
        _ if json => eprintln!("{}", serde_json::json!({ "error": text, "code": code_word(failure) })),
        _ => eprintln!("error: {text}"),
    }
    ExitCode::from(failure.map_or(1, Failure::code))
}

fn code_word(failure: Option<&Failure>) -> &'static str {
    match failure {
        Some(Failure::Usage(_)) => "invalid_argument",
        Some(Failure::Named { code, .. }) => code,
        Some(Failure::Paused) => "paused",
        Some(Failure::TimedOut) => "timed_out",
        Some(Failure::Interrupted) => "interrupted",
        Some(Failure::Silent | Failure::Told(_)) | None => "failed",
    }
}
