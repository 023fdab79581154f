//! Missed instants that share a row, beside the history: after a long gap only the newest have rows of their own.

use chrono::{DateTime, Utc};
use rusqlite::params;
use serde::Serialize;

use super::{HistoryFilter, Ledger, LedgerError, Reason, RunRecord, RunStatus, record};

/// Missed instants without rows of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissedInstants {
    /// The schedule.
    #[serde(rename = "schedule_name")]
    pub schedule: String,
    /// The oldest of them.
    pub from: DateTime<Utc>,
    /// The newest.
    pub to: DateTime<Utc>,
    /// How many they are.
    pub count: u64,
    /// Why the newest was missed.
    pub reason: Reason,
}

impl Ledger {
    /// The newest first, as far back as the runs that [`history`](Ledger::history) gave with this filter and limit.
    ///
    /// # Errors
    /// Only of the file.
    pub async fn missed_beside(
        &self,
        filter: HistoryFilter<'_>,
        limit: u32,
        runs: &[RunRecord],
    ) -> Result<Vec<MissedInstants>, LedgerError> {
        let HistoryFilter { schedule, status, since, before } = filter;
        if status.is_some_and(|status| status != RunStatus::Missed) {
            return Ok(Vec::new());
        }
        let has_older = u32::try_from(runs.len()).is_ok_and(|count| count >= limit);
        let oldest = runs.last().map(RunRecord::stands_for).filter(|_| has_older);
        let from = oldest.max(since).map_or(i64::MIN, |at| at.timestamp_millis());
        let schedule = schedule.map(str::to_owned);
        self.database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT schedule, from_at, to_at, count, reason FROM missed_ranges
                     WHERE (?1 IS NULL OR schedule = ?1) AND to_at >= ?2
                     AND (?3 IS NULL OR to_at < (SELECT coalesce(nominal_at, planned_at) FROM runs WHERE id = ?3))
                     ORDER BY to_at DESC, rowid DESC LIMIT ?4",
                )?;
                let rows = statement.query_map(params![schedule, from, before.map(|id| id.0), limit], |row| {
                    Ok(MissedInstants {
                        schedule: row.get(0)?,
                        from: record::instant(row.get(1)?).unwrap_or_default(),
                        to: record::instant(row.get(2)?).unwrap_or_default(),
                        count: record::natural(row.get(3)?),
                        reason: row.get(4)?,
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}

impl RunRecord {
    /// Its place in the course of time: its instant, or when it was asked for.
    #[must_use]
    pub fn stands_for(&self) -> DateTime<Utc> {
        self.nominal_at.unwrap_or(self.planned_at)
    }
}
