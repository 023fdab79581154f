//! Check scripts: run before the agent, they say whether it is wanted and what it is told.
//!
//! Invariants: a script gets its time and no more, whatever it does to signals, children and pipes; what is kept of its output
//! is bounded and redacted before anybody sees it; it sees no variable that may hold a secret unless its schedule names it.

mod environment;
mod file;
mod output;
mod process;

use std::{io, os::unix::process::ExitStatusExt, path::Path, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use stakpak_redact::Redactor;
use tokio::process::Command;

pub(crate) use file::{FileProblem, examine};
pub(crate) use output::shortened;

use crate::{ledger::RunNumber, spec::Check};

/// What a script did. Its output is redacted, and cut in the middle when it is long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// None when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It was ended at its time limit.
    pub timed_out: bool,
    /// At most 128 KiB.
    pub stdout: String,
    /// At most 128 KiB.
    pub stderr: String,
    /// Something of the output was left out.
    pub truncated: bool,
}

impl CheckResult {
    /// How it ended, in words.
    pub(crate) fn ending(&self) -> String {
        match (self.exit_code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "no exit code".to_owned(),
        }
    }
}

/// Why a script did not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("check {path} {problem}")]
    File { path: String, problem: FileProblem },
    #[error("check {path} cannot be started: its working directory {directory} does not exist")]
    Directory { path: String, directory: String },
    #[error("check {path} cannot be started")]
    Start {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// For which run a script is run, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occasion<'a> {
    pub(crate) schedule: &'a str,
    pub(crate) run: RunNumber,
    pub(crate) nominal_at: Option<DateTime<Utc>>,
    /// None: the home directory.
    pub(crate) workdir: Option<&'a str>,
}

/// Runs the script. Dropped before its end, it kills the script's process group.
pub(crate) async fn run(
    check: &Check,
    occasion: Occasion<'_>,
    credentials: &[String],
    redactor: &Redactor,
) -> Result<CheckResult, CheckError> {
    let path = || check.path.clone();
    examine(Path::new(&check.path)).map_err(|problem| CheckError::File { path: path(), problem })?;
    let home = std::env::home_dir().map_or_else(|| "/".to_owned(), |home| home.to_string_lossy().into_owned());
    let directory = occasion.workdir.unwrap_or(&home);
    if !Path::new(directory).is_dir() {
        return Err(CheckError::Directory { path: path(), directory: directory.to_owned() });
    }
    let nominal_at = occasion.nominal_at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
    let mut command = Command::new(&check.path);
    command
        .args(&check.args)
        .current_dir(directory)
        .env_clear()
        .envs(environment::without_secrets(std::env::vars_os(), &check.env, credentials))
        .env("STAKPAK_SCHEDULE", occasion.schedule)
        .env("STAKPAK_RUN_ID", occasion.run.to_string())
        .env("STAKPAK_NOMINAL_AT", nominal_at.unwrap_or_default());
    let ended =
        process::run(command, check.timeout).await.map_err(|source| CheckError::Start { path: path(), source })?;
    let stdout = ended.stdout.into_text(redactor);
    let stderr = ended.stderr.into_text(redactor);
    Ok(CheckResult {
        exit_code: ended.status.and_then(|status| status.code()),
        signal: ended.status.and_then(|status| status.signal()),
        timed_out: ended.timed_out,
        truncated: stdout.truncated || stderr.truncated,
        stdout: stdout.text,
        stderr: stderr.text,
    })
}

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
