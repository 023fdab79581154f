//! What the ledger lets go of: the output of old runs, and one day their rows.
//!
//! Invariants: a run that has not ended, or of which something is still to be told, stays as it is; a fire key stays for
//! [`KEY_KEPT`] after its row was planned, as a row without output that no list shows, so that its instant cannot run again.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, params};

use super::{Ledger, LedgerError, RunNumber};

/// No backfill and no clock that is set back makes a run of the same instant within this time.
const KEY_KEPT: Duration = Duration::from_secs(35 * 24 * 60 * 60);

/// Rows of one transaction: others do not wait long behind it.
const AT_ONCE: usize = 500;

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Runs that ended longer ago are let go of.
    pub age: Duration,
    /// So many of a schedule are kept at most; none: any number.
    pub runs: Option<u32>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(90 * 24 * 60 * 60), runs: Some(10_000) }
    }
}

impl Ledger {
    /// Lets go of old runs that have ended; how many.
    ///
    /// # Errors
    /// Only of the file.
    pub async fn prune(&self, retention: Retention, now: DateTime<Utc>) -> Result<usize, LedgerError> {
        let mut pruned = 0;
        loop {
            let done = self.database.write(move |connection| prune(connection, retention, now)).await?;
            pruned += done.pruned;
            if done.rows < AT_ONCE {
                return Ok(pruned);
            }
        }
    }
}

/// What one transaction did.
struct Done {
    /// Runs that lists no longer show.
    pruned: usize,
    /// The most rows of one kind.
    rows: usize,
}

fn prune(connection: &Connection, retention: Retention, now: DateTime<Utc>) -> Result<Done, LedgerError> {
    let (cutoff, keys_kept) = (before(now, retention.age), before(now, KEY_KEPT));
    let mut ids = too_old(connection, cutoff)?;
    if let Some(most) = retention.runs.filter(|_| ids.len() < AT_ONCE) {
        ids.extend(too_many(connection, most, AT_ONCE - ids.len())?);
        ids.sort_unstable();
        ids.dedup();
    }
    for id in &ids {
        empty(connection, *id)?;
    }
    let of_keys = "DELETE FROM runs WHERE id IN
        (SELECT id FROM runs WHERE is_pruned = 1 AND planned_at < ?1 LIMIT ?2)";
    let keys = connection.prepare_cached(of_keys)?.execute(params![keys_kept, rows(AT_ONCE)])?;
    let oldest = cutoff.min(keys_kept);
    connection.prepare_cached("DELETE FROM missed_ranges WHERE to_at < ?1")?.execute([oldest])?;
    connection.prepare_cached("DELETE FROM spending WHERE spent_at < ?1")?.execute([oldest])?;
    connection.prepare_cached("DELETE FROM backfills WHERE created_at < ?1")?.execute([oldest])?;
    connection.prepare_cached("DELETE FROM hold_requests WHERE asked_at < ?1")?.execute([oldest])?;
    connection
        .prepare_cached("DELETE FROM outbox WHERE run_id IS NULL AND state <> 'pending' AND ended_at < ?1")?
        .execute([cutoff])?;
    Ok(Done { pruned: ids.len(), rows: ids.len().max(keys) })
}

/// As SQLite counts.
fn rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn before(now: DateTime<Utc>, age: Duration) -> i64 {
    let age = TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX);
    now.checked_sub_signed(age).map_or(i64::MIN, |instant| instant.timestamp_millis())
}

/// Has ended, for good, and everybody who wants to be told of it has been.
const MAY_GO: &str = "is_pruned = 0 AND finished_at IS NOT NULL AND status NOT IN ('pending', 'running', 'paused')
     AND NOT (status = 'unknown' AND unconfirmed = 1)
     AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.run_id = runs.id AND outbox.state = 'pending')";

fn too_old(connection: &Connection, cutoff: i64) -> Result<Vec<RunNumber>, LedgerError> {
    let sql = format!("SELECT id FROM runs WHERE {MAY_GO} AND finished_at < ?1 LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let ids = statement.query_map(params![cutoff, rows(AT_ONCE)], |row| row.get(0).map(RunNumber))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// All but the newest of each schedule, at most `limit`.
fn too_many(connection: &Connection, most: u32, limit: usize) -> Result<Vec<RunNumber>, LedgerError> {
    let sql = "SELECT schedule FROM runs WHERE is_pruned = 0 GROUP BY schedule HAVING count(*) > ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let schedules = statement.query_map([most], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let sql = format!(
        "SELECT id FROM runs WHERE schedule = ?1 AND {MAY_GO}
            AND id <= (SELECT id FROM runs WHERE schedule = ?1 AND is_pruned = 0 ORDER BY id DESC LIMIT 1 OFFSET ?2)
         LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut ids = Vec::new();
    for schedule in schedules {
        let found =
            statement.query_map(params![schedule, most, rows(limit - ids.len())], |row| row.get(0).map(RunNumber))?;
        ids.extend(found.collect::<Result<Vec<_>, _>>()?);
        if ids.len() >= limit {
            break;
        }
    }
    Ok(ids)
}

/// Takes out all but what says that the instant was accounted for, and how.
fn empty(connection: &Connection, id: RunNumber) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "UPDATE runs SET is_pruned = 1, spec_json = NULL, prompt = NULL, usage_json = NULL, agent_stdout = NULL,
                    agent_message = NULL, error = NULL, pause_json = NULL, checked_at = NULL, check_stdout = NULL,
                    check_stderr = NULL
             WHERE id = ?1",
        )?
        .execute([id.0])?;
    for of_run in [
        "DELETE FROM attempts WHERE run_id = ?1",
        "DELETE FROM decisions WHERE run_id = ?1",
        "DELETE FROM cancels WHERE run_id = ?1",
        "DELETE FROM outbox WHERE run_id = ?1",
    ] {
        connection.prepare_cached(of_run)?.execute([id.0])?;
    }
    Ok(())
}
