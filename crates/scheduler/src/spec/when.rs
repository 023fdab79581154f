//! The keys that say when: `cron`, `every`, `at`, read in the zone of the schedule.

use std::time::Duration;

use chrono::{DateTime, Days, Utc};
use chrono_tz::Tz;
use stakpak_config::{Finding, Severity, duration};

use super::{
    When,
    entry::{Entry, RawSchedule},
};
use crate::{
    Cron, CronOddity,
    timing::{AtError, Interval, Timing, parse_at},
};

/// A schedule without an instant in this time is a mistake.
const SEARCHED: Days = Days::new(20 * 366);

/// By name, or the host's.
pub(super) fn zone(written: &str) -> Option<Tz> {
    match written.trim() {
        "local" => iana_time_zone::get_timezone().ok()?.parse().ok(),
        name => name.parse().ok(),
    }
}

impl Entry<'_> {
    pub(super) fn timezone(&self, own: Option<&str>, findings: &mut Vec<Finding>) -> Option<Tz> {
        let written = own.or(self.defaults.timezone.as_deref()).unwrap_or("UTC").trim();
        let zone = zone(written);
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

    /// What exactly one of the three keys says.
    pub(super) fn when(
        &self,
        raw: &RawSchedule,
        zone: Option<Tz>,
        findings: &mut Vec<Finding>,
    ) -> Option<(When, Timing)> {
        let given = [("cron", &raw.cron), ("every", &raw.every), ("at", &raw.at)];
        let mut given = given.into_iter().filter_map(|(key, text)| text.as_deref().map(|text| (key, text.trim())));
        let Some((key, text)) = given.next() else {
            findings.push(self.error("cron", "E101", "required key is missing: one of `cron`, `every` and `at`"));
            return None;
        };
        if let Some((second, _)) = given.next() {
            findings.push(self.error(second, "E112", "exactly one of `cron`, `every` and `at` can be set"));
            return None;
        }
        if text.is_empty() {
            findings.push(self.error(key, "E101", "is blank"));
            return None;
        }
        let read = match key {
            "every" => every(text),
            "at" => at(text, zone?),
            _ => cron(text, zone?),
        };
        let (when, timing) = match read {
            Ok(read) => read,
            Err((code, text)) => {
                findings.push(self.error(key, code, &text));
                return None;
            }
        };
        let horizon = self.now.checked_add_days(SEARCHED)?;
        let never = timing.next_after(self.now).is_none_or(|first| first > horizon);
        // A single instant may be behind a schedule that did its work; the ledger knows.
        if never && !matches!(timing, Timing::At(at) if at <= horizon) {
            findings.push(self.error(key, "E103", "never fires in the next 20 years"));
            return None;
        }
        Some((when, timing))
    }

    /// What stops a schedule that the ledger has never seen: its only instant is behind.
    pub(super) fn past(&self, timing: &Timing) -> Option<Finding> {
        match timing {
            Timing::At(at) if *at <= self.now => Some(self.error("at", "E103", "never fires: the time has passed")),
            _ => None,
        }
    }

    /// What is allowed but may not be what was meant.
    pub(super) fn oddities(&self, timing: &Timing) -> Vec<Finding> {
        let Timing::Cron(cron) = timing else { return Vec::new() };
        let warning = |oddity: &CronOddity| {
            let code = match oddity {
                CronOddity::EitherDay => "W303",
                CronOddity::StepTooLarge { .. } => "W305",
            };
            self.document.finding(&["schedules", self.index, "cron"], code, Severity::Warning, oddity.to_string())
        };
        cron.oddities().iter().map(warning).collect()
    }
}

type Read = Result<(When, Timing), (&'static str, String)>;

fn cron(text: &str, zone: Tz) -> Read {
    let cron = Cron::parse(text, zone).map_err(|error| ("E102", error.to_string()))?;
    Ok((When::Cron(text.to_owned()), Timing::Cron(cron)))
}

fn every(text: &str) -> Read {
    let every: Duration = duration::parse(text).map_err(|error| ("E109", error.to_string()))?;
    let interval = Interval::new(every).map_err(|error| ("E110", error.to_owned()))?;
    Ok((When::Every(every), Timing::Every(interval)))
}

fn at(text: &str, zone: Tz) -> Read {
    let at: DateTime<Utc> = parse_at(text, zone).map_err(|error| {
        let code = match error {
            AtError::Gap(_) | AtError::Overlap(_) => "E107",
            AtError::Syntax | AtError::Fraction => "E110",
        };
        (code, error.to_string())
    })?;
    Ok((When::At(at), Timing::At(at)))
}
