//! From wall-clock time to instants and back, where a zone changes its offset.
//!
//! The zone database answers for one time only and does not list its transitions; the edge of a gap or of a repeated hour
//! is found by bisection between two instants that lie on either side of it.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// No offset from UTC is larger, so an instant is within this of its wall-clock time read as UTC.
const WIDEST_OFFSET: TimeDelta = TimeDelta::hours(26);

/// The wall-clock time at `instant`.
pub(crate) fn of(zone: Tz, instant: DateTime<Utc>) -> NaiveDateTime {
    instant.with_timezone(&zone).naive_local()
}

/// The instants at which clocks show `local`, earliest first: none in a gap, two in a repeated hour.
pub(crate) fn occurrences(zone: Tz, local: NaiveDateTime) -> [Option<DateTime<Utc>>; 2] {
    match zone.from_local_datetime(&local) {
        LocalResult::None => [None, None],
        LocalResult::Single(only) => [Some(only.to_utc()), None],
        LocalResult::Ambiguous(first, second) => [Some(first.to_utc()), Some(second.to_utc())],
    }
}

/// The first instant at which clocks show `local`, or the end of the gap that it falls into.
pub(crate) fn first_instant(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(first) | LocalResult::Ambiguous(first, _) => Some(first.to_utc()),
        LocalResult::None => {
            let before = local.checked_sub_signed(WIDEST_OFFSET)?.and_utc();
            let after = local.checked_add_signed(WIDEST_OFFSET)?.and_utc();
            Some(first_where(before, after, |instant| of(zone, instant) >= local))
        }
    }
}

/// Where the second pass of a repeated hour begins, if `instant` lies in the first.
pub(crate) fn second_pass_after(zone: Tz, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let LocalResult::Ambiguous(first, second) = zone.from_local_datetime(&of(zone, instant)) else { return None };
    if first.to_utc() != instant {
        return None;
    }
    let later_offset = second.offset().fix();
    Some(first_where(instant, second.to_utc(), |between| {
        zone.offset_from_utc_datetime(&between.naive_utc()).fix() == later_offset
    }))
}

/// The first whole second in `(before, after]` for which `holds`; it must hold from some point on, and at `after`.
fn first_where(before: DateTime<Utc>, after: DateTime<Utc>, holds: impl Fn(DateTime<Utc>) -> bool) -> DateTime<Utc> {
    let (mut low, mut high) = (before.timestamp(), after.timestamp());
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if DateTime::from_timestamp(middle, 0).is_some_and(&holds) { high = middle } else { low = middle }
    }
    DateTime::from_timestamp(high, 0).unwrap_or(after)
}
