//! Further attempts of a run that failed: each under a key and in a session of its own, all of one row.
//!
//! Invariant: the end of an attempt and the plan for the next one are one transaction.

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, params};
use serde::Serialize;
use stakpak_protocol::{RunId, SessionId};

use super::{LedgerError, RunNumber, RunRecord, RunStatus, progress::Finish, record};
use crate::{
    fire::number_of,
    spec::{Firing, RetryOn, ScheduleSpec},
};

/// One attempt of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// From 1.
    pub n: u32,
    /// Its session.
    pub session_id: Option<SessionId>,
    /// Its run on the server.
    pub run_id: Option<RunId>,
    /// How it ended.
    pub status: RunStatus,
    /// What went wrong.
    pub error: Option<String>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When its end was learnt.
    pub finished_at: DateTime<Utc>,
}

/// What may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It must not, or there is no reason to.
    Never,
    /// It may have done something.
    IfAny,
    /// It did nothing, and the failure may pass.
    Safe,
}

/// The `Idempotency-Key` of an attempt.
pub(super) fn key(fire_key: String, attempt: u32) -> String {
    if attempt <= 1 { fire_key } else { format!("{fire_key}:a{attempt}") }
}

/// Notes the end of an attempt; whether the run waits for another one now.
pub(super) fn record(
    connection: &Connection,
    id: RunNumber,
    finish: &Finish,
    spec: &ScheduleSpec,
    now: DateTime<Utc>,
) -> Result<bool, LedgerError> {
    if spec.firing.retries == 0 {
        return Ok(false);
    }
    let sql = "SELECT attempt, fire_key, cancel_reason IS NOT NULL FROM runs WHERE id = ?1";
    let (attempt, fire_key, is_cancelled): (u32, String, bool) =
        connection.query_row(sql, [id.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    connection.execute(
        "INSERT INTO attempts (run_id, n, session_id, agent_run_id, status, error, started_at, finished_at)
         SELECT id, attempt, session_id, run_id, ?2, ?3, agent_at, ?4 FROM runs WHERE id = ?1
         ON CONFLICT DO UPDATE SET status = ?2, error = ?3, finished_at = ?4",
        params![id.0, finish.status, finish.error, now.timestamp_millis()],
    )?;
    let again = match spec.firing.retry_on {
        RetryOn::Safe => finish.repeat == Repeat::Safe,
        RetryOn::Any => finish.repeat != Repeat::Never,
    };
    if !again || is_cancelled || attempt > spec.firing.retries {
        return Ok(false);
    }
    let asked = finish.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok()).unwrap_or_default();
    let at = now.checked_add_signed(delay(&spec.firing, &key(fire_key, attempt + 1), attempt).max(asked));
    connection.execute(
        "UPDATE runs SET status = 'pending', dispatch_at = ?2, attempt = attempt + 1, error = ?3, updated_at = ?4,
                session_id = NULL, run_id = NULL, way = NULL, handed_over_at = NULL, cursor = 0, waited_ms = 0, over_limit = 0,
                paused_at = NULL, pause_json = NULL,
                approval_expires_at = NULL
         WHERE id = ?1",
        params![id.0, at.unwrap_or(DateTime::<Utc>::MAX_UTC).timestamp_millis(), finish.error, now.timestamp_millis()],
    )?;
    Ok(true)
}

/// The end of an attempt was not known, and is now.
pub(super) fn correct(connection: &Connection, id: RunNumber, finish: &Finish) -> Result<(), LedgerError> {
    connection.execute(
        "UPDATE attempts SET status = ?2, error = ?3, agent_run_id = (SELECT run_id FROM runs WHERE id = ?1)
         WHERE run_id = ?1 AND n = (SELECT attempt FROM runs WHERE id = ?1)",
        params![id.0, finish.status, finish.error],
    )?;
    Ok(())
}

/// Doubles with each attempt up to its most, and is then up to a fifth shorter or longer: the same whenever it is asked for.
fn delay(firing: &Firing, key: &str, attempt: u32) -> TimeDelta {
    let doubled = firing.retry_backoff.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    let millis = u64::try_from(doubled.min(firing.retry_max_delay).as_millis()).unwrap_or(u64::MAX);
    let fifth = millis / 5;
    let spread = millis - fifth + number_of(key, 2 * fifth);
    TimeDelta::try_milliseconds(i64::try_from(spread).unwrap_or(i64::MAX)).unwrap_or(TimeDelta::MAX)
}

/// Puts to each run its attempts.
pub(super) fn attach(connection: &Connection, runs: &mut [RunRecord]) -> Result<(), LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT n, session_id, agent_run_id, status, error, started_at, finished_at FROM attempts WHERE run_id = ?1 ORDER BY n",
    )?;
    for run in runs {
        let rows = statement.query_map([run.id.0], |row| {
            Ok(Attempt {
                n: row.get(0)?,
                session_id: record::parsed(row.get(1)?),
                run_id: record::parsed(row.get(2)?),
                status: row.get(3)?,
                error: row.get(4)?,
                started_at: record::instant(row.get(5)?),
                finished_at: record::instant(row.get(6)?).unwrap_or_default(),
            })
        })?;
        run.attempts = rows.collect::<Result<_, _>>()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_wait_doubles_to_its_most_and_is_spread_by_a_fifth() {
        let firing = Firing {
            retry_backoff: Duration::from_secs(10),
            retry_max_delay: Duration::from_secs(60),
            ..Firing::default()
        };
        for (attempt, seconds) in [(1, 10), (2, 20), (3, 40), (4, 60), (100, 60)] {
            let waits: Vec<_> = (0..200).map(|run| delay(&firing, &format!("k{run}"), attempt)).collect();
            let (shortest, longest) = (TimeDelta::seconds(seconds) * 4 / 5, TimeDelta::seconds(seconds) * 6 / 5);
            assert!(waits.iter().all(|wait| (shortest..=longest).contains(wait)), "{attempt}: {waits:?}");
            assert!(waits.iter().max() > waits.iter().min(), "{attempt}");
            assert_eq!(delay(&firing, "k0", attempt), waits[0]);
        }
    }
}
