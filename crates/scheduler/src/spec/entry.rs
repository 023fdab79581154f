//! One `[[schedules]]` entry: what it says is checked in full, so that all that is wrong is known at once.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Days, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use stakpak_config::{Document, Finding, Severity};

use super::{Definition, ScheduleSpec, read::Defaults};
use crate::cron::Cron;

/// Keys of the contract that do nothing yet and whose absence is harmless.
pub(super) const NOT_YET: &[&str] = &[
    "check_args",
    "check_env",
    "check_timeout",
    "trigger_on",
    "interaction",
    "approval_timeout",
    "overlap",
    "queue_limit",
    "catchup",
    "catchup_window",
    "catchup_limit",
    "jitter",
    "retries",
    "retry_backoff",
    "retry_max_delay",
    "retry_on",
    "pause_after_failures",
    "on_crash",
    "exclusive_group",
    "notify_on",
    "notify_channel",
    "notify_target",
    "notify_chat_id",
    "channel",
    "board_id",
    "enable_slack_tools",
    "enable_subagents",
];

const LONGEST_NAME: usize = 128;
const MAX_TURNS: std::ops::RangeInclusive<u64> = 1..=256;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// An expression without an instant in this time is a mistake.
const SEARCHED: Days = Days::new(20 * 366);

/// An entry as written. Values of keys that are refused or ignored are not looked at.
#[derive(Debug, Deserialize)]
pub(super) struct RawSchedule {
    name: Option<String>,
    cron: Option<String>,
    every: Option<serde::de::IgnoredAny>,
    at: Option<serde::de::IgnoredAny>,
    timezone: Option<String>,
    prompt: Option<String>,
    prompt_file: Option<serde::de::IgnoredAny>,
    enabled: Option<bool>,
    check: Option<serde::de::IgnoredAny>,
    profile: Option<String>,
    model: Option<String>,
    #[serde(default, with = "stakpak_config::duration::option")]
    timeout: Option<Duration>,
    #[serde(alias = "max_steps")]
    max_turns: Option<u64>,
    workdir: Option<String>,
    sandbox: Option<bool>,
    pause_on_approval: Option<bool>,
    budget: Option<serde::de::IgnoredAny>,
}

/// The place of an entry and what it inherits.
pub(super) struct Entry<'a> {
    pub(super) document: &'a Document,
    pub(super) index: &'a str,
    pub(super) defaults: &'a Defaults,
    pub(super) now: DateTime<Utc>,
}

