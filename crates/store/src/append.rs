//! What the writer does for an append: check against the stored session, then write rows and projections.
//!
//! Everything that needs no database (JSON, checksums, the shape of the rows) is done before the append queues for the
//! writer, which all sessions share. An append is refused before it has changed anything: it needs no savepoint.

use chrono::{DateTime, Utc};
use rusqlite::Connection;
use stakpak_agent_core::{Append, JournalError, NewSession, Receipt, Spent};
use stakpak_protocol::RunId;

use crate::{
    failure::{Failure, storage},
    owners::Owners,
    receipt,
    record::{self, Sealed},
    session::{self, Encoded},
    snapshot, spending,
};

/// An append, ready to be written.
#[derive(Debug)]
pub(crate) struct PreparedAppend {
    epoch: u64,
    session: Encoded,
    /// Where the session has to end before these rows.
    after_seq: u64,
    rows: Vec<Sealed>,
    run: Option<(RunId, String)>,
    receipt: Option<Receipt>,
    snapshot: Option<snapshot::Sealed>,
    spent: Option<Spent>,
    now: DateTime<Utc>,
}

impl PreparedAppend {
    pub(crate) fn new(append: Append, now: DateTime<Utc>) -> Result<Self, JournalError> {
        let after_seq = check_shape(&append)?;
        let Append { epoch, session, rows, run, receipt, snapshot, spent } = append;
        let run = match run {
            Some(run) => Some((run.run_id, serde_json::to_string(&run).map_err(storage)?)),
            None => None,
        };
        let rows = rows.into_iter().map(|row| Sealed::new(session.id, row)).collect();
        let snapshot = snapshot.map(|snapshot| snapshot::Sealed::new(session.id, snapshot));
        Ok(Self { epoch, session: Encoded::new(session)?, after_seq, rows, run, receipt, snapshot, spent, now })
    }

    pub(crate) fn write(&self, conn: &Connection, owners: Option<&Owners>) -> Result<(), Failure> {
        let id = self.session.session.id;
        let head = session::head(conn, id)?;
        if self.epoch < head.epoch {
            let stale = JournalError::StaleEpoch { session: id, attempted: self.epoch, current: head.epoch };
            return Err(stale.into());
        }
        if let Some(owners) = owners {
            owners.may_write(id, self.epoch, head.epoch)?;
        }
        if self.after_seq != head.last_seq {
            let (expected, found) = (head.last_seq + 1, self.after_seq + 1);
            return Err(JournalError::OutOfSequence { session: id, expected, found }.into());
        }
        if let Some(receipt) = &self.receipt {
            receipt::insert(conn, receipt, self.now)?;
        }
        record::insert(conn, head.key, &self.rows)?;
        session::update(conn, head.key, self.epoch, &self.session)?;
        if let Some((run, json)) = &self.run {
            session::upsert_run(conn, head.key, *run, json)?;
        }
        if let Some(snapshot) = &self.snapshot {
            snapshot::replace(conn, head.key, snapshot)?;
        }
        if let Some(spent) = &self.spent {
            spending::add(conn, spent)?;
        }
        Ok(())
    }
}

/// A new session, ready to be written.
#[derive(Debug)]
pub(crate) struct PreparedSession {
    epoch: u64,
    session: Encoded,
    receipt: Option<Receipt>,
    now: DateTime<Utc>,
}

impl PreparedSession {
    pub(crate) fn new(epoch: u64, new: NewSession, now: DateTime<Utc>) -> Result<Self, JournalError> {
        let NewSession { session, receipt } = new;
        Ok(Self { epoch, session: Encoded::new(session)?, receipt, now })
    }

    pub(crate) fn write(&self, conn: &Connection) -> Result<(), Failure> {
        session::insert(conn, self.epoch, &self.session)?;
        if let Some(receipt) = &self.receipt {
            receipt::insert(conn, receipt, self.now)?;
        }
        Ok(())
    }
}

/// The rows are consecutive, projection and snapshot end where they do. Returns the position before the first.
fn check_shape(append: &Append) -> Result<u64, JournalError> {
    let session = append.session.id;
    if let Some(found) =
        append.snapshot.as_ref().map(|snapshot| snapshot.seq).filter(|seq| *seq != append.session.last_seq)
    {
        return Err(JournalError::OutOfSequence { session, expected: append.session.last_seq, found });
    }
    let Some(first) = append.rows.first() else { return Ok(append.session.last_seq) };
    let mut expected = first.seq;
    for row in &append.rows {
        if row.seq != expected {
            return Err(JournalError::OutOfSequence { session, expected, found: row.seq });
        }
        expected += 1;
    }
    let found = append.session.last_seq + 1;
    if found != expected {
        return Err(JournalError::OutOfSequence { session, expected, found });
    }
    // Position 0 does not exist: a row there never continues a session.
    first.seq.checked_sub(1).ok_or(JournalError::OutOfSequence { session, expected: 1, found: 0 })
}
