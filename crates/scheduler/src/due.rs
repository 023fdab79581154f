//! Which instants are due, which of them fire, and which were missed: a pure function of (timing, policy, cursor, now).
//!
//! Invariants: every instant in (cursor, now] is accounted for exactly once; the cursor never moves back; an instant that is
//! not late always fires. Late ones follow the catch-up policy, and none fires outside its window: as configured, else half the
//! distance to the instant after it, but at least [`SHORTEST_WINDOW`] and at most [`LONGEST_WINDOW`].

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    ledger::Reason,
    spec::{Catchup, Firing},
    timing::Timing,
};

/// An instant older than this was missed by the process, not merely reached a little late.
const LATE_AFTER: TimeDelta = TimeDelta::seconds(10);
const SHORTEST_WINDOW: TimeDelta = TimeDelta::minutes(2);
const LONGEST_WINDOW: TimeDelta = TimeDelta::hours(2);
/// Missed instants with a row of their own; older ones of the same gap share one range.
const MISSED_ROWS: usize = 100;
/// More instants than can come in the time that is not late.
const NOT_LATE: usize = 12;

/// What one schedule owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// To be run, oldest first.
    pub(crate) fires: Vec<Fire>,
    /// Not run, oldest first.
    pub(crate) missed: Vec<(DateTime<Utc>, Reason)>,
    /// Not run and too many for rows.
    pub(crate) range: Option<MissedRange>,
    /// The newest instant accounted for.
    pub(crate) cursor: DateTime<Utc>,
}

/// An instant to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fire {
    pub(crate) nominal: DateTime<Utc>,
    /// The instant after it.
    pub(crate) next: Option<DateTime<Utc>>,
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
pub(crate) fn due(timing: &Timing, policy: &Firing, cursor: DateTime<Utc>, now: DateTime<Utc>) -> Option<Due> {
    // Only the newest are held one by one: those that may fire, and those with rows.
    let limit = match policy.catchup {
        Catchup::Latest => 1,
        Catchup::All => policy.catchup_limit as usize,
        Catchup::None => 0,
    };
    let held_at_most = limit + MISSED_ROWS + NOT_LATE;
    let mut held: VecDeque<Fire> = VecDeque::new();
    let mut range: Option<MissedRange> = None;
    let reason = |fire: Fire| match now - fire.nominal <= window(policy, fire) {
        false => Reason::Window,
        true if policy.catchup == Catchup::All => Reason::Limit,
        true => Reason::Policy,
    };
    let mut next = timing.next_after(cursor);
    while let Some(nominal) = next.filter(|instant| *instant <= now) {
        next = timing.next_after(nominal);
        held.push_back(Fire { nominal, next });
        if held.len() > held_at_most
            && let Some(oldest) = held.pop_front()
        {
            range = Some(extended(range, oldest.nominal, reason(oldest)));
        }
    }
    let newest = *held.back()?;
    let is_late = |fire: Fire| now - fire.nominal > LATE_AFTER;
    let may_catch_up = |fire: Fire| match policy.catchup {
        Catchup::Latest => fire == newest,
        Catchup::All => true,
        Catchup::None => false,
    };

    let mut due = Due { fires: Vec::new(), missed: Vec::new(), range, cursor: newest.nominal };
    let mut left = limit;
    for fire in held.into_iter().rev() {
        if !is_late(fire) {
            due.fires.push(fire);
        } else if left > 0 && may_catch_up(fire) && now - fire.nominal <= window(policy, fire) {
            left -= 1;
            due.fires.push(fire);
        } else {
            due.missed.push((fire.nominal, reason(fire)));
        }
    }
    due.fires.reverse();
    due.missed.reverse();
    let too_many = due.missed.len().saturating_sub(MISSED_ROWS);
    for (instant, reason) in due.missed.drain(..too_many) {
        due.range = Some(extended(due.range, instant, reason));
    }
    Some(due)
}

fn window(policy: &Firing, fire: Fire) -> TimeDelta {
    match policy.catchup_window {
        Some(window) => TimeDelta::from_std(window).unwrap_or(TimeDelta::MAX),
        None => {
            let half = fire.next.map_or(LONGEST_WINDOW, |next| (next - fire.nominal) / 2);
            half.clamp(SHORTEST_WINDOW, LONGEST_WINDOW)
        }
    }
}

