//! Stored answers under idempotency keys. A key is free again from the moment it expires.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension};
use stakpak_agent_core::{JournalError, Receipt};

use crate::{
    failure::Failure,
    schema::{nanos, time},
};

/// Expired receipts removed with each new one: more than are added, so that the table shrinks to those in use,
/// and few, so that no append pays for the past.
const SWEEP: u32 = 4;

/// Keeps a receipt, unless its scope holds one that has not expired: then nothing is changed.
pub(crate) fn insert(conn: &Connection, receipt: &Receipt, now: DateTime<Utc>) -> Result<(), Failure> {
    let now = nanos(now);
    let Receipt { scope, body_hash, status, body, expires_at } = receipt;
    let kept = conn
        .prepare_cached(
            "INSERT INTO receipts (scope, expires_at, status, body_hash, body) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (scope) DO UPDATE SET expires_at = excluded.expires_at, status = excluded.status,
                 body_hash = excluded.body_hash, body = excluded.body
             WHERE receipts.expires_at <= ?6",
        )?
        .execute((scope, nanos(*expires_at), status, body_hash, body, now))?;
    if kept == 0 {
        return Err(JournalError::ReceiptExists.into());
    }
    conn.prepare_cached(
        "DELETE FROM receipts WHERE scope IN
         (SELECT scope FROM receipts WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
    )?
    .execute((now, SWEEP))?;
    Ok(())
}

/// The receipt under a scope, unless it has expired.
pub(crate) fn find(conn: &Connection, scope: &str, now: DateTime<Utc>) -> Result<Option<Receipt>, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT scope, expires_at, status, body_hash, body FROM receipts WHERE scope = ?1 AND expires_at > ?2",
    )?;
    let receipt = select.query_row((scope, nanos(now)), |columns| {
        Ok(Receipt {
            scope: columns.get(0)?,
            expires_at: time(columns.get(1)?),
            status: columns.get(2)?,
            body_hash: columns.get(3)?,
            body: columns.get(4)?,
        })
    });
    Ok(receipt.optional()?)
}
