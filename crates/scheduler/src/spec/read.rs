//! From a document to the set: tables that concern all schedules, then the entries one by one.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use stakpak_config::{Codes, Document, Finding, Severity};

use super::{
    Catchup, Definition, OnCrash, Overlap, RetryOn, Schedule, ScheduleSet, TriggerOn,
    budget::RawShared,
    entry::{self, Entry, RawSchedule},
    notify::RawNotifications,
};
use crate::ledger::Retention;

/// Of an entry: one bad value disables that schedule.
const ENTRY_CODES: Codes =
    Codes { invalid: "E110", missing: "E101", reference: "E113", variant: "E114", duration: "E109" };
pub(super) const TABLE_CODES: Codes = Codes::all("E002");

/// Keys of the contract that do nothing yet; said once a key, so that nobody relies on them.
const DEFAULTS_NOT_YET: &[&str] = &["enable_slack_tools", "enable_subagents"];
const NOTIFICATIONS_NOT_YET: &[&str] = &["heartbeat_url", "heartbeat_every"];
const NO_EFFECT: &str = "no effect yet in this build";

/// `[defaults]`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Defaults {
    pub(super) profile: Option<String>,
    pub(super) model: Option<String>,
    pub(super) timezone: Option<String>,
    #[serde(default, with = "stakpak_config::duration::option")]
    pub(super) timeout: Option<Duration>,
    #[serde(default, with = "stakpak_config::duration::option")]
    pub(super) check_timeout: Option<Duration>,
    pub(super) trigger_on: Option<TriggerOn>,
    pub(super) workdir: Option<String>,
    pub(super) pause_on_approval: Option<bool>,
    #[serde(default, with = "stakpak_config::duration::option")]
    pub(super) approval_timeout: Option<Duration>,
    pub(super) sandbox: Option<bool>,
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
}

/// `[watch]`.
#[derive(Debug, Default, Deserialize)]
struct Watch {
    /// Of the process that opens the ledger and writes the log; here so that they are known.
    #[serde(rename = "db_path")]
    _db_path: Option<String>,
    #[serde(rename = "log_dir")]
    _log_dir: Option<String>,
    max_concurrent_runs: Option<usize>,
    #[serde(default, with = "stakpak_config::duration::option")]
    stop_grace: Option<Duration>,
    #[serde(default, with = "stakpak_config::duration::option")]
    history_retention: Option<Duration>,
    history_max_runs: Option<u32>,
}

pub(super) fn read(document: &Document, now: DateTime<Utc>) -> Result<ScheduleSet, Vec<Finding>> {
    let mut warnings = Vec::new();
    let defaults = document.table::<Defaults>(&["defaults"], TABLE_CODES, &mut warnings);
    let watch = document.table::<Watch>(&["watch"], TABLE_CODES, &mut warnings);
    let told = document.table::<RawNotifications>(&["notifications"], TABLE_CODES, &mut warnings);
    let told = told.and_then(|told| Ok((told.settings(document)?, told)));
    let entries = document.array::<RawSchedule>(&["schedules"], ENTRY_CODES, &mut warnings);
    let raw_budget = document.table::<RawShared>(&["budget"], TABLE_CODES, &mut warnings);
    let (defaults, watch, (notifications, told), entries, raw_budget) =
        match (defaults, watch, told, entries, raw_budget) {
            (Ok(defaults), Ok(watch), Ok(told), Ok(entries), Ok(budget)) => (defaults, watch, told, entries, budget),
            (defaults, watch, told, entries, budget) => {
                let found = [defaults.err(), watch.err(), told.err(), entries.err(), budget.err()];
                return Err(found.into_iter().flatten().collect());
            }
        };
    let budget = raw_budget.budget(document, &defaults)?;
    let standard = ScheduleSet::default();
    let max_concurrent_runs = watch.max_concurrent_runs.unwrap_or(standard.max_concurrent_runs);
    if max_concurrent_runs == 0 {
        let path = ["watch", "max_concurrent_runs"];
        return Err(vec![document.finding(&path, "E002", Severity::Error, "must be at least 1")]);
    }
    if watch.history_max_runs == Some(0) {
        let path = ["watch", "history_max_runs"];
        return Err(vec![document.finding(&path, "E002", Severity::Error, "must be at least 1")]);
    }

    warn_not_yet(document, &["defaults"], DEFAULTS_NOT_YET, &mut warnings);
    warn_not_yet(document, &["notifications"], NOTIFICATIONS_NOT_YET, &mut warnings);
    let mut places = HashMap::new();
    let mut schedules = Vec::new();
    let siblings = entries.len();
    for (place, read) in entries.into_iter().enumerate() {
        let index = place.to_string();
        let path = ["schedules", index.as_str()];
        warn_not_yet(document, &path, entry::NOT_YET, &mut warnings);
        let name = document.text(&[path[0], path[1], "name"]).unwrap_or_default().trim().to_owned();
        let definition = match read {
            Err(finding) => Definition::Invalid(vec![finding]),
            Ok((raw, _)) => {
                let entry = Entry { document, index: &index, defaults: &defaults, notifications: &told, siblings, now };
                let definition = entry.define(raw);
                if let Definition::Valid { spec, timing, .. } = &definition {
                    warnings.extend(entry.oddities(timing));
                    warnings.extend(entry.jitter_warning(spec.firing.jitter, timing));
                    warnings.extend(entry.check_warning(spec.check.as_ref()));
                    warnings.extend(entry.interaction_warning(spec));
                }
                definition
            }
        };
        let first = *places.entry(name.clone()).or_insert(place);
        let definition = refuse_duplicate(document, &index, definition, first != place);
        let location = document.locate(&path).unwrap_or(stakpak_config::Location { line: 1, column: 1 });
        schedules.push(Schedule { name, location, definition });
    }
    Ok(ScheduleSet {
        schedules,
        warnings,
        max_concurrent_runs,
        stop_grace: watch.stop_grace.unwrap_or(standard.stop_grace),
        retention: Retention {
            age: watch.history_retention.unwrap_or(standard.retention.age),
            runs: watch.history_max_runs.or(standard.retention.runs),
        },
        notifications,
        budget,
        places,
    })
}

/// The first entry of a name stays.
fn refuse_duplicate(document: &Document, index: &str, definition: Definition, duplicate: bool) -> Definition {
    if !duplicate {
        return definition;
    }
    let path = ["schedules", index, "name"];
    let finding = document.finding(&path, "E105", Severity::Error, "another schedule above has this name");
    match definition {
        Definition::Valid { .. } => Definition::Invalid(vec![finding]),
        Definition::Invalid(mut findings) => {
            findings.push(finding);
            Definition::Invalid(findings)
        }
    }
}

/// Known keys are not unknown ones, whatever the type that was read says; but nobody should think that they work.
fn warn_not_yet(document: &Document, table: &[&str], keys: &[&str], warnings: &mut Vec<Finding>) {
    for key in keys {
        let path: Vec<&str> = table.iter().chain([key]).copied().collect();
        if document.locate(&path).is_some() {
            let warning = document.finding(&path, "W302", Severity::Warning, NO_EFFECT);
            warnings.retain(|other| other.code != "W301" || other.path != warning.path);
            warnings.push(warning);
        }
    }
}
