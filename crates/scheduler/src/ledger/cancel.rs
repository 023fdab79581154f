//! Runs that a person ends: one that waits for its turn ends at once, one at work when the server has confirmed it.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};

use super::{Ledger, LedgerError, Reason, RunNumber, RunRecord, RunStatus, dispatch, run};

/// Why a run is not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// There is no such run.
    #[error("there is no scheduled run {run}")]
    Unknown {
        /// What was asked for.
        run: RunNumber,
    },
    /// It has ended.
    #[error("scheduled run {run} has ended: it is {status}")]
    Ended {
        /// The run.
        run: RunNumber,
        /// How it ended.
        status: RunStatus,
    },
    /// The ledger cannot be written.
    #[error("the cancel could not be recorded")]
    Ledger(#[from] LedgerError),
}

impl Ledger {
    /// Asks for the end of a run, durably; a scheduler that runs on this file has to be told to look. A request that is
    /// repeated under its key asks for nothing anew, and is told where the run stands now.
    ///
    /// # Errors
    /// When it is unknown or has ended.
    pub async fn cancel(
        &self,
        id: RunNumber,
        key: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<RunRecord, CancelError> {
        let cancelled = self.database.write(move |connection| cancel(connection, id, key, now)).await?;
        if let Ok(run) = &cancelled
            && run.status == RunStatus::Cancelled
        {
            self.ended.add(&run.schedule, run.status.as_str(), 1);
        }
        cancelled
    }
}

type Cancelled = Result<RunRecord, CancelError>;

fn cancel(
    connection: &Connection,
    id: RunNumber,
    key: Option<String>,
    now: DateTime<Utc>,
) -> Result<Cancelled, LedgerError> {
    let Some(before) = run(connection, id)? else { return Ok(Err(CancelError::Unknown { run: id })) };
    let sql = "SELECT EXISTS (SELECT 1 FROM cancels WHERE run_id = ?1 AND idempotency_key = ?2)";
    if connection.query_row(sql, params![id.0, key], |row| row.get(0))? {
        return Ok(Ok(before));
    }
    let asked = connection.execute(
        "UPDATE runs SET cancel_reason = coalesce(cancel_reason, ?2), updated_at = ?3
         WHERE id = ?1 AND (status IN ('pending', 'running', 'paused') OR status = 'unknown' AND unconfirmed = 1)",
        params![id.0, Reason::User, now.timestamp_millis()],
    )?;
    if asked == 0 {
        return Ok(Err(CancelError::Ended { run: id, status: before.status }));
    }
    if let Some(key) = key {
        connection.execute("INSERT INTO cancels (run_id, idempotency_key) VALUES (?1, ?2)", params![id.0, key])?;
    }
    if before.status == RunStatus::Pending {
        dispatch::end(connection, id, RunStatus::Cancelled, Reason::User, None, now)?;
    }
    Ok(run(connection, id)?.ok_or(CancelError::Unknown { run: id }))
}

/// Runs that are to end and have not.
pub(super) fn to_be_ended(connection: &Connection) -> Result<Vec<RunNumber>, LedgerError> {
    let sql = "SELECT id FROM runs WHERE cancel_reason IS NOT NULL
               AND (status IN ('running', 'paused') OR status = 'unknown' AND unconfirmed = 1)";
    let mut statement = connection.prepare_cached(sql)?;
    let ids = statement.query_map([], |row| row.get(0).map(RunNumber))?;
    Ok(ids.collect::<Result<_, _>>()?)
}
