//! Which sessions need a visit.
//!
//! A look at every session's projection and marks, none at its rows: some tens of milliseconds for 100,000 sessions, on a
//! reader.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::Connection;
use stakpak_agent_core::Retention;
use stakpak_protocol::SessionId;
use uuid::Uuid;

use crate::{failure::Failure, schema::nanos};

/// The policy at one moment, as the columns have it. Times are nanoseconds since 1970.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Events up to then may go.
    pub(crate) events_until: Option<i64>,
    /// More bytes of events than this are too many.
    pub(crate) events_bytes: Option<i64>,
    /// Deltas of runs that ended up to then are merged.
    pub(crate) deltas_until: i64,
    /// Sessions that were deleted up to then are purged.
    pub(crate) deleted_until: Option<i64>,
}

impl Bounds {
    pub(crate) fn new(retention: &Retention, now: DateTime<Utc>) -> Self {
        let before = |age: Duration| {
            let then = TimeDelta::from_std(age).ok().and_then(|age| now.checked_sub_signed(age));
            nanos(then.unwrap_or(DateTime::<Utc>::MIN_UTC))
        };
        Self {
            events_until: retention.events_age.map(before),
            events_bytes: retention.events_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            deltas_until: before(retention.deltas),
            deleted_until: retention.deleted_sessions.map(before),
        }
    }
}

/// Sessions that have grown since their last visit, or in which something has become old enough.
pub(super) fn untidy(
    conn: &Connection,
    bounds: &Bounds,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<SessionId>, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT id FROM sessions LEFT JOIN upkeep ON session = key
         WHERE id > ?1 AND length(id) = 16 AND last_seq > 0 AND (session IS NULL OR last_seq > settled_to
             OR oldest_at <= ?2 OR unmerged_at <= ?3 OR event_bytes > ?4)
         ORDER BY id LIMIT ?5",
    )?;
    let after = after.map(|id| id.0.into_bytes().to_vec()).unwrap_or_default();
    let parameters = (after, bounds.events_until, bounds.deltas_until, bounds.events_bytes, limit);
    Ok(select.query_map(parameters, session_id)?.collect::<Result<_, _>>()?)
}

/// Sessions that were deleted long enough ago.
pub(super) fn expired(
    conn: &Connection,
    bounds: &Bounds,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<SessionId>, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT id FROM sessions
         WHERE id > ?1 AND length(id) = 16 AND status = 'DELETED' AND open = 0 AND updated_at <= ?2
         ORDER BY id LIMIT ?3",
    )?;
    let after = after.map(|id| id.0.into_bytes().to_vec()).unwrap_or_default();
    Ok(select.query_map((after, bounds.deleted_until, limit), session_id)?.collect::<Result<_, _>>()?)
}

fn session_id(columns: &rusqlite::Row<'_>) -> rusqlite::Result<SessionId> {
    Ok(SessionId(Uuid::from_bytes(columns.get(0)?)))
}
