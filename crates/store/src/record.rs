//! The rows of the sequences.
//!
//! Each carries a CRC32C over its session and every column. A row that does not match reads as damaged, never as data.

use rusqlite::{Connection, OptionalExtension, Row as Columns};
use stakpak_agent_core::{EventRecord, JournalError, Row, RowClass, event_after};
use stakpak_protocol::{EventId, SessionId};

use crate::{failure::Failure, schema::bound};

/// A row with its checksum, computed before it queues for the writer.
#[derive(Debug)]
pub(crate) struct Sealed {
    row: Row,
    crc: u32,
}

impl Sealed {
    pub(crate) fn new(session: SessionId, row: Row) -> Self {
        let crc = checksum(session, &row);
        Self { row, crc }
    }
}

/// Inserts rows whose sequence was checked.
pub(crate) fn insert(conn: &Connection, key: i64, rows: &[Sealed]) -> Result<(), Failure> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO records (session, seq, class, message_index, crc, kind, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for Sealed { row, crc } in rows {
        insert.execute((key, row.seq, class_code(row.class), row.message_index, crc, &row.kind, &row.payload))?;
    }
    Ok(())
}

/// Control rows with `from <= seq <= to`. Left to itself, SQLite would step over the events between them.
pub(crate) fn control(conn: &Connection, session: SessionId, from: u64, to: u64) -> Result<Vec<Row>, Failure> {
    let key = key_of(conn, session)?;
    let mut select = conn.prepare_cached(
        "SELECT seq, class, message_index, crc, kind, payload FROM records INDEXED BY records_control
         WHERE session = ?1 AND class = 0 AND seq BETWEEN ?2 AND ?3 ORDER BY seq",
    )?;
    select.query_and_then((key, bound(from), bound(to)), |columns| decode(session, columns))?.collect()
}

/// Message rows with `from <= message_index < to`.
pub(crate) fn messages(conn: &Connection, session: SessionId, from: u64, to: u64) -> Result<Vec<Row>, Failure> {
    let key = key_of(conn, session)?;
    let mut select = conn.prepare_cached(
        "SELECT seq, class, message_index, crc, kind, payload FROM records
         WHERE session = ?1 AND message_index >= ?2 AND message_index < ?3 ORDER BY message_index",
    )?;
    select.query_and_then((key, bound(from), bound(to)), |columns| decode(session, columns))?.collect()
}

/// Events above `after`: at least one if there is any, then until their text reaches `max_bytes`.
pub(crate) fn events(
    conn: &Connection,
    session: SessionId,
    after: EventId,
    max_bytes: usize,
) -> Result<Vec<EventRecord>, Failure> {
    let kept = kept_events(conn, session)?;
    if after.0 < kept.removed_to {
        return Err(kept.gone(conn, session)?);
    }
    let mut select = conn.prepare_cached(
        "SELECT seq, class, message_index, crc, kind, payload FROM records
         WHERE session = ?1 AND seq > ?2 AND class = 1 ORDER BY seq",
    )?;
    let mut rows = select.query((kept.key, bound(after.0)))?;
    let mut events = Vec::new();
    let mut bytes = 0;
    while let Some(columns) = rows.next()? {
        let row = decode(session, columns)?;
        let seq = row.seq;
        let event = event_after(row, after).map_err(|_| JournalError::Damaged { session, seq })?;
        bytes += event.name.len() + event.data.len();
        events.push(event);
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(events)
}

/// Event rows as they are stored, with `after < seq <= to`, at most `most` of them and until they reach `max_bytes`.
pub(crate) fn event_rows(
    conn: &Connection,
    (session, key): (SessionId, i64),
    (after, to): (u64, u64),
    most: usize,
    max_bytes: usize,
) -> Result<Vec<Row>, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT seq, class, message_index, crc, kind, payload FROM records
         WHERE session = ?1 AND seq > ?2 AND seq <= ?3 AND class = 1 ORDER BY seq LIMIT ?4",
    )?;
    let mut rows = select.query((key, bound(after), bound(to), most))?;
    let mut read = Vec::new();
    let mut bytes = 0;
    while let Some(columns) = rows.next()? {
        let row = decode(session, columns)?;
        bytes += row.payload.len();
        read.push(row);
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(read)
}

/// Terminal events with `after < seq <= to`, at most `most`.
pub(crate) fn terminal_rows(
    conn: &Connection,
    (session, key): (SessionId, i64),
    (after, to): (u64, u64),
    most: usize,
) -> Result<Vec<Row>, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT seq, class, message_index, crc, kind, payload FROM records INDEXED BY records_terminal
         WHERE session = ?1 AND seq > ?2 AND seq <= ?3 AND kind IN ('run_completed', 'run_error') ORDER BY seq LIMIT ?4",
    )?;
    select.query_and_then((key, bound(after), bound(to), most), |columns| decode(session, columns))?.collect()
}

