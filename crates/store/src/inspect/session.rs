//! Damage in one session.
//!
//! Holes are legal up to `removed_to` of its upkeep, and inside what a merged row says it stands for; every message up to the
//! session's count is there.

use std::ops::RangeInclusive;

use rusqlite::{Connection, OptionalExtension};
use stakpak_agent_core::{Row, merged_ids};
use stakpak_protocol::{EventId, Run, SessionId};
use uuid::Uuid;

use super::Health;
use crate::{record, session, snapshot};

/// In one snapshot. A session that was purged since its key was read is none.
pub(super) fn look(conn: &Connection, key: i64, health: &mut Health) -> rusqlite::Result<()> {
    let snapshot = conn.unchecked_transaction()?;
    let mut select = snapshot.prepare_cached("SELECT * FROM sessions WHERE key = ?1")?;
    let mut rows = select.query((key,))?;
    let Some(columns) = rows.next()? else { return Ok(()) };
    health.sessions += 1;
    let Ok(id) = columns.get("id").map(|id| SessionId(Uuid::from_bytes(id))) else {
        health.tell(None, None, format!("the session under key {key} has no readable id"));
        return Ok(());
    };
    if session::decode(columns).is_err() {
        health.tell(Some(id), None, "its projection cannot be read");
    }
    let (last_seq, message_count) = (columns.get("last_seq")?, columns.get("message_count")?);
    let removed_to = snapshot
        .prepare_cached("SELECT removed_to FROM upkeep WHERE session = ?1")?
        .query_row((key,), |columns| columns.get(0))
        .optional()?;
    let mut sequence = Sequence { id, last: removed_to.unwrap_or(0), holes: Vec::new(), health };
    sequence.read(&snapshot, key, last_seq)?;
    messages(&snapshot, (id, key), message_count, health)?;
    runs(&snapshot, (id, key), health)?;
    control_state(&snapshot, (id, key), health)
}

/// A session's rows, read in order.
struct Sequence<'a> {
    id: SessionId,
    /// Everything up to here is there or accounted for.
    last: u64,
    /// Positions without a row, until a merged row stands for them.
    holes: Vec<RangeInclusive<u64>>,
    health: &'a mut Health,
}

impl Sequence<'_> {
    fn read(&mut self, conn: &Connection, key: i64, last_seq: u64) -> rusqlite::Result<()> {
        let mut select = conn.prepare_cached(
            "SELECT seq, class, message_index, crc, kind, payload FROM records WHERE session = ?1 ORDER BY seq",
        )?;
        let mut rows = select.query((key,))?;
        while let Some(columns) = rows.next()? {
            self.health.rows += 1;
            let seq = columns.get(0)?;
            self.pass(seq);
            match record::intact(self.id, seq, columns) {
                Some(row) => self.fill(&row),
                None => self.tell(seq, "the row does not match its checksum"),
            }
            if seq > last_seq {
                self.tell(seq, format!("the row is beyond the session's end at {last_seq}"));
            }
        }
        self.pass(last_seq.saturating_add(1));
        for hole in std::mem::take(&mut self.holes) {
            let (first, last) = hole.into_inner();
            let reason =
                if first == last { "the row is missing".into() } else { format!("rows to {last} are missing") };
            self.tell(first, reason);
        }
        Ok(())
    }

    /// Goes on to the row at `seq`, past a hole if there is one.
    fn pass(&mut self, seq: u64) {
        if seq > self.last.saturating_add(1) {
            self.holes.push(self.last + 1..=seq - 1);
        }
        self.last = self.last.max(seq);
    }

    /// A merged row stands for the events that it names.
    fn fill(&mut self, row: &Row) {
        let ids = match merged_ids(row) {
            Ok(None) => return,
            Ok(Some(ids)) => ids,
            Err(error) => return self.tell(row.seq, format!("the merged row cannot be read: {error}")),
        };
        let holes = std::mem::take(&mut self.holes);
        self.holes.extend(holes.into_iter().flat_map(|hole| without(hole, &ids)));
    }

    fn tell(&mut self, seq: u64, reason: impl Into<String>) {
        self.health.tell(Some(self.id), Some(seq), reason);
    }
}

/// What is left of a hole when these ids, which are in order, are accounted for.
fn without(hole: RangeInclusive<u64>, ids: &[EventId]) -> Vec<RangeInclusive<u64>> {
    let (mut first, last) = hole.into_inner();
    let mut left = Vec::new();
    for id in ids.iter().map(|id| id.0).filter(|id| (first..=last).contains(id)).collect::<Vec<_>>() {
        if id > first {
            left.push(first..=id - 1);
        }
        first = id + 1;
    }
    if first <= last {
        left.push(first..=last);
    }
    left
}

fn messages(conn: &Connection, (id, key): (SessionId, i64), count: u64, health: &mut Health) -> rusqlite::Result<()> {
    let mut select = conn.prepare_cached(
        "SELECT message_index FROM records WHERE session = ?1 AND message_index < ?2 ORDER BY message_index",
    )?;
    let mut rows = select.query((key, count))?;
    let mut next = 0;
    while let Some(columns) = rows.next()? {
        let index: u64 = columns.get(0)?;
        if index > next {
            health.tell(Some(id), None, format!("message {next} is missing"));
        }
        next = index + 1;
    }
    if next < count {
        health.tell(Some(id), None, format!("messages from {next} to {} are missing", count - 1));
    }
    Ok(())
}

fn runs(conn: &Connection, (id, key): (SessionId, i64), health: &mut Health) -> rusqlite::Result<()> {
    let mut select = conn.prepare_cached("SELECT run FROM runs WHERE session = ?1 ORDER BY place")?;
    let mut rows = select.query((key,))?;
    while let Some(columns) = rows.next()? {
        health.runs += 1;
        let run = columns.get::<_, String>(0).ok();
        if run.and_then(|run| serde_json::from_str::<Run>(&run).ok()).is_none() {
            health.tell(Some(id), None, "one of its runs cannot be read");
        }
    }
    Ok(())
}

/// A snapshot is not needed, but damage is told wherever it is.
fn control_state(conn: &Connection, (id, key): (SessionId, i64), health: &mut Health) -> rusqlite::Result<()> {
    let mut select = conn.prepare_cached("SELECT seq, version, crc, state FROM snapshots WHERE session = ?1")?;
    let mut rows = select.query((key,))?;
    let Some(columns) = rows.next()? else { return Ok(()) };
    if snapshot::intact(id, columns).is_none() {
        health.tell(Some(id), None, "its snapshot does not match its checksum, and is not used");
    }
    Ok(())
}
