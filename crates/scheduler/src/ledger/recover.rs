//! Runs that were under way when the process died, or whose end the server has not confirmed.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use stakpak_protocol::{EventId, RunId, SessionId};

use super::{
    Ledger, LedgerError, Reason, RunNumber, RunStatus, attempts,
    dispatch::{Job, end},
    progress::{Finish, record_end},
    record,
};
use crate::{
    agent::{Progress, Way},
    spec::{OnCrash, ScheduleSpec},
};

/// A run is taken up again this often; the next time it fails.
const RECOVERIES: u32 = 3;

/// What the last process left behind.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// To be seen to their end.
    pub(crate) jobs: Vec<Job>,
    /// Runs at the server that nobody follows any more.
    pub(crate) given_up: Vec<(RunNumber, SessionId, RunId)>,
}

impl Ledger {
    /// The runs that were under way when the process died. Each time counts; one too many fails the run. Those that wait for a
    /// person stay as they are, and so do those whose turn has not come.
    pub(crate) async fn recover(&self, now: DateTime<Utc>) -> Result<Recovered, LedgerError> {
        let (recovered, ended) = self
            .database
            .write(move |connection| {
                let (mut recovered, mut ended) = (Recovered::default(), Vec::new());
                for found in found(connection)? {
                    if found.status == RunStatus::Running && found.recoveries >= RECOVERIES {
                        give_up(connection, found.id, now)?;
                        recovered.given_up.extend(found.agent_run.map(|(session, run)| (found.id, session, run)));
                        ended.push((found.schedule, RunStatus::Failed));
                        continue;
                    }
                    if found.status == RunStatus::Running {
                        count(connection, &found)?;
                    }
                    match stored_job(connection, found.id.0, now)? {
                        Some(job) => recovered.jobs.push(job),
                        None => ended.push((found.schedule, RunStatus::Unknown)),
                    }
                }
                Ok::<_, LedgerError>((recovered, ended))
            })
            .await?;
        self.count(&ended);
        Ok(recovered)
    }
}

/// A run that has not ended, or is not known to have.
struct Found {
    id: RunNumber,
    schedule: String,
    status: RunStatus,
    recoveries: u32,
    /// Its run at the server, once that is known.
    agent_run: Option<(SessionId, RunId)>,
}

fn found(connection: &Connection) -> Result<Vec<Found>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, schedule, status, recoveries, session_id, run_id FROM runs
         WHERE status IN ('running', 'paused') OR status = 'unknown' AND unconfirmed = 1
         ORDER BY id",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Found {
            id: RunNumber(row.get(0)?),
            schedule: row.get(1)?,
            status: row.get(2)?,
            recoveries: row.get(3)?,
            agent_run: record::parsed(row.get(4)?).zip(record::parsed(row.get(5)?)),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Notes that the run is taken up again; one that is not to survive a crash is taken up in order to be cancelled.
fn count(connection: &Connection, found: &Found) -> Result<(), LedgerError> {
    connection.execute("UPDATE runs SET recoveries = recoveries + 1 WHERE id = ?1", [found.id.0])?;
    let spec = stored_spec(connection, found.id)?;
    if found.agent_run.is_some() && spec.is_some_and(|spec| spec.firing.on_crash == OnCrash::Fail) {
        let sql = "UPDATE runs SET cancel_reason = coalesce(cancel_reason, ?2) WHERE id = ?1";
        connection.execute(sql, params![found.id.0, Reason::CrashLimit])?;
    }
    Ok(())
}

fn give_up(connection: &Connection, id: RunNumber, now: DateTime<Utc>) -> Result<(), LedgerError> {
    let text = "the process died too often while this run was under way";
    match stored_spec(connection, id)? {
        Some(spec) => {
            let finish = Finish::not_started(RunStatus::Failed, Some(Reason::CrashLimit), text.to_owned());
            record_end(connection, id, &finish, &spec, now)?;
            Ok(())
        }
        None => end(connection, id, RunStatus::Failed, Reason::CrashLimit, Some(text), now),
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
                paused_at, prompt, cancel_reason, unconfirmed, checking, attempt, way, handed_over_at, over_limit, cost_limit_micros, {}
         FROM runs WHERE id = ?1",
        record::CHECK_COLUMNS
    );
    let (spec, job) = connection.query_row(&sql, [id], |row| {
        let spec: Option<ScheduleSpec> = record::json(row.get(0)?);
        let (key, source) = (attempts::key(row.get(1)?, row.get(14)?), row.get(2)?);
        let (nominal_at, agent_at) = (record::instant(row.get(3)?), record::instant(row.get(4)?));
        let waited = chrono::TimeDelta::milliseconds(row.get(5)?);
        let (prompt, cancel, unconfirmed) = (row.get(10)?, row.get(11)?, row.get(12)?);
        let (checking, check) = (row.get(13)?, record::check(row, 19)?);
        let (way, handed_over_at): (Option<String>, _) = (row.get(15)?, record::instant(row.get(16)?));
        let way = match way.as_deref() {
            Some("chat") => Way::Chat(handed_over_at.unwrap_or_default()),
            Some(_) => Way::Silent,
            None => Way::Open,
        };
        let cost_limit = record::usd(row.get(18)?);
        let progress = Progress {
            way,
            session: record::parsed(row.get(6)?),
            run: record::parsed(row.get(7)?),
            cursor: EventId(record::natural(row.get(8)?)),
            paused_since: record::instant(row.get(9)?),
            over_limit: row.get(17)?,
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
            cost_limit,
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
