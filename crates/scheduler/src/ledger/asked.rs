//! Requests under an `Idempotency-Key` that hold a schedule or let it go on: each is carried out once, also across a restart.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};

use super::{LedgerError, record};

/// A request, and the key it came under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The caller's key.
    pub key: String,
    /// What was asked for; under one key always the same.
    pub request: String,
}

/// Why a schedule is not held, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// Not in the file.
    #[error("there is no schedule named `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The key was used for something else.
    #[error("this idempotency key was used with another request")]
    KeyReused,
    /// The ledger cannot be written.
    #[error("the pause could not be recorded")]
    Ledger(#[from] LedgerError),
}

/// Which of the two was asked for; each has keys of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Hold,
    Release,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
        }
    }
}

/// What an earlier request under a key led to.
pub(super) enum Earlier {
    None,
    /// It was this one; with the end of the hold that was made.
    Same(Option<DateTime<Utc>>),
    Other,
}

pub(super) fn earlier(
    connection: &Connection,
    schedule: &str,
    kind: Kind,
    asked: &Asked,
) -> Result<Earlier, LedgerError> {
    let sql = "SELECT request, until FROM hold_requests WHERE schedule = ?1 AND kind = ?2 AND idempotency_key = ?3";
    let found: Option<(String, Option<i64>)> = connection
        .query_row(sql, params![schedule, kind.as_str(), asked.key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(match found {
        None => Earlier::None,
        Some((request, until)) if request == asked.request => Earlier::Same(record::instant(until)),
        Some(_) => Earlier::Other,
    })
}

/// Remembers that it was carried out.
pub(super) fn note(
    connection: &Connection,
    schedule: &str,
    kind: Kind,
    asked: &Asked,
    (until, now): (Option<DateTime<Utc>>, DateTime<Utc>),
) -> Result<(), LedgerError> {
    let until = until.map(|until| until.timestamp_millis());
    connection.execute(
        "INSERT INTO hold_requests (schedule, kind, idempotency_key, request, until, asked_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![schedule, kind.as_str(), asked.key, asked.request, until, now.timestamp_millis()],
    )?;
    Ok(())
}
