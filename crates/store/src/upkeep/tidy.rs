//! One step in one session: what it is, and doing it.
//!
//! Looked for in this order, the first that is found is the step: rows to count, events that are too old, control rows that
//! went out of use with them, deltas to merge, events that are too many. When there is none, the session is settled.

use rusqlite::{Connection, OptionalExtension};
use stakpak_agent_core::{JournalError, Progress, Row, event_time, merge_deltas};
use stakpak_protocol::SessionId;

use super::{
    MOST_BYTES, MOST_ROWS,
    due::Bounds,
    marks::{self, Marks},
};
use crate::{
    failure::Failure,
    record::{self, Sealed},
    schema::{bound, nanos},
    snapshot,
};

/// Rows counted in one step. Only their sizes are read.
const MOST_COUNTED: usize = 8 * MOST_ROWS;

/// A step, ready to be applied.
#[derive(Debug)]
pub(super) struct Step {
    key: i64,
    from: Option<Marks>,
    to: Marks,
    change: Change,
}

#[derive(Debug)]
enum Change {
    /// Events were counted.
    Count,
    /// Events up to `removed_to` go.
    Remove,
    /// Control rows without a message up to `pruned_to` go.
    Prune,
    /// Each row takes the place of the events from the position before it.
    Merge(Vec<(u64, Sealed)>),
    /// Nothing is left to do.
    Settle,
}

/// The next step; none when the session is settled, or is no more.
pub(super) fn plan(conn: &Connection, session: SessionId, bounds: &Bounds) -> Result<Option<Step>, Failure> {
    let Some(head) = head(conn, session)? else { return Ok(None) };
    let from = marks::find(conn, head.key)?;
    let key = head.key;
    let mut visit = Visit { conn, session, head, bounds, marks: from.clone().unwrap_or_default() };
    let change = visit.change()?;
    let to = visit.marks;
    if matches!(change, Change::Settle) && from.as_ref() == Some(&to) {
        return Ok(None);
    }
    Ok(Some(Step { key, from, to, change }))
}

impl Step {
    pub(super) fn apply(self, conn: &Connection) -> Result<Progress, Failure> {
        let Self { key, from, to, change } = self;
        if !marks::advance(conn, key, from.as_ref(), &to)? {
            return Ok(Progress::Done);
        }
        let from = from.unwrap_or_default();
        match change {
            Change::Settle => return Ok(Progress::Done),
            Change::Count => {}
            Change::Remove => {
                conn.prepare_cached("DELETE FROM records WHERE session = ?1 AND seq > ?2 AND seq <= ?3 AND class = 1")?
                    .execute((key, from.removed_to, to.removed_to))?;
            }
            Change::Prune => {
                conn.prepare_cached(
                    "DELETE FROM records
                     WHERE session = ?1 AND seq > ?2 AND seq <= ?3 AND class = 0 AND message_index IS NULL",
                )?
                .execute((key, from.pruned_to, to.pruned_to))?;
                snapshot::remove_stale(conn, key)?;
            }
            Change::Merge(rows) => {
                for (from, row) in &rows {
                    record::replace(conn, key, *from, row)?;
                }
            }
        }
        Ok(Progress::More)
    }
}

struct Head {
    key: i64,
    last_seq: u64,
    last_event_id: u64,
    run_first_seq: u64,
    open: bool,
}

fn head(conn: &Connection, session: SessionId) -> Result<Option<Head>, Failure> {
    let mut select =
        conn.prepare_cached("SELECT key, last_seq, last_event_id, run_first_seq, open FROM sessions WHERE id = ?1")?;
    let head = select.query_row((session.0.as_bytes(),), |columns| {
        Ok(Head {
            key: columns.get(0)?,
            last_seq: columns.get(1)?,
            last_event_id: columns.get(2)?,
            run_first_seq: columns.get(3)?,
            open: columns.get(4)?,
        })
    });
    Ok(head.optional()?)
}

struct Visit<'a> {
    conn: &'a Connection,
    session: SessionId,
    head: Head,
    bounds: &'a Bounds,
    /// As they will be after the step.
    marks: Marks,
}