/// Puts a row in the place of the events from `from` to its own.
pub(crate) fn replace(conn: &Connection, key: i64, from: u64, merged: &Sealed) -> Result<(), Failure> {
    let Sealed { row, crc } = merged;
    conn.prepare_cached("DELETE FROM records WHERE session = ?1 AND class = 1 AND seq >= ?2 AND seq < ?3")?
        .execute((key, from, row.seq))?;
    conn.prepare_cached("UPDATE records SET kind = ?3, payload = ?4, crc = ?5 WHERE session = ?1 AND seq = ?2")?
        .execute((key, row.seq, &row.kind, &row.payload, crc))?;
    Ok(())
}

/// Which of a session's events are there.
struct KeptEvents {
    key: i64,
    newest: u64,
    /// Those up to here are gone.
    removed_to: u64,
}

impl KeptEvents {
    fn gone(&self, conn: &Connection, session: SessionId) -> Result<Failure, Failure> {
        let mut select = conn.prepare_cached(
            "SELECT seq FROM records WHERE session = ?1 AND seq > ?2 AND class = 1 ORDER BY seq LIMIT 1",
        )?;
        let oldest = select.query_row((self.key, self.removed_to), |columns| columns.get(0)).optional()?;
        let (oldest, newest) = (EventId(oldest.unwrap_or(self.newest)), EventId(self.newest));
        Ok(JournalError::EventsGone { session, oldest, newest }.into())
    }
}

fn kept_events(conn: &Connection, session: SessionId) -> Result<KeptEvents, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT key, last_event_id, coalesce((SELECT removed_to FROM upkeep WHERE session = key), 0)
         FROM sessions WHERE id = ?1",
    )?;
    let kept = select.query_row((session.0.as_bytes(),), |columns| {
        Ok(KeptEvents { key: columns.get(0)?, newest: columns.get(1)?, removed_to: columns.get(2)? })
    });
    Ok(kept.optional()?.ok_or(JournalError::UnknownSession(session))?)
}

fn key_of(conn: &Connection, session: SessionId) -> Result<i64, Failure> {
    let mut select = conn.prepare_cached("SELECT key FROM sessions WHERE id = ?1")?;
    let key = select.query_row((session.0.as_bytes(),), |columns| columns.get(0)).optional()?;
    Ok(key.ok_or(JournalError::UnknownSession(session))?)
}

fn decode(session: SessionId, columns: &Columns<'_>) -> Result<Row, Failure> {
    let seq = columns.get(0)?;
    Ok(intact(session, seq, columns).ok_or(JournalError::Damaged { session, seq })?)
}

/// The row, if every column can be read and the checksum holds.
pub(crate) fn intact(session: SessionId, seq: u64, columns: &Columns<'_>) -> Option<Row> {
    let row = Row {
        seq,
        class: class_from(columns.get(1).ok()?)?,
        message_index: columns.get(2).ok()?,
        kind: columns.get(4).ok()?,
        payload: columns.get(5).ok()?,
    };
    let crc: u32 = columns.get(3).ok()?;
    (crc == checksum(session, &row)).then_some(row)
}

/// The fixed part goes first and holds the length of the kind, so that no two rows have the same bytes.
fn checksum(session: SessionId, row: &Row) -> u32 {
    let mut head = Vec::with_capacity(64);
    head.extend_from_slice(session.0.as_bytes());
    head.extend_from_slice(&row.seq.to_le_bytes());
    head.extend_from_slice(&class_code(row.class).to_le_bytes());
    head.extend_from_slice(&row.message_index.unwrap_or(u64::MAX).to_le_bytes());
    head.extend_from_slice(&(row.kind.len() as u64).to_le_bytes());
    head.extend_from_slice(row.kind.as_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), row.payload.as_bytes())
}

const fn class_code(class: RowClass) -> i64 {
    match class {
        RowClass::Control => 0,
        RowClass::Event => 1,
    }
}

const fn class_from(code: i64) -> Option<RowClass> {
    match code {
        0 => Some(RowClass::Control),
        1 => Some(RowClass::Event),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_covers_every_column() {
        let session = SessionId::random();
        let row =
            Row { seq: 7, class: RowClass::Control, kind: "ab".into(), payload: "cd".into(), message_index: None };
        let others = [
            Row { seq: 8, ..row.clone() },
            Row { class: RowClass::Event, ..row.clone() },
            Row { kind: "abc".into(), payload: "d".into(), ..row.clone() },
            Row { payload: "ce".into(), ..row.clone() },
            Row { message_index: Some(0), ..row.clone() },
        ];
        for other in others {
            assert_ne!(checksum(session, &row), checksum(session, &other), "{other:?}");
        }
        assert_ne!(checksum(session, &row), checksum(SessionId::random(), &row));
    }
}
