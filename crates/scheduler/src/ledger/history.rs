//! What ran, newest first.

use chrono::{DateTime, Utc};
use rusqlite::params;

use super::{Ledger, LedgerError, RunNumber, RunRecord, RunStatus, attach, record};

/// Which runs are wanted; all of them by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct HistoryFilter<'a> {
    /// Of this schedule.
    pub schedule: Option<&'a str>,
    /// That stand so.
    pub status: Option<RunStatus>,
    /// That started then or later; of those that did not start, planned for then or later.
    pub since: Option<DateTime<Utc>>,
    /// With a lower number: where the last page ended.
    pub before: Option<RunNumber>,
}

impl Ledger {
    /// The newest runs first.
    ///
    /// # Errors
    /// Only of the file.
    pub async fn history(&self, filter: HistoryFilter<'_>, limit: u32) -> Result<Vec<RunRecord>, LedgerError> {
        let HistoryFilter { schedule, status, since, before } = filter;
        let (schedule, since) = (schedule.map(str::to_owned), since.map(|since| since.timestamp_millis()));
        self.database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {} FROM runs WHERE is_pruned = 0 AND (?1 IS NULL OR schedule = ?1)
                     AND (?2 IS NULL OR status = ?2) AND (?3 IS NULL OR coalesce(started_at, planned_at) >= ?3)
                     AND (?4 IS NULL OR id < ?4) ORDER BY id DESC LIMIT ?5",
                    record::COLUMNS
                ))?;
                let rows = statement
                    .query_map(params![schedule, status, since, before.map(|id| id.0), limit], RunRecord::from_row)?;
                let mut runs = rows.collect::<Result<Vec<_>, _>>()?;
                attach(connection, &mut runs)?;
                Ok(runs)
            })
            .await
    }
}
