//! Schedules as `autopilot.toml` defines them.
//!
//! Invariants: a wrong entry is invalid by itself and leaves its siblings alone; an entry whose safety rests on something this
//! build does not do is invalid, never run without it.

mod budget;
mod check;
mod entry;
mod firing;
mod interaction;
mod notify;
mod read;
mod when;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stakpak_config::{Document, Finding, Location};

pub(crate) use budget::day_start;
pub use budget::{Budget, DayLimits, SharedBudget};
pub use check::{Check, TriggerOn};
pub use firing::{Catchup, Firing, OnCrash, Overlap, RetryOn};
pub use interaction::Interaction;
pub(crate) use notify::shown as shown_route;
pub use notify::{Notifications, Notify, NotifyMode, NotifyOn, Platform, RemoteGateway, Route};

use crate::{fire::hex, ledger::Retention, timing::Timing};

/// What one schedule runs, and when. Stored with each run, so that a run keeps the version it was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// Identity in the ledger.
    pub name: String,
    /// When, as written.
    #[serde(flatten)]
    pub when: When,
    /// The zone that times are read and shown in.
    pub timezone: Tz,
    /// The user message.
    #[serde(flatten)]
    pub prompt: Prompt,
    /// Whether it fires by itself.
    pub enabled: bool,
    /// What runs before the agent, and says whether it is wanted.
    #[serde(default)]
    pub check: Option<Check>,
    /// Profile of its runs.
    pub profile: String,
    /// `provider/id` or `id`; none: what the profile says.
    pub model: Option<String>,
    /// Wall time of a run, time spent waiting for a person not counted.
    #[serde(with = "stakpak_config::duration")]
    pub timeout: Duration,
    /// 1 to 256; none: the server's own.
    pub max_turns: Option<u64>,
    /// Directory of its tools; none: the server's own.
    pub workdir: Option<String>,
    /// Fires that overlap, come late, or fail.
    #[serde(default)]
    pub firing: Firing,
    /// Whether it must be isolated; without isolation it fails.
    #[serde(default)]
    pub sandbox: bool,
    /// Whether its runs take place in its chat.
    #[serde(default)]
    pub interaction: Interaction,
    /// Whether a call that policy asks about waits for a person.
    pub pause_on_approval: bool,
    /// How long it waits; then what nobody decided about is rejected.
    #[serde(default = "entry::approval_timeout", with = "stakpak_config::duration")]
    pub approval_timeout: Duration,
    /// The board that the agent is told of.
    #[serde(default)]
    pub board_id: Option<String>,
    /// Who is told what became of it.
    #[serde(default)]
    pub notify: Notify,
    /// What its runs may use.
    #[serde(default)]
    pub budget: Budget,
}

/// When a schedule fires, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// An expression.
    Cron(String),
    /// An interval.
    Every(#[serde(with = "stakpak_config::duration")] Duration),
    /// Once.
    At(DateTime<Utc>),
}

impl When {
    /// The expression, if it is one.
    #[must_use]
    pub fn cron(&self) -> Option<&str> {
        match self {
            Self::Cron(expression) => Some(expression),
            Self::Every(_) | Self::At(_) => None,
        }
    }
}

/// The expression; `every 5m`; `at` an instant.
impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(expression) => f.write_str(expression),
            Self::Every(every) => write!(f, "every {}", stakpak_config::duration::show(*every)),
            Self::At(at) => write!(f, "at {}", at.to_rfc3339_opts(SecondsFormat::Secs, true)),
        }
    }
}

/// Where the user message comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prompt {
    /// The definition.
    #[serde(rename = "prompt")]
    Text(String),
    /// A file, read at each fire.
    #[serde(rename = "prompt_file")]
    File(String),
}

impl ScheduleSpec {
    /// Hash of all that decides when it fires: a change starts its cursor anew.
    pub(crate) fn timing_hash(&self) -> String {
        hex(&Sha256::digest(format!("{}\n{}\n{}", self.when, self.timezone, self.enabled)))
    }
}

/// One `[[schedules]]` entry.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// As written; empty when there is none.
    pub name: String,
    /// Where the entry begins.
    pub location: Location,
    /// What it says.
    pub definition: Definition,
}

/// What an entry says.
#[derive(Debug, Clone)]
pub enum Definition {
    /// It can run.
    Valid {
        /// What, and how.
        spec: Arc<ScheduleSpec>,
        /// When.
        timing: Timing,
        /// Why it is invalid all the same, if the ledger has never seen it: its only instant has passed.
        past: Option<Finding>,
    },
    /// It cannot, for these reasons.
    Invalid(Vec<Finding>),
}

/// All schedules of a file, in its order.
#[derive(Debug, Clone)]
pub struct ScheduleSet {
    /// The entries, invalid ones too.
    pub schedules: Vec<Schedule>,
    /// What is odd but stops nothing.
    pub warnings: Vec<Finding>,
    /// Agent runs at once.
    pub max_concurrent_runs: usize,
    /// How long a cancel may take to be confirmed.
    pub stop_grace: Duration,
    /// How much history is kept.
    pub retention: Retention,
    /// How notifications are sent.
    pub notifications: Notifications,
    /// What all schedules together may use.
    pub budget: SharedBudget,
    /// Where the first entry of each name is.
    places: HashMap<String, usize>,
}

impl Default for ScheduleSet {
    fn default() -> Self {
        Self {
            schedules: Vec::new(),
            warnings: Vec::new(),
            max_concurrent_runs: 4,
            stop_grace: Duration::from_secs(30),
            retention: Retention::default(),
            notifications: Notifications::default(),
            budget: SharedBudget::default(),
            places: HashMap::new(),
        }
    }
}

impl ScheduleSet {
    /// Reads `[watch]`, `[defaults]`, `[budget]`, `[notifications]` and `[[schedules]]`. `now` is where the search for a first instant begins.
    ///
    /// # Errors
    /// When the file as a whole cannot be used: a bad value in a table that concerns all schedules.
    pub fn read(document: &Document, now: DateTime<Utc>) -> Result<Self, Vec<Finding>> {
        read::read(document, now)
    }

    /// The first entry of that name: later ones are invalid.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Schedule> {
        self.schedules.get(*self.places.get(name)?)
    }

    /// Whether any of them has a check.
    pub(crate) fn has_checks(&self) -> bool {
        let checks = |schedule: &Schedule| matches!(&schedule.definition, Definition::Valid { spec, .. } if spec.check.is_some());
        self.schedules.iter().any(checks)
    }

    /// Errors of all invalid entries, in the order of the file.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.schedules.iter().flat_map(|schedule| match &schedule.definition {
            Definition::Valid { .. } => [].iter(),
            Definition::Invalid(findings) => findings.iter(),
        })
    }
}
