//! How a schedule fires: what happens to fires that meet a run under way, that come late, that come all at once, or that fail.

use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use stakpak_config::{Finding, Severity, duration};

use super::entry::{Entry, RawSchedule};
use crate::timing::Timing;

/// Shorter windows would miss what is merely slow.
const SHORTEST_WINDOW: Duration = Duration::from_secs(10);
const QUEUE_LIMIT: std::ops::RangeInclusive<u32> = 1..=10_000;
const MOST_RETRIES: u32 = 100;
const CATCHUP_LIMIT: std::ops::RangeInclusive<u32> = 1..=1000;
/// Fires that are looked at to find the shortest gap between two: of one schedule, and of all together, so that thousands of
/// schedules do not hold up the start.
const LOOKED_AT: usize = 500;
const LOOKED_AT_IN_ALL: usize = 20_000;

/// What a fire does while a run of the schedule is active.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is left out.
    #[default]
    Skip,
    /// One waits, further ones are left out.
    QueueOne,
    /// All wait, up to `queue_limit`.
    QueueAll,
    /// The active run is cancelled first.
    CancelRunning,
}

/// Which late instants fire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Catchup {
    /// The newest.
    #[default]
    Latest,
    /// Those inside the window, at most `catchup_limit`.
    All,
    /// None.
    None,
}

/// Which failures are tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// Those that the server calls passing, if no tool with side effects was started.
    #[default]
    Safe,
    /// Every failure of the agent, and its time limit.
    Any,
}

/// What becomes of a run that is under way when the process dies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCrash {
    /// It goes on.
    #[default]
    Resume,
    /// It is cancelled, and has failed.
    Fail,
}

/// The policies of one schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Firing {
    /// While a run is active.
    pub overlap: Overlap,
    /// Fires that wait under `queue_all`.
    pub queue_limit: u32,
    /// When late.
    pub catchup: Catchup,
    /// How late is too late; none: half the distance to the next instant, from two minutes to two hours.
    #[serde(with = "stakpak_config::duration::option")]
    pub catchup_window: Option<Duration>,
    /// Late fires under `all`.
    pub catchup_limit: u32,
    /// Fires are spread over this time.
    #[serde(with = "stakpak_config::duration")]
    pub jitter: Duration,
    /// Schedules of one group never run at the same time.
    pub exclusive_group: Option<String>,
    /// So many failures in a row pause the schedule; 0: never.
    pub pause_after_failures: u32,
    /// Further attempts of a run.
    pub retries: u32,
    /// Before the second attempt; doubles for each further one.
    #[serde(with = "stakpak_config::duration")]
    pub retry_backoff: Duration,
    /// At most this.
    #[serde(with = "stakpak_config::duration")]
    pub retry_max_delay: Duration,
    /// After which failures.
    pub retry_on: RetryOn,
    /// When the process dies meanwhile.
    pub on_crash: OnCrash,
}

impl Default for Firing {
    fn default() -> Self {
        Self {
            overlap: Overlap::default(),
            queue_limit: 100,
            catchup: Catchup::default(),
            catchup_window: None,
            catchup_limit: 10,
            jitter: Duration::ZERO,
            exclusive_group: None,
            pause_after_failures: 5,
            retries: 0,
            retry_backoff: Duration::from_secs(30),
            retry_max_delay: Duration::from_secs(15 * 60),
            retry_on: RetryOn::default(),
            on_crash: OnCrash::default(),
        }
    }
}

impl Entry<'_> {
    pub(super) fn firing(&self, raw: &RawSchedule, findings: &mut Vec<Finding>) -> Firing {
        let (defaults, standard) = (self.defaults, Firing::default());
        let window = raw.catchup_window.as_ref().or(defaults.catchup_window.as_ref());
        let firing = Firing {
            overlap: raw.overlap.or(defaults.overlap).unwrap_or_default(),
            queue_limit: raw.queue_limit.or(defaults.queue_limit).unwrap_or(standard.queue_limit),
            catchup: raw.catchup.or(defaults.catchup).unwrap_or_default(),
            catchup_window: window.and_then(|text| self.window(text, findings)),
            catchup_limit: raw.catchup_limit.or(defaults.catchup_limit).unwrap_or(standard.catchup_limit),
            jitter: raw.jitter.or(defaults.jitter).unwrap_or_default(),
            exclusive_group: raw.exclusive_group.as_deref().map(str::trim).map(str::to_owned),
            pause_after_failures: raw
                .pause_after_failures
                .or(defaults.pause_after_failures)
                .unwrap_or(standard.pause_after_failures),
            retries: raw.retries.or(defaults.retries).unwrap_or(standard.retries),
            retry_backoff: raw.retry_backoff.or(defaults.retry_backoff).unwrap_or(standard.retry_backoff),
            retry_max_delay: raw.retry_max_delay.or(defaults.retry_max_delay).unwrap_or(standard.retry_max_delay),
            retry_on: raw.retry_on.or(defaults.retry_on).unwrap_or_default(),
            on_crash: raw.on_crash.or(defaults.on_crash).unwrap_or_default(),
        };
        if firing.retries > MOST_RETRIES {
            findings.push(self.error("retries", "E110", "must be between 0 and 100"));
        }
        if firing.retry_backoff.is_zero() {
            findings.push(self.error("retry_backoff", "E110", "must be longer than nothing"));
        }
        if firing.retry_max_delay < firing.retry_backoff {
            findings.push(self.error("retry_max_delay", "E110", "must not be shorter than retry_backoff"));
        }
        if !QUEUE_LIMIT.contains(&firing.queue_limit) {
            findings.push(self.error("queue_limit", "E110", "must be between 1 and 10000"));
        }
        if !CATCHUP_LIMIT.contains(&firing.catchup_limit) {
            findings.push(self.error("catchup_limit", "E110", "must be between 1 and 1000"));
        }
        if firing.exclusive_group.as_deref() == Some("") {
            findings.push(self.error("exclusive_group", "E110", "is blank"));
        }
        firing
    }

    /// `auto` is none.
    fn window(&self, text: &str, findings: &mut Vec<Finding>) -> Option<Duration> {
        if text.trim() == "auto" {
            return None;
        }
        match duration::parse(text) {
            Ok(window) if window >= SHORTEST_WINDOW => return Some(window),
            Ok(_) => findings.push(self.error("catchup_window", "E110", "must be at least 10s, or \"auto\"")),
            Err(error) => findings.push(self.error("catchup_window", "E109", &format!("{error}, nor \"auto\""))),
        }
        None
    }

    /// Jitter that would let one fire overtake the next is cut to the gap between them.
    pub(super) fn jitter_warning(&self, jitter: Duration, timing: &Timing) -> Option<Finding> {
        let jitter = TimeDelta::from_std(jitter).ok().filter(|jitter| !jitter.is_zero())?;
        let looked_at = (LOOKED_AT_IN_ALL / self.siblings.max(1)).clamp(2, LOOKED_AT);
        let fires: Vec<_> = timing.fires_after(self.now).take(looked_at).collect();
        let shortest = fires.windows(2).map(|pair| pair[1] - pair[0]).min()?;
        (jitter >= shortest).then(|| {
            let shown = duration::show(shortest.to_std().unwrap_or_default());
            let text = format!("as long as the shortest time between two fires, {shown}, or longer: cut to it");
            self.document.finding(&["schedules", self.index, "jitter"], "W304", Severity::Warning, text)
        })
    }
}