/// The reason is that of the newest: the older ones may have been outside the window as well.
fn extended(range: Option<MissedRange>, instant: DateTime<Utc>, reason: Reason) -> MissedRange {
    let MissedRange { from, count, .. } = range.unwrap_or(MissedRange { from: instant, to: instant, count: 0, reason });
    MissedRange { from, to: instant, count: count + 1, reason }
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
        due_by(&Firing::default(), expression, cursor, now)
    }

    fn due_by(policy: &Firing, expression: &str, cursor: &str, now: &str) -> Option<Due> {
        due(&Timing::Cron(Cron::parse(expression, Tz::UTC).unwrap()), policy, at(cursor), at(now))
    }

    fn nominal(due: &Due) -> Vec<DateTime<Utc>> {
        due.fires.iter().map(|fire| fire.nominal).collect()
    }

    /// A-P7: six hours down, by policy.
    #[test]
    fn late_instants_fire_as_the_policy_says() {
        let (cursor, now) = ("2026-01-01T00:30:00Z", "2026-01-01T06:30:00Z");
        let policy = |catchup, window: &str, catchup_limit| Firing {
            catchup,
            catchup_window: Some(stakpak_config::duration::parse(window).unwrap()),
            catchup_limit,
            ..Firing::default()
        };
        let told = |policy: &Firing| {
            let due = due_by(policy, "0 * * * *", cursor, now).unwrap();
            let fires: Vec<_> = nominal(&due).iter().map(|fire| fire.format("%H").to_string()).collect();
            let missed: Vec<_> = due.missed.iter().map(|(_, reason)| reason.as_str()).collect();
            format!("{} / {}", fires.join(" "), missed.join(" "))
        };
        assert_eq!(told(&policy(Catchup::Latest, "3h", 10)), "06 / window window window policy policy");
        assert_eq!(told(&policy(Catchup::Latest, "29m", 10)), " / window window window window window window");
        assert_eq!(told(&policy(Catchup::All, "3h", 10)), "04 05 06 / window window window");
        assert_eq!(told(&policy(Catchup::All, "3h", 2)), "05 06 / window window window limit");
        assert_eq!(told(&policy(Catchup::None, "3h", 10)), " / window window window policy policy policy");
        // What is not late fires whatever the policy.
        let due = due_by(&policy(Catchup::None, "3h", 10), "0 * * * *", cursor, "2026-01-01T02:00:10Z").unwrap();
        assert_eq!(nominal(&due), [at("2026-01-01T02:00:00Z")]);
        // A limit larger than the rows of missed ones holds all the same.
        let due = due_by(&policy(Catchup::All, "24h", 200), "* * * * *", cursor, "2026-01-01T08:30:30Z").unwrap();
        assert_eq!((due.fires.len(), due.missed.len(), due.range.unwrap().count), (200, 100, 180));
        assert_eq!(due.range.unwrap().reason, Reason::Limit);
    }

    #[test]
    fn an_instant_just_reached_fires() {
        let due = due_of("0 * * * *", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z").unwrap();
        assert_eq!(nominal(&due), [at("2026-01-01T01:00:00Z")]);
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
        assert_eq!(nominal(&due), [at("2026-01-01T03:00:00Z")]);
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
        assert_eq!(nominal(&minutely), [at("2026-01-01T00:02:00Z")]);
        assert_eq!(minutely.missed, [(at("2026-01-01T00:01:00Z"), Reason::Policy)]);
        let daily = due_of("0 9 * * *", "2026-01-01T00:00:00Z", "2026-01-01T11:00:00Z").unwrap();
        assert_eq!(nominal(&daily), [at("2026-01-01T09:00:00Z")]);
        let daily = due_of("0 9 * * *", "2026-01-01T00:00:00Z", "2026-01-01T11:00:01Z").unwrap();
        assert!(daily.fires.is_empty());
    }

    #[test]
    fn a_long_gap_has_a_hundred_rows_and_one_range() {
        let due = due_of("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T06:00:05Z").unwrap();
        assert_eq!(nominal(&due), [at("2026-01-01T06:00:00Z")]);
        assert_eq!(due.missed.len(), 100);
        let range = due.range.unwrap();
        assert_eq!((range.from, range.count), (at("2026-01-01T00:01:00Z"), 259));
        assert_eq!(due.missed[0].0, range.to + TimeDelta::minutes(1));
        assert_eq!(due.missed[99].0, at("2026-01-01T05:59:00Z"));
    }
}
