//! The tables, and how values become columns. A migration that was released is never edited; a change is a new one.

use chrono::{DateTime, Utc};
use stakpak_sqlite::Migration;

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_journal", sql: include_str!("../migrations/0001_journal.sql") },
    Migration { name: "0002_arrival_order", sql: include_str!("../migrations/0002_arrival_order.sql") },
    Migration { name: "0003_upkeep", sql: include_str!("../migrations/0003_upkeep.sql") },
    Migration { name: "0004_snapshots", sql: include_str!("../migrations/0004_snapshots.sql") },
    Migration { name: "0005_spending", sql: include_str!("../migrations/0005_spending.sql") },
];

/// A bound of a query. SQLite's integers end at 2^63 - 1, and no position is beyond.
pub(crate) fn bound(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// Nanoseconds since 1970. A time before 1677 or after 2262 becomes the nearest that fits.
pub(crate) fn nanos(time: DateTime<Utc>) -> i64 {
    let nearest = if time < DateTime::UNIX_EPOCH { i64::MIN } else { i64::MAX };
    time.timestamp_nanos_opt().unwrap_or(nearest)
}

/// Back from [`nanos`].
pub(crate) fn time(nanos: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(nanos)
}
