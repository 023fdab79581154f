//! How far upkeep has come in a session.

use rusqlite::{Connection, OptionalExtension, Row as Columns, named_params};

use crate::failure::Failure;

/// Every position is one of the session's sequence; 0 is before its first row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Events up to here are gone.
    pub(crate) removed_to: u64,
    /// Control rows up to here are gone unless they hold a message.
    pub(crate) pruned_to: u64,
    /// Deltas up to here are merged.
    pub(crate) merged_to: u64,
    /// Events up to here are counted.
    pub(crate) counted_to: u64,
    /// Bytes of the counted events that are there.
    pub(crate) event_bytes: u64,
    /// End of the sequence when nothing was left to do.
    pub(crate) settled_to: u64,
    /// When the oldest event was recorded that may go; none if none may.
    pub(crate) oldest_at: Option<i64>,
    /// When the first run ended whose deltas are not merged; none if no such run has ended.
    pub(crate) unmerged_at: Option<i64>,
}

pub(crate) fn find(conn: &Connection, key: i64) -> Result<Option<Marks>, Failure> {
    let mut select = conn.prepare_cached("SELECT * FROM upkeep WHERE session = ?1")?;
    Ok(select.query_row((key,), decode).optional()?)
}

/// Moves the marks on, if they are still those `from` which the caller decided, and the session exists.
pub(super) fn advance(conn: &Connection, key: i64, from: Option<&Marks>, to: &Marks) -> Result<bool, Failure> {
    if find(conn, key)?.as_ref() != from {
        return Ok(false);
    }
    let mut insert = conn.prepare_cached(
        "INSERT OR REPLACE INTO upkeep (session, removed_to, pruned_to, merged_to, counted_to, event_bytes, settled_to,
             oldest_at, unmerged_at)
         SELECT key, :removed_to, :pruned_to, :merged_to, :counted_to, :event_bytes, :settled_to, :oldest_at, :unmerged_at
         FROM sessions WHERE key = :key",
    )?;
    let written = insert.execute(named_params! {
        ":key": key,
        ":removed_to": to.removed_to,
        ":pruned_to": to.pruned_to,
        ":merged_to": to.merged_to,
        ":counted_to": to.counted_to,
        ":event_bytes": to.event_bytes,
        ":settled_to": to.settled_to,
        ":oldest_at": to.oldest_at,
        ":unmerged_at": to.unmerged_at,
    })?;
    Ok(written > 0)
}

fn decode(columns: &Columns<'_>) -> rusqlite::Result<Marks> {
    Ok(Marks {
        removed_to: columns.get("removed_to")?,
        pruned_to: columns.get("pruned_to")?,
        merged_to: columns.get("merged_to")?,
        counted_to: columns.get("counted_to")?,
        event_bytes: columns.get("event_bytes")?,
        settled_to: columns.get("settled_to")?,
        oldest_at: columns.get("oldest_at")?,
        unmerged_at: columns.get("unmerged_at")?,
    })
}
