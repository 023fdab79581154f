//! One `[[schedules]]` entry: what it says is checked in full, so that all that is wrong is known at once.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use stakpak_config::{Document, Finding, Severity};

use super::{
    Catchup, Definition, Interaction, NotifyOn, OnCrash, Overlap, Platform, Prompt, RetryOn, ScheduleSpec, TriggerOn,
    budget::RawBudget, notify::RawNotifications, read::Defaults,
};

/// Keys of the contract that do nothing yet and whose absence is harmless.
pub(super) const NOT_YET: &[&str] = &["enable_slack_tools", "enable_subagents"];

const LONGEST_NAME: usize = 128;
const MAX_TURNS: std::ops::RangeInclusive<u64> = 1..=256;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Of a schedule that does not say.
pub(super) fn approval_timeout() -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

/// An entry as written. Values of keys that are refused or ignored are not looked at.
#[derive(Debug, Deserialize)]
pub(super) struct RawSchedule {
    name: Option<String>,
    pub(super) cron: Option<String>,
    pub(super) every: Option<String>,
    pub(super) at: Option<String>,
    timezone: Option<String>,
    prompt: Option<String>,
    prompt_file: Option<String>,
    enabled: Option<bool>,
    pub(super) check: Option<String>,
    pub(super) check_args: Option<Vec<String>>,
    pub(super) check_env: Option<Vec<String>>,
    #[serde(default, with = "stakpak_config::duration::option")]
    pub(super) check_timeout: Option<Duration>,
    pub(super) trigger_on: Option<TriggerOn>,
    profile: Option<String>,
    model: Option<String>,
    #[serde(default, with = "stakpak_config::duration::option")]
    timeout: Option<Duration>,
    #[serde(alias = "max_steps")]
    max_turns: Option<u64>,
    workdir: Option<String>,
    sandbox: Option<bool>,
    interaction: Option<Interaction>,
    pause_on_approval: Option<bool>,
    #[serde(default, with = "stakpak_config::duration::option")]
    approval_timeout: Option<Duration>,
    pub(super) budget: Option<RawBudget>,
    board_id: Option<String>,
    pub(super) overlap: Option<Overlap>,
    pub(super) queue_limit: Option<u32>,
    pub(super) catchup: Option<Catchup>,
    pub(super) catchup_window: Option<String>,
    pub(super) catchup_limit: Option<u32>,
    #[serde(default, with = "stakpak_config::duration::option")]
    pub(super) jitter: Option<Duration>,
    pub(super) pause_after_failures: Option<u32>,
    pub(super) retries: Option<u32>,
    #[serde(default, with = "stakpak_config::duration::option")]
    pub(super) retry_backoff: Option<Duration>,
    #[serde(default, with = "stakpak_config::duration::option")]
    pub(super) retry_max_delay: Option<Duration>,
    pub(super) retry_on: Option<RetryOn>,
    pub(super) on_crash: Option<OnCrash>,
    pub(super) exclusive_group: Option<String>,
    pub(super) notify_on: Option<NotifyOn>,
    pub(super) notify_channel: Option<Platform>,
    pub(super) notify_target: Option<serde_json::Value>,
    pub(super) notify_chat_id: Option<serde_json::Value>,
    /// An older name of the target.
    pub(super) channel: Option<serde_json::Value>,
}

/// The place of an entry and what it inherits.
pub(super) struct Entry<'a> {
    pub(super) document: &'a Document,
    pub(super) index: &'a str,
    pub(super) defaults: &'a Defaults,
    pub(super) notifications: &'a RawNotifications,
    /// Entries of the file.
    pub(super) siblings: usize,
    pub(super) now: DateTime<Utc>,
}

