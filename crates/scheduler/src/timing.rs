//! When a schedule fires: the one evaluator behind preview, validation and firing.
//!
//! Invariant: [`Timing::next_after`] is strictly later than its argument, a whole second, and later arguments never give
//! earlier answers.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Timelike, Utc};
use chrono_tz::Tz;

use crate::{Cron, local_time};

/// Shortest interval.
const SHORTEST: Duration = Duration::from_secs(10);

/// The instants of a schedule.
#[derive(Debug, Clone)]
pub enum Timing {
    /// Those that an expression matches, in its zone.
    Cron(Cron),
    /// Multiples of an interval since the Unix epoch, whatever clocks on walls show.
    Every(Interval),
    /// One.
    At(DateTime<Utc>),
}

impl Timing {
    /// The first instant strictly after `instant`, or `None` if there is none.
    #[must_use]
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.next_after(instant),
            Self::Every(interval) => interval.next_after(instant),
            Self::At(at) => Some(*at).filter(|at| *at > instant),
        }
    }

    /// The instants after `instant`, in order.
    pub fn fires_after(&self, instant: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        std::iter::successors(self.next_after(instant), |fire| self.next_after(*fire))
    }
}

/// A whole number of seconds, ten or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(i64);

impl Interval {
    /// Checks the bounds.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn new(every: Duration) -> Result<Self, &'static str> {
        if every < SHORTEST {
            return Err("must be at least 10s");
        }
        if every.subsec_nanos() != 0 {
            return Err("must be a whole number of seconds");
        }
        i64::try_from(every.as_secs()).map(Self).map_err(|_| "is too long")
    }

    fn next_after(self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let passed = instant.timestamp().div_euclid(self.0);
        DateTime::from_timestamp(passed.checked_add(1)?.checked_mul(self.0)?, 0)
    }
}

/// Why the text of an instant cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AtError {
    #[error("expected a time such as 2026-05-01T09:00:00+02:00, or 2026-05-01T09:00 in the schedule's zone")]
    Syntax,
    #[error("must be a whole second")]
    Fraction,
    #[error("clocks in {0} skip this time: give it with its offset, such as 2026-05-01T09:00:00+02:00")]
    Gap(Tz),
    #[error("clocks in {0} show this time twice: give it with its offset, such as 2026-05-01T09:00:00+02:00")]
    Overlap(Tz),
}

/// RFC 3339, or a local time in `zone`, with or without seconds.
pub(crate) fn parse_at(text: &str, zone: Tz) -> Result<DateTime<Utc>, AtError> {
    let text = text.trim();
    let instant = match DateTime::parse_from_rfc3339(text) {
        Ok(instant) => instant.to_utc(),
        Err(_) => {
            let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
                .iter()
                .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
                .ok_or(AtError::Syntax)?;
            match local_time::occurrences(zone, local) {
                [Some(only), None] => only,
                [Some(_), Some(_)] => return Err(AtError::Overlap(zone)),
                [None, _] => return Err(AtError::Gap(zone)),
            }
        }
    };
    if instant.nanosecond() == 0 { Ok(instant) } else { Err(AtError::Fraction) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn every(text: &str) -> Result<Interval, &'static str> {
        Interval::new(stakpak_config::duration::parse(text).unwrap())
    }

    #[test]
    fn intervals_are_multiples_since_the_epoch_whatever_the_clocks_show() {
        let timing = Timing::Every(every("90m").unwrap());
        // Through the clock change of Stockholm.
        let fires: Vec<_> = timing.fires_after(at("2026-03-29T00:00:00+01:00")).take(3).collect();
        assert_eq!(fires, [at("2026-03-29T00:00:00Z"), at("2026-03-29T01:30:00Z"), at("2026-03-29T03:00:00Z")]);
        assert_eq!(timing.next_after(at("1969-12-31T23:00:00Z")), Some(at("1970-01-01T00:00:00Z")));
        assert_eq!(timing.next_after(at("1970-01-01T00:00:00.5Z")), Some(at("1970-01-01T01:30:00Z")));
        assert!(every("9s").is_err() && every("10s").is_ok() && every("10s 500ms").is_err());
    }

    #[test]
    fn one_instant_comes_once() {
        let timing = Timing::At(at("2026-01-01T09:00:00Z"));
        assert_eq!(timing.fires_after(at("2026-01-01T08:59:59Z")).count(), 1);
        assert_eq!(timing.next_after(at("2026-01-01T09:00:00Z")), None);
    }

    #[test]
    fn an_instant_has_an_offset_or_is_a_time_of_the_zone() {
        let read = |text| parse_at(text, Tz::Europe__Stockholm);
        assert_eq!(read("2026-05-01T09:00:00-03:00"), Ok(at("2026-05-01T12:00:00Z")));
        assert_eq!(read("2026-05-01T09:00"), Ok(at("2026-05-01T07:00:00Z")));
        assert_eq!(read("2026-05-01T09:00:30"), Ok(at("2026-05-01T07:00:30Z")));
        assert_eq!(read("2026-03-29T02:30"), Err(AtError::Gap(Tz::Europe__Stockholm)));
        assert_eq!(read("2026-10-25T02:30"), Err(AtError::Overlap(Tz::Europe__Stockholm)));
        assert_eq!(read("2026-10-25T02:30:00+01:00"), Ok(at("2026-10-25T01:30:00Z")));
        assert_eq!(read("2026-05-01T09:00:00.5Z"), Err(AtError::Fraction));
        for text in ["tomorrow", "2026-05-01", "2026-02-30T09:00", ""] {
            assert_eq!(read(text), Err(AtError::Syntax), "{text}");
        }
    }
}
