//! Which instants are due, which of them fire, and which were missed: a pure function of (timing, cursor, now).
//!
//! Invariants: every instant in (cursor, now] is accounted for exactly once; the cursor never moves back; an instant that is
//! not late always fires. Late ones follow the catch-up policy `latest`: the newest due instant fires if it is inside its
//! window, half the distance to the instant after it, but at least [`SHORTEST_WINDOW`] and at most [`LONGEST_WINDOW`].

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{ledger::Reason, timing::Timing};

/// An instant older than this was missed by the process, not merely reached a little late.
const LATE_AFTER: TimeDelta = TimeDelta::seconds(10);
const SHORTEST_WINDOW: TimeDelta = TimeDelta::minutes(2);
const LONGEST_WINDOW: TimeDelta = TimeDelta::hours(2);
/// Missed instants with a row of their own; older ones of the same gap share one range.
const MISSED_ROWS: usize = 100;
/// The newest due instants are held one by one: those with rows, and those of the last ten seconds.
const HELD: usize = MISSED_ROWS + 12;

/// What one schedule owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// To be run, oldest first.
    pub(crate) fires: Vec<DateTime<Utc>>,
    /// Not run, oldest first.
    pub(crate) missed: Vec<(DateTime<Utc>, Reason)>,
    /// Not run and too many for rows.
    pub(crate) range: Option<MissedRange>,
    /// The newest instant accounted for.
    pub(crate) cursor: DateTime<Utc>,
}

impl Due {
    /// The number of instants that are not run.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.len() as u64 + self.range.map_or(0, |range| range.count)
    }
}

/// Missed instants from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MissedRange {
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    pub(crate) count: u64,
    pub(crate) reason: Reason,
}

/// `None` when nothing lies in (cursor, now].
pub(crate) fn due(timing: &Timing, cursor: DateTime<Utc>, now: DateTime<Utc>) -> Option<Due> {
    let mut held = VecDeque::new();
    let mut range: Option<MissedRange> = None;
    let mut newest = cursor;
    let mut following = None;
    while let Some(instant) = timing.next_after(newest) {
        if instant > now {
            following = Some(instant);
            break;
        }
        newest = instant;
        held.push_back(instant);
        if held.len() > HELD
            && let Some(oldest) = held.pop_front()
        {
            range = Some(extended(range, oldest));
        }
    }
    let newest = held.back().copied()?;
    let is_late = |instant: DateTime<Utc>| now - instant > LATE_AFTER;
    let fires_late = |instant: DateTime<Utc>, next: Option<DateTime<Utc>>| {
        instant == newest && now - instant <= window(instant, next)
    };

    let mut due = Due { fires: Vec::new(), missed: Vec::new(), range, cursor: newest };
    let mut instants = held.into_iter().peekable();
    while let Some(instant) = instants.next() {
        let next = instants.peek().copied().or(following);
        if !is_late(instant) || fires_late(instant, next) {
            due.fires.push(instant);
        } else {
            let inside = now - instant <= window(instant, next);
            due.missed.push((instant, if inside { Reason::Policy } else { Reason::Window }));
        }
    }
    let too_many = due.missed.len().saturating_sub(MISSED_ROWS);
    for (instant, _) in due.missed.drain(..too_many) {
        due.range = Some(extended(due.range, instant));
    }
    Some(due)
}

fn window(instant: DateTime<Utc>, next: Option<DateTime<Utc>>) -> TimeDelta {
    let half = next.map_or(LONGEST_WINDOW, |next| (next - instant) / 2);
    half.clamp(SHORTEST_WINDOW, LONGEST_WINDOW)
}

/// Only instants older than a hundred others get here; for all but the densest expressions that is outside any window.
fn extended(range: Option<MissedRange>, instant: DateTime<Utc>) -> MissedRange {
    let MissedRange { from, count, .. } =
        range.unwrap_or(MissedRange { from: instant, to: instant, count: 0, reason: Reason::Window });
    MissedRange { from, to: instant, count: count + 1, reason: Reason::Window }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;
    use crate::Cron;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn due_of(expression: &str, cursor: &str, now: &str) -> Option<Due> {
        due(&Timing::Cron(Cron::parse(expression, Tz::UTC).unwrap()), at(cursor), at(now))
    }

    #[test]
    fn an_instant_just_reached_fires() {
        let due = due_of("0 * * * *", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z").unwrap();
        assert_eq!(due.fires, [at("2026-01-01T01:00:00Z")]);
        assert!(due.missed.is_empty());
        assert_eq!(due.cursor, at("2026-01-01T01:00:00Z"));
    }

    #[test]
    fn nothing_is_due_before_the_instant_or_behind_the_cursor() {
        assert_eq!(due_of("0 * * * *", "2026-01-01T00:30:00Z", "2026-01-01T00:59:59Z"), None);
        assert_eq!(due_of("0 * * * *", "2026-01-01T03:00:00Z", "2026-01-01T01:00:00Z"), None);
    }

    #[test]
    fn only_the_newest_late_instant_fires_and_only_in_its_window() {
        let due = due_of("0 * * * *", "2026-01-01T00:30:00Z", "2026-01-01T03:20:00Z").unwrap();
        assert_eq!(due.fires, [at("2026-01-01T03:00:00Z")]);
        assert_eq!(
            due.missed,
            [(at("2026-01-01T01:00:00Z"), Reason::Window), (at("2026-01-01T02:00:00Z"), Reason::Window)]
        );
        let due = due_of("0 * * * *", "2026-01-01T00:30:00Z", "2026-01-01T01:30:01Z").unwrap();
        assert!(due.fires.is_empty());
        assert_eq!(due.missed, [(at("2026-01-01T01:00:00Z"), Reason::Window)]);
    }

    #[test]
    fn a_minutely_schedule_has_two_minutes_and_a_daily_one_two_hours() {
        let minutely = due_of("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:02:50Z").unwrap();
        assert_eq!(minutely.fires, [at("2026-01-01T00:02:00Z")]);
        assert_eq!(minutely.missed, [(at("2026-01-01T00:01:00Z"), Reason::Policy)]);
        let daily = due_of("0 9 * * *", "2026-01-01T00:00:00Z", "2026-01-01T11:00:00Z").unwrap();
        assert_eq!(daily.fires, [at("2026-01-01T09:00:00Z")]);
        let daily = due_of("0 9 * * *", "2026-01-01T00:00:00Z", "2026-01-01T11:00:01Z").unwrap();
        assert!(daily.fires.is_empty());
    }

    #[test]
    fn a_long_gap_has_a_hundred_rows_and_one_range() {
        let due = due_of("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T06:00:05Z").unwrap();
        assert_eq!(due.fires, [at("2026-01-01T06:00:00Z")]);
        assert_eq!(due.missed.len(), 100);
        let range = due.range.unwrap();
        assert_eq!((range.from, range.count), (at("2026-01-01T00:01:00Z"), 259));
        assert_eq!(due.missed[0].0, range.to + TimeDelta::minutes(1));
        assert_eq!(due.missed[99].0, at("2026-01-01T05:59:00Z"));
    }
}