impl Entry<'_> {
    pub(super) fn define(&self, raw: RawSchedule) -> Definition {
        let mut findings = Vec::new();
        let budget = self.budget(&raw, &mut findings);
        let name = self.name(raw.name.as_deref(), &mut findings);
        let timezone = self.timezone(raw.timezone.as_deref(), &mut findings);
        let when = self.when(&raw, timezone, &mut findings);
        let firing = self.firing(&raw, &mut findings);
        let check = self.check(&raw, &mut findings);
        let notify = self.notify(&raw, &mut findings);
        let prompt = self.prompt(raw.prompt, raw.prompt_file, &mut findings);
        let interaction = self.interaction(raw.interaction, prompt.as_ref(), &notify);
        let timeout = raw.timeout.or(self.defaults.timeout).unwrap_or(DEFAULT_TIMEOUT);
        if timeout.is_zero() {
            findings.push(self.error("timeout", "E110", "must be longer than nothing"));
        }
        let approval_timeout = raw.approval_timeout.or(self.defaults.approval_timeout).unwrap_or_else(approval_timeout);
        if approval_timeout.is_zero() {
            findings.push(self.error("approval_timeout", "E110", "must be longer than nothing"));
        }
        if raw.max_turns.is_some_and(|turns| !MAX_TURNS.contains(&turns)) {
            findings.push(self.error("max_turns", "E110", "must be between 1 and 256"));
        }
        let (Some(name), Some(timezone), Some((when, timing)), Some(prompt), true) =
            (name, timezone, when, prompt, findings.is_empty())
        else {
            return Definition::Invalid(findings);
        };
        let profile = raw.profile.or_else(|| self.defaults.profile.clone());
        let spec = ScheduleSpec {
            name,
            when,
            timezone,
            prompt,
            enabled: raw.enabled.unwrap_or(true),
            check,
            profile: profile.unwrap_or_else(|| "default".to_owned()),
            model: raw.model.or_else(|| self.defaults.model.clone()),
            timeout,
            max_turns: raw.max_turns,
            workdir: raw.workdir.or_else(|| self.defaults.workdir.clone()).map(|path| below_home(&path)),
            firing,
            sandbox: raw.sandbox.or(self.defaults.sandbox).unwrap_or(false),
            interaction,
            pause_on_approval: raw.pause_on_approval.or(self.defaults.pause_on_approval).unwrap_or(false),
            approval_timeout,
            board_id: raw.board_id,
            notify,
            budget,
        };
        let past = self.past(&timing);
        Definition::Valid { spec: Arc::new(spec), timing, past }
    }

    fn name(&self, name: Option<&str>, findings: &mut Vec<Finding>) -> Option<String> {
        let Some(name) = name.map(str::trim) else {
            findings.push(self.error("name", "E101", "required key is missing"));
            return None;
        };
        let problem = match name {
            "" => "is empty",
            "__config_reload__" => "is reserved",
            _ if name.chars().count() > LONGEST_NAME => "is longer than 128 characters",
            _ if name.chars().any(char::is_control) => "holds control characters",
            _ => return Some(name.to_owned()),
        };
        findings.push(self.error("name", "E106", problem));
        None
    }

    fn prompt(&self, prompt: Option<String>, file: Option<String>, findings: &mut Vec<Finding>) -> Option<Prompt> {
        let (key, text) = match (prompt, file) {
            (Some(_), Some(_)) => {
                findings.push(self.error("prompt_file", "E110", "`prompt` and `prompt_file` cannot both be set"));
                return None;
            }
            (None, Some(file)) => ("prompt_file", file),
            (prompt, None) => ("prompt", prompt.unwrap_or_default()),
        };
        if text.trim().is_empty() {
            findings.push(self.error(key, "E101", "required key is missing or blank"));
            return None;
        }
        Some(match key {
            "prompt_file" => Prompt::File(below_home(text.trim())),
            _ => Prompt::Text(text),
        })
    }

    pub(super) fn error(&self, key: &str, code: &'static str, text: &str) -> Finding {
        self.document.finding(&["schedules", self.index, key], code, Severity::Error, text)
    }
}

pub(super) fn below_home(path: &str) -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    match path.strip_prefix("~/") {
        Some(rest) if !home.is_empty() => format!("{}/{rest}", home.trim_end_matches('/')),
        _ => path.to_owned(),
    }
}
