//! Removing what nobody can ask for any more, a little at a time.
//!
//! A purged session is gone at once; its key waits in `purging` until the last of its rows is removed. Its receipts go first:
//! with the last row goes all that still knows its id.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension};
use stakpak_agent_core::Progress;
use stakpak_protocol::SessionId;
use uuid::Uuid;

use super::{MOST_BYTES, MOST_ROWS};
use crate::{failure::Failure, schema::nanos};

/// Makes a deleted session unknown. Nothing happens when it is unknown already, or not deleted.
pub(super) fn purge(conn: &Connection, session: SessionId) -> Result<(), Failure> {
    let id = session.0.as_bytes();
    conn.execute(
        "INSERT INTO purging (session, id)
         SELECT key, id FROM sessions WHERE id = ?1 AND status = 'DELETED' AND open = 0",
        (id,),
    )?;
    conn.execute(
        "UPDATE meta SET value = max(value, (SELECT max(session) FROM purging))
         WHERE key = 'purged_key' AND EXISTS (SELECT 1 FROM purging)",
        (),
    )?;
    conn.execute("DELETE FROM snapshots WHERE session IN (SELECT session FROM purging WHERE id = ?1)", (id,))?;
    conn.execute("DELETE FROM sessions WHERE key IN (SELECT session FROM purging WHERE id = ?1)", (id,))?;
    Ok(())
}

/// A step of the sweep.
#[derive(Debug)]
pub(super) enum Step {
    /// Receipts go that expired up to then; one that was used again meanwhile stays.
    Expired(Vec<String>, i64),
    /// Receipts of a purged session go.
    Receipts(Vec<String>),
    /// Rows of a purged session up to this position go.
    Rows(i64, u64),
    /// The rest of a purged session goes.
    Rest(i64),
}

/// The next step; none when everything is swept.
pub(super) fn plan(conn: &Connection, now: DateTime<Utc>) -> Result<Option<Step>, Failure> {
    let now = nanos(now);
    let expired = expired_receipts(conn, now)?;
    if !expired.is_empty() {
        return Ok(Some(Step::Expired(expired, now)));
    }
    let mut purged = conn.prepare_cached("SELECT session, id FROM purging ORDER BY session LIMIT 1")?;
    let purged = purged.query_row((), |columns| Ok((columns.get(0)?, Uuid::from_bytes(columns.get(1)?)))).optional()?;
    let Some((key, id)) = purged else { return Ok(None) };
    let receipts = receipts_of(conn, id)?;
    if !receipts.is_empty() {
        return Ok(Some(Step::Receipts(receipts)));
    }
    Ok(Some(match last_of_batch(conn, key)? {
        Some(last) => Step::Rows(key, last),
        None => Step::Rest(key),
    }))
}

impl Step {
    pub(super) fn apply(self, conn: &Connection) -> Result<Progress, Failure> {
        match self {
            Self::Expired(scopes, until) => {
                let mut delete = conn.prepare_cached("DELETE FROM receipts WHERE scope = ?1 AND expires_at <= ?2")?;
                for scope in scopes {
                    delete.execute((scope, until))?;
                }
            }
            Self::Receipts(scopes) => {
                let mut delete = conn.prepare_cached("DELETE FROM receipts WHERE scope = ?1")?;
                for scope in scopes {
                    delete.execute((scope,))?;
                }
            }
            Self::Rows(key, last) => {
                conn.prepare_cached("DELETE FROM records WHERE session = ?1 AND seq <= ?2")?.execute((key, last))?;
            }
            Self::Rest(key) => rest(conn, key)?,
        }
        Ok(Progress::More)
    }
}

/// Runs, then the marks and the key itself.
fn rest(conn: &Connection, key: i64) -> Result<(), Failure> {
    let mut runs = conn.prepare_cached(
        "DELETE FROM runs WHERE session = ?1 AND run_id IN (SELECT run_id FROM runs WHERE session = ?1 LIMIT ?2)",
    )?;
    if runs.execute((key, MOST_ROWS))? == MOST_ROWS {
        return Ok(());
    }
    conn.execute("DELETE FROM upkeep WHERE session = ?1", (key,))?;
    conn.execute("DELETE FROM purging WHERE session = ?1", (key,))?;
    Ok(())
}

fn expired_receipts(conn: &Connection, now: i64) -> Result<Vec<String>, Failure> {
    let mut select =
        conn.prepare_cached("SELECT scope FROM receipts WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2")?;
    let scopes = select.query_map((now, MOST_ROWS), |columns| columns.get(0))?;
    Ok(scopes.collect::<Result<_, _>>()?)
}

/// A scope names its request's path, and with it the session.
fn receipts_of(conn: &Connection, id: Uuid) -> Result<Vec<String>, Failure> {
    let mut select =
        conn.prepare_cached("SELECT scope FROM receipts WHERE instr(lower(scope), '/sessions/' || ?1) > 0 LIMIT ?2")?;
    let scopes = select.query_map((id.to_string(), MOST_ROWS), |columns| columns.get(0))?;
    Ok(scopes.collect::<Result<_, _>>()?)
}

/// Position of the last of the rows that one step removes.
fn last_of_batch(conn: &Connection, key: i64) -> Result<Option<u64>, Failure> {
    let mut select =
        conn.prepare_cached("SELECT seq, octet_length(payload) FROM records WHERE session = ?1 ORDER BY seq LIMIT ?2")?;
    let mut rows = select.query((key, MOST_ROWS))?;
    let (mut last, mut bytes) = (None, 0);
    while let Some(columns) = rows.next()? {
        last = Some(columns.get(0)?);
        bytes += columns.get::<_, usize>(1)?;
        if bytes >= MOST_BYTES {
            break;
        }
    }
    Ok(last)
}