impl Visit<'_> {
    fn change(&mut self) -> Result<Change, Failure> {
        if let Some(count) = self.count()? {
            return Ok(count);
        }
        let oldest = self.removable(1)?.first().map(|row| self.time(row)).transpose()?;
        if oldest.is_some_and(|oldest| Some(oldest) <= self.bounds.events_until) {
            return self.remove_old();
        }
        if let Some(prune) = self.prune()? {
            return Ok(prune);
        }
        if let Some(merge) = self.merge()? {
            return Ok(merge);
        }
        let too_many = self.bounds.events_bytes.is_some_and(|most| bound(self.marks.event_bytes) > most);
        if too_many && oldest.is_some() {
            return self.remove_excess();
        }
        self.marks.oldest_at = oldest;
        self.marks.settled_to = self.head.last_seq;
        Ok(Change::Settle)
    }

    /// Counts what was appended since; a step of its own only when that is much.
    fn count(&mut self) -> Result<Option<Change>, Failure> {
        if self.marks.counted_to == self.head.last_seq {
            return Ok(None);
        }
        let mut select = self.conn.prepare_cached(
            "SELECT count(*), max(seq), coalesce(sum(bytes), 0) FROM
             (SELECT seq, CASE class WHEN 1 THEN octet_length(payload) ELSE 0 END AS bytes FROM records
              WHERE session = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4)",
        )?;
        let range = (self.head.key, self.marks.counted_to, self.head.last_seq, MOST_COUNTED);
        let (rows, last, bytes): (usize, Option<u64>, u64) =
            select.query_row(range, |columns| Ok((columns.get(0)?, columns.get(1)?, columns.get(2)?)))?;
        self.marks.event_bytes += bytes;
        if rows < MOST_COUNTED {
            self.marks.counted_to = self.head.last_seq;
            return Ok(None);
        }
        self.marks.counted_to = last.unwrap_or(self.head.last_seq);
        Ok(Some(Change::Count))
    }

    fn remove_old(&mut self) -> Result<Change, Failure> {
        for row in self.removable(MOST_ROWS)? {
            if Some(self.time(&row)?) > self.bounds.events_until {
                break;
            }
            self.marks.remove(&row);
        }
        Ok(Change::Remove)
    }

    fn remove_excess(&mut self) -> Result<Change, Failure> {
        for row in self.removable(MOST_ROWS)? {
            if self.bounds.events_bytes.is_none_or(|most| bound(self.marks.event_bytes) <= most) {
                break;
            }
            self.marks.remove(&row);
        }
        Ok(Change::Remove)
    }

    /// Control rows serve folding, and folding begins with the last run. Those of earlier runs go with the events.
    fn prune(&mut self) -> Result<Option<Change>, Failure> {
        let to = self.marks.removed_to.min(self.head.run_first_seq.saturating_sub(1));
        if self.marks.pruned_to >= to {
            return Ok(None);
        }
        let mut select = self.conn.prepare_cached(
            "SELECT seq, octet_length(payload) FROM records INDEXED BY records_control
             WHERE session = ?1 AND class = 0 AND seq > ?2 AND seq <= ?3 ORDER BY seq",
        )?;
        let mut rows = select.query((self.head.key, self.marks.pruned_to, to))?;
        let (mut count, mut bytes) = (0, 0);
        while let Some(columns) = rows.next()? {
            (count, bytes) = (count + 1, bytes + columns.get::<_, usize>(1)?);
            if count >= MOST_ROWS || bytes >= MOST_BYTES {
                self.marks.pruned_to = columns.get(0)?;
                return Ok(Some(Change::Prune));
            }
        }
        self.marks.pruned_to = to;
        Ok(Some(Change::Prune))
    }

    /// Runs are looked at in order; the first that ended too late ends the search, and its end is when to come back.
    fn merge(&mut self) -> Result<Option<Change>, Failure> {
        let after = self.marks.merged_to.max(self.marks.removed_to);
        let subject = (self.session, self.head.key);
        self.marks.unmerged_at = None;
        let mut to = None;
        for end in record::terminal_rows(self.conn, subject, (after, self.head.last_event_id), MOST_ROWS)? {
            let ended_at = self.time(&end)?;
            if ended_at > self.bounds.deltas_until {
                self.marks.unmerged_at = Some(ended_at);
                break;
            }
            to = Some(end.seq);
        }
        let Some(to) = to else { return Ok(None) };
        let rows = record::event_rows(self.conn, subject, (after, to), MOST_ROWS, MOST_BYTES)?;
        let merged = merge_deltas(&rows).map_err(|_| self.damaged(after + 1))?;
        for merged in &merged {
            let replaced = rows.iter().filter(|row| (merged.from.0..=merged.row.seq).contains(&row.seq));
            let before: usize = replaced.map(|row| row.payload.len()).sum();
            self.marks.event_bytes = self.marks.event_bytes.saturating_sub(before as u64);
            self.marks.event_bytes += merged.row.payload.len() as u64;
        }
        self.marks.merged_to = rows.last().map_or(to, |row| row.seq);
        let sealed = merged.into_iter().map(|merged| (merged.from.0, Sealed::new(self.session, merged.row)));
        Ok(Some(Change::Merge(sealed.collect())))
    }

    /// The oldest events, unless they are of an active run or the session's newest.
    fn removable(&self, most: usize) -> Result<Vec<Row>, Failure> {
        let Head { last_event_id, run_first_seq, open, .. } = self.head;
        let end = if open { run_first_seq } else { last_event_id };
        let range = (self.marks.removed_to, end.saturating_sub(1));
        record::event_rows(self.conn, (self.session, self.head.key), range, most, MOST_BYTES)
    }

    fn time(&self, row: &Row) -> Result<i64, Failure> {
        Ok(event_time(row).map(nanos).map_err(|_| self.damaged(row.seq))?)
    }

    fn damaged(&self, seq: u64) -> JournalError {
        JournalError::Damaged { session: self.session, seq }
    }
}

