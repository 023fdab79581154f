//! Snapshots of control states: one a session, with a CRC32C over its session and every column.
//!
//! One that does not read back as it was written is none: folding its session's rows gives the same state.

use rusqlite::{Connection, OptionalExtension, Row as Columns};
use stakpak_agent_core::Snapshot;
use stakpak_protocol::SessionId;

use crate::failure::Failure;

/// A snapshot with its checksum, computed before it queues for the writer.
#[derive(Debug)]
pub(crate) struct Sealed {
    snapshot: Snapshot,
    crc: u32,
}

impl Sealed {
    pub(crate) fn new(session: SessionId, snapshot: Snapshot) -> Self {
        let crc = checksum(session, &snapshot);
        Self { snapshot, crc }
    }
}

/// In the place of the session's earlier one.
pub(crate) fn replace(conn: &Connection, key: i64, sealed: &Sealed) -> Result<(), Failure> {
    let Sealed { snapshot, crc } = sealed;
    conn.prepare_cached(
        "INSERT INTO snapshots (session, seq, version, crc, state) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (session) DO UPDATE
         SET seq = excluded.seq, version = excluded.version, crc = excluded.crc, state = excluded.state",
    )?
    .execute((key, snapshot.seq, snapshot.version, crc, &snapshot.state))?;
    Ok(())
}

/// One of an earlier run is of no use: folding begins with the last.
pub(crate) fn remove_stale(conn: &Connection, key: i64) -> Result<(), Failure> {
    conn.prepare_cached(
        "DELETE FROM snapshots WHERE session = ?1 AND seq < (SELECT run_first_seq FROM sessions WHERE key = ?1)",
    )?
    .execute((key,))?;
    Ok(())
}

/// The session's snapshot, if it is whole.
pub(crate) fn find(conn: &Connection, session: SessionId) -> Result<Option<Snapshot>, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT seq, version, crc, state FROM snapshots WHERE session = (SELECT key FROM sessions WHERE id = ?1)",
    )?;
    let found = select.query_row((session.0.as_bytes(),), |columns| Ok(intact(session, columns)));
    let snapshot = found.optional()?;
    if snapshot == Some(None) {
        tracing::warn!(session_id = %session, "the session's snapshot is damaged: all rows of its run are read");
    }
    Ok(snapshot.flatten())
}

/// The snapshot, if every column can be read and the checksum holds.
pub(crate) fn intact(session: SessionId, columns: &Columns<'_>) -> Option<Snapshot> {
    let snapshot = Snapshot {
        seq: columns.get("seq").ok()?,
        version: columns.get("version").ok()?,
        state: columns.get("state").ok()?,
    };
    let crc: u32 = columns.get("crc").ok()?;
    (crc == checksum(session, &snapshot)).then_some(snapshot)
}

fn checksum(session: SessionId, snapshot: &Snapshot) -> u32 {
    let crc = crc32c::crc32c(session.0.as_bytes());
    let crc = crc32c::crc32c_append(crc, &snapshot.seq.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &snapshot.version.to_le_bytes());
    crc32c::crc32c_append(crc, snapshot.state.as_bytes())
}