impl Entry<'_> {
    pub(super) fn define(&self, raw: RawSchedule) -> Definition {
        let mut findings = self.unguarded(&raw);
        let name = self.name(raw.name.as_deref(), &mut findings);
        let timezone = self.timezone(raw.timezone.as_deref(), &mut findings);
        let expression = self.expression(&raw, &mut findings);
        let prompt = self.prompt(raw.prompt, raw.prompt_file.is_some(), &mut findings);
        let timeout = raw.timeout.or(self.defaults.timeout).unwrap_or(DEFAULT_TIMEOUT);
        if timeout.is_zero() {
            findings.push(self.error("timeout", "E110", "must be longer than nothing"));
        }
        if raw.max_turns.is_some_and(|turns| !MAX_TURNS.contains(&turns)) {
            findings.push(self.error("max_turns", "E110", "must be between 1 and 256"));
        }
        let cron = match (&expression, timezone) {
            (Some(expression), Some(zone)) => self.cron(expression, zone, &mut findings),
            _ => None,
        };
        let (Some(name), Some(timezone), Some(expression), Some(prompt), Some(cron), true) =
            (name, timezone, expression, prompt, cron, findings.is_empty())
        else {
            return Definition::Invalid(findings);
        };
        let profile = raw.profile.or_else(|| self.defaults.profile.clone());
        let spec = ScheduleSpec {
            name,
            cron: expression,
            timezone,
            prompt,
            enabled: raw.enabled.unwrap_or(true),
            profile: profile.unwrap_or_else(|| "default".to_owned()),
            model: raw.model.or_else(|| self.defaults.model.clone()),
            timeout,
            max_turns: raw.max_turns,
            workdir: raw.workdir.or_else(|| self.defaults.workdir.clone()).map(|path| below_home(&path)),
            pause_on_approval: raw.pause_on_approval.or(self.defaults.pause_on_approval).unwrap_or(false),
        };
        Definition::Valid { spec: Arc::new(spec), cron }
    }

    /// Guards that this build does not have: refusing is the only safe way to not have them.
    fn unguarded(&self, raw: &RawSchedule) -> Vec<Finding> {
        let mut findings = Vec::new();
        if raw.check.is_some() {
            let text = "checks are not supported yet in this build; the schedule is not run without its check";
            findings.push(self.error("check", "E108", text));
        }
        if raw.budget.is_some() || self.document.locate(&["budget"]).is_some() {
            let text = "budgets are not enforced yet in this build; the schedule is not run without its budget";
            findings.push(self.error("budget", "E110", text));
        }
        if raw.sandbox.or(self.defaults.sandbox) == Some(true) {
            let text = "sandboxes are not supported yet in this build; the schedule is not run unprotected";
            findings.push(self.error("sandbox", "E110", text));
        }
        findings
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

    fn timezone(&self, own: Option<&str>, findings: &mut Vec<Finding>) -> Option<Tz> {
        let written = own.or(self.defaults.timezone.as_deref()).unwrap_or("UTC").trim();
        let host = || iana_time_zone::get_timezone().ok();
        let zone = match written {
            "local" => host().and_then(|name| name.parse().ok()),
            name => name.parse().ok(),
        };
        if zone.is_none() {
            let text = match written {
                "local" => "the host's time zone cannot be found out; name one, such as Europe/Berlin".to_owned(),
                name => {
                    format!("unknown time zone {name:?}, expected an IANA name such as Europe/Berlin, or \"local\"")
                }
            };
            findings.push(self.error("timezone", "E104", &text));
        }
        zone
    }

    fn expression(&self, raw: &RawSchedule, findings: &mut Vec<Finding>) -> Option<String> {
        let others = [("every", raw.every.is_some()), ("at", raw.at.is_some())];
        for (key, _) in others.into_iter().filter(|(_, present)| *present) {
            let text = match raw.cron {
                Some(_) => "exactly one of `cron`, `every` and `at` can be set",
                None => "not supported yet in this build; use `cron`",
            };
            findings.push(self.error(key, "E112", text));
        }
        match raw.cron.as_deref().map(str::trim) {
            Some("") => findings.push(self.error("cron", "E101", "is blank")),
            Some(expression) => return Some(expression.to_owned()),
            None if others.iter().any(|(_, present)| *present) => {}
            None => findings.push(self.error("cron", "E101", "required key is missing")),
        }
        None
    }

    fn prompt(&self, prompt: Option<String>, file: bool, findings: &mut Vec<Finding>) -> Option<String> {
        if file {
            findings.push(self.error("prompt_file", "E101", "not supported yet in this build; use `prompt`"));
        }
        let prompt = prompt.filter(|prompt| !prompt.trim().is_empty());
        if prompt.is_none() && !file {
            findings.push(self.error("prompt", "E101", "required key is missing or blank"));
        }
        prompt
    }

    fn cron(&self, expression: &str, zone: Tz, findings: &mut Vec<Finding>) -> Option<Cron> {
        let cron = match Cron::parse(expression, zone) {
            Ok(cron) => cron,
            Err(error) => {
                findings.push(self.error("cron", "E102", &error.to_string()));
                return None;
            }
        };
        let horizon = self.now.checked_add_days(SEARCHED)?;
        if cron.next_after(self.now).is_none_or(|first| first > horizon) {
            findings.push(self.error("cron", "E103", "never fires in the next 20 years"));
            return None;
        }
        Some(cron)
    }

    fn error(&self, key: &str, code: &'static str, text: &str) -> Finding {
        self.document.finding(&["schedules", self.index, key], code, Severity::Error, text)
    }
}

fn below_home(path: &str) -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    match path.strip_prefix("~/") {
        Some(rest) if !home.is_empty() => format!("{}/{rest}", home.trim_end_matches('/')),
        _ => path.to_owned(),
    }
}