impl Marks {
    fn remove(&mut self, row: &Row) {
        self.removed_to = row.seq;
        self.event_bytes = self.event_bytes.saturating_sub(row.payload.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, Utc};
    use stakpak_agent_core::Retention;
    use uuid::Uuid;

    use super::*;
    use crate::schema::MIGRATIONS;

    /// A plan that waited while another process went further must not set the session back.
    #[test]
    fn a_plan_that_is_out_of_date_is_dropped() {
        let conn = Connection::open_in_memory().unwrap();
        for migration in MIGRATIONS {
            conn.execute_batch(migration.sql).unwrap();
        }
        let session = SessionId(Uuid::from_u128(7));
        conn.execute(
            "INSERT INTO sessions VALUES (1, ?1, 1, 9, 9, 1, 0, 0, 0, 0, 'ACTIVE', 'PRIVATE', '{}', NULL, NULL, NULL, '', '')",
            (session.0.as_bytes(),),
        )
        .unwrap();
        let payload = r#"{"timestamp":"2026-03-01T09:00:00Z"}"#;
        let event = |seq| Row {
            seq,
            class: stakpak_agent_core::RowClass::Event,
            kind: "turn_started".to_owned(),
            payload: payload.to_owned(),
            message_index: None,
        };
        let rows: Vec<_> = (1..=9).map(|seq| Sealed::new(session, event(seq))).collect();
        record::insert(&conn, 1, &rows).unwrap();

        let bounds = |events_bytes| {
            let policy = Retention { events_age: None, events_bytes, deltas: Duration::MAX, deleted_sessions: None };
            Bounds::new(&policy, DateTime::<Utc>::UNIX_EPOCH)
        };
        let (most, few) = (bounds(Some(8 * payload.len() as u64)), bounds(Some(0)));
        let early = plan(&conn, session, &most).unwrap().unwrap();
        let late = plan(&conn, session, &few).unwrap().unwrap();
        assert_eq!(late.apply(&conn).unwrap(), Progress::More);
        let marks = marks::find(&conn, 1).unwrap();
        assert_eq!(marks.as_ref().map(|marks| marks.removed_to), Some(8));
        assert_eq!(early.apply(&conn).unwrap(), Progress::Done);
        assert_eq!(marks::find(&conn, 1).unwrap(), marks);
    }
}
