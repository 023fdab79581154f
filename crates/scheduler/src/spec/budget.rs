//! What runs may use: dollars, tokens, and numbers of runs.

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use stakpak_config::{Document, Finding, Severity};
use stakpak_protocol::Usd;

use super::{
    entry::{Entry, RawSchedule},
    read::Defaults,
    when,
};
use crate::local_time;

const NO_MONEY: &str = "must be more than 0 dollars; a schedule that is not to run has `enabled = false`";
const NOTHING: &str = "must be at least 1; a schedule that is not to run has `enabled = false`";

/// `budget` of a schedule. None: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Of one run, all its attempts together.
    pub usd_per_run: Option<Usd>,
    /// Of one run, all its attempts together.
    pub tokens_per_run: Option<u64>,
    /// Of a day.
    #[serde(flatten)]
    pub day: DayLimits,
}

/// What one day may take, by the clocks of a zone. None: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DayLimits {
    /// At list price.
    pub usd_per_day: Option<Usd>,
    /// In and out.
    pub tokens_per_day: Option<u64>,
    /// Runs of the agent; further attempts of a run are the same run.
    pub runs_per_day: Option<u64>,
}

impl DayLimits {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// `[budget]`: of all schedules together.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedBudget {
    /// Of a day.
    pub day: DayLimits,
    /// Shares of a limit of a day that are told when they are reached, also of the limits of one schedule.
    pub alert_at: Vec<f64>,
    /// `[defaults].timezone`.
    pub zone: Tz,
}

impl Default for SharedBudget {
    fn default() -> Self {
        Self { day: DayLimits::default(), alert_at: vec![0.8, 1.0], zone: Tz::UTC }
    }
}

impl SharedBudget {
    /// When the day began that `now` lies in.
    #[must_use]
    pub fn day_began(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        day_start(self.zone, now)
    }

    /// The largest of the shares that are told that is reached, in percent.
    #[expect(clippy::cast_precision_loss, reason = "of what is shown in percent")]
    pub(crate) fn reached(&self, spent: u64, limit: u64) -> Option<f64> {
        let reached = |share: &&f64| spent as f64 >= limit as f64 * **share;
        self.alert_at.iter().filter(reached).copied().reduce(f64::max).map(|share| (share * 1000.0).round() / 10.0)
    }
}

/// `budget` as written.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RawBudget {
    usd_per_run: Option<f64>,
    usd_per_day: Option<f64>,
    tokens_per_run: Option<u64>,
    tokens_per_day: Option<u64>,
    runs_per_day: Option<u64>,
}

/// `[budget]` as written.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RawShared {
    usd_per_day: Option<f64>,
    tokens_per_day: Option<u64>,
    runs_per_day: Option<u64>,
    alert_at: Option<Vec<f64>>,
}

impl RawShared {
    /// A limit that cannot be kept stops all that it should limit.
    pub(super) fn budget(&self, document: &Document, defaults: &Defaults) -> Result<SharedBudget, Vec<Finding>> {
        let mut findings = Vec::new();
        for (key, given) in [("tokens_per_day", self.tokens_per_day), ("runs_per_day", self.runs_per_day)] {
            if given == Some(0) {
                findings.push(document.finding(&["budget", key], "E002", Severity::Error, "must be at least 1"));
            }
        }
        let usd_per_day = self.usd_per_day.map(Usd::from_dollars);
        if usd_per_day == Some(Usd::ZERO) {
            let text = "must be more than 0 dollars";
            findings.push(document.finding(&["budget", "usd_per_day"], "E002", Severity::Error, text));
        }
        let alert_at = self.alert_at.clone().unwrap_or_else(|| SharedBudget::default().alert_at);
        if alert_at.iter().any(|share| !(*share > 0.0 && *share <= 1.0)) {
            let text = "expected shares of a limit, above 0 and up to 1, such as [0.8, 1.0]; [] for none";
            findings.push(document.finding(&["budget", "alert_at"], "E002", Severity::Error, text));
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        let zone = defaults.timezone.as_deref().and_then(when::zone).unwrap_or(Tz::UTC);
        let day = DayLimits { usd_per_day, tokens_per_day: self.tokens_per_day, runs_per_day: self.runs_per_day };
        Ok(SharedBudget { day, alert_at, zone })
    }
}

impl Entry<'_> {
    pub(super) fn budget(&self, raw: &RawSchedule, findings: &mut Vec<Finding>) -> Budget {
        let nothing = RawBudget::default();
        let raw = raw.budget.as_ref().unwrap_or(&nothing);
        let mut refuse = |key: &str, text| {
            let path = ["schedules", self.index, "budget", key];
            findings.push(self.document.finding(&path, "E110", Severity::Error, text));
        };
        let (usd_per_run, usd_per_day) =
            (raw.usd_per_run.map(Usd::from_dollars), raw.usd_per_day.map(Usd::from_dollars));
        for (key, given) in [("usd_per_run", usd_per_run), ("usd_per_day", usd_per_day)] {
            if given == Some(Usd::ZERO) {
                refuse(key, NO_MONEY);
            }
        }
        let limits = [
            ("tokens_per_run", raw.tokens_per_run),
            ("tokens_per_day", raw.tokens_per_day),
            ("runs_per_day", raw.runs_per_day),
        ];
        for (key, given) in limits {
            if given == Some(0) {
                refuse(key, NOTHING);
            }
        }
        let day = DayLimits { usd_per_day, tokens_per_day: raw.tokens_per_day, runs_per_day: raw.runs_per_day };
        Budget { usd_per_run, tokens_per_run: raw.tokens_per_run, day }
    }
}

/// When the day began that `now` lies in, by the clocks of the zone.
pub(crate) fn day_start(zone: Tz, now: DateTime<Utc>) -> DateTime<Utc> {
    let midnight = local_time::of(zone, now).date().and_time(NaiveTime::MIN);
    local_time::first_instant(zone, midnight).map_or(now, |start| start.min(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn a_day_begins_at_midnight_of_the_zone_or_where_clocks_skip_it() {
        for (zone, now, start) in [
            (Tz::UTC, "2026-05-01T23:59:59Z", "2026-05-01T00:00:00Z"),
            (Tz::Europe__Berlin, "2026-05-01T23:00:00Z", "2026-05-02T00:00:00+02:00"),
            // 25 hours long.
            (Tz::Europe__Berlin, "2026-10-25T22:59:00Z", "2026-10-25T00:00:00+02:00"),
            // No midnight.
            (Tz::America__Santiago, "2026-09-06T12:00:00Z", "2026-09-06T01:00:00-03:00"),
        ] {
            assert_eq!(day_start(zone, at(now)), at(start), "{zone} {now}");
        }
    }
}
