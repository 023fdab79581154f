//! The keys of a check: which script says whether the agent is wanted, and how it is run.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use stakpak_config::{Finding, Severity};

use super::entry::{Entry, RawSchedule, below_home};
use crate::check::{CheckResult, examine};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A script that runs before the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Absolute path of the script, run directly.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables that it sees although they may hold secrets.
    pub env: Vec<String>,
    /// Then it is ended.
    #[serde(with = "stakpak_config::duration")]
    pub timeout: Duration,
    /// When the agent runs.
    pub trigger_on: TriggerOn,
}

/// Which end of a check starts the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerOn {
    /// Exit code 0.
    Success,
    /// Any other exit code, or a signal.
    #[default]
    Failure,
    /// Both.
    Any,
}

impl TriggerOn {
    /// Whether the agent runs. A script that was ended at its limit starts nothing.
    pub(crate) fn wants(self, check: &CheckResult) -> bool {
        let succeeded = check.exit_code == Some(0);
        !check.timed_out
            && match self {
                Self::Success => succeeded,
                Self::Failure => !succeeded,
                Self::Any => true,
            }
    }
}

impl Entry<'_> {
    pub(super) fn check(&self, raw: &RawSchedule, findings: &mut Vec<Finding>) -> Option<Check> {
        let timeout = raw.check_timeout.or(self.defaults.check_timeout).unwrap_or(DEFAULT_TIMEOUT);
        if timeout.is_zero() {
            findings.push(self.error("check_timeout", "E110", "must be longer than nothing"));
        }
        let written = raw.check.as_deref()?.trim();
        if written.is_empty() {
            findings.push(self.error("check", "E108", "is blank"));
            return None;
        }
        let path = below_home(written);
        let path = std::path::absolute(&path).map_or(path, |path| path.to_string_lossy().into_owned());
        if let Err(problem) = examine(Path::new(&path)) {
            findings.push(self.error("check", "E108", &format!("{path} {problem}")));
        }
        Some(Check {
            path,
            args: raw.check_args.clone().unwrap_or_default(),
            env: raw.check_env.clone().unwrap_or_default(),
            timeout,
            trigger_on: raw.trigger_on.or(self.defaults.trigger_on).unwrap_or_default(),
        })
    }

    /// A script that its whole group can change.
    pub(super) fn check_warning(&self, check: Option<&Check>) -> Option<Finding> {
        let script = examine(Path::new(&check?.path)).ok()?;
        script.group_writable.then(|| {
            let text = "can be changed by its whole group; take that away with chmod g-w";
            self.document.finding(&["schedules", self.index, "check"], "W306", Severity::Warning, text)
        })
    }
}
