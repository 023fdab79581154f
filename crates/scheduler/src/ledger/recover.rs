//! Runs that were under way when the process died, or whose end the server has not confirmed.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use stakpak_protocol::EventId;

use super::{
    Ledger, LedgerError, Reason, RunNumber, RunStatus, attempts,
    dispatch::{Job, end},
    outbox, record,
};
use crate::{agent::Progress, spec::ScheduleSpec};

/// A run is taken up again this often; the next time it fails.
const RECOVERIES: u32 = 3;

impl Ledger {
    /// The runs that were under way when the process died. Each time counts; one too many fails the run.
    pub(crate) async fn recover(&self, now: DateTime<Utc>) -> Result<Vec<Job>, LedgerError> {
        let (jobs, ended) = self
            .database
            .write(move |connection| {
                let ids: Vec<(i64, String, RunStatus, u32)> = connection
                    .prepare_cached(
                        "SELECT id, schedule, status, recoveries FROM runs
                         WHERE status IN ('running', 'paused') OR status = 'unknown' AND unconfirmed = 1
                         ORDER BY id",
                    )?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
                    .collect::<Result<_, _>>()?;
                let (mut jobs, mut ended) = (Vec::new(), Vec::new());
                for (id, schedule, status, recoveries) in ids {
                    if status == RunStatus::Running && recoveries >= RECOVERIES {
                        let text = "the process died too often while this run was under way";
                        end(connection, RunNumber(id), RunStatus::Failed, Reason::CrashLimit, Some(text), now)?;
                        if let Some(spec) = stored_spec(connection, RunNumber(id))? {
                            outbox::tell(connection, RunNumber(id), &spec, now)?;
                        }
                        ended.push((schedule, RunStatus::Failed));
                        continue;
                    }
                    if status == RunStatus::Running {
                        connection.execute("UPDATE runs SET recoveries = recoveries + 1 WHERE id = ?1", [id])?;
                    }
                    match stored_job(connection, id, now)? {
                        Some(job) => jobs.push(job),
                        None => ended.push((schedule, RunStatus::Unknown)),
                    }
                }
                Ok::<_, LedgerError>((jobs, ended))
            })
            .await?;
        self.count(&ended);
        Ok(jobs)
    }
}

/// The definition that a run was started with, if it can be read.
pub(super) fn stored_spec(connection: &Connection, id: RunNumber) -> Result<Option<ScheduleSpec>, LedgerError> {
    let stored: Option<Option<String>> =
        connection.query_row("SELECT spec_json FROM runs WHERE id = ?1", [id.0], |row| row.get(0)).optional()?;
    Ok(record::json(stored.flatten()))
}

/// A row whose definition cannot be read (written by another version) ends as `unknown`: what became of it, nobody here can find out.
pub(super) fn stored_job(connection: &Connection, id: i64, now: DateTime<Utc>) -> Result<Option<Job>, LedgerError> {
    let sql = format!(
        "SELECT spec_json, fire_key, source, nominal_at, coalesce(agent_at, started_at), waited_ms, session_id, run_id, cursor,
                paused_at, prompt, cancel_reason, unconfirmed, checking, attempt, {}
         FROM runs WHERE id = ?1",
        record::CHECK_COLUMNS
    );
    let (spec, job) = connection.query_row(&sql, [id], |row| {
        let spec: Option<ScheduleSpec> = record::json(row.get(0)?);
        let (key, source) = (attempts::key(row.get(1)?, row.get(14)?), row.get(2)?);
        let (nominal_at, agent_at) = (record::instant(row.get(3)?), record::instant(row.get(4)?));
        let waited = chrono::TimeDelta::milliseconds(row.get(5)?);
        let (prompt, cancel, unconfirmed) = (row.get(10)?, row.get(11)?, row.get(12)?);
        let (checking, check) = (row.get(13)?, record::check(row, 15)?);
        let progress = Progress {
            session: record::parsed(row.get(6)?),
            run: record::parsed(row.get(7)?),
            cursor: EventId(record::natural(row.get(8)?)),
            paused_since: record::instant(row.get(9)?),
        };
        let job = move |spec| Job {
            id: RunNumber(id),
            key,
            source,
            nominal_at,
            spec: Arc::new(spec),
            checking,
            check,
            agent_at: agent_at.unwrap_or(now),
            prompt,
            cancel,
            unconfirmed,
            waited,
            progress,
        };
        Ok((spec, job))
    })?;
    if spec.is_none() {
        connection.execute(
            "UPDATE runs SET status = ?2, error = ?3, finished_at = ?4, updated_at = ?4 WHERE id = ?1",
            params![id, RunStatus::Unknown, "its stored definition cannot be read", now.timestamp_millis()],
        )?;
    }
    Ok(spec.map(job))
}
