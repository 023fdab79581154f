//! From `pending` to `running`: who may start now is decided in the transaction that starts it.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use stakpak_protocol::EventId;

use super::{Ledger, LedgerError, Reason, RunNumber, RunStatus, Source, record};
use crate::{agent::Progress, spec::ScheduleSpec};

/// A run is taken up again this often; the next time it fails.
const RECOVERIES: u32 = 3;

/// A run that somebody has to see to its end, and how far it got.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: RunNumber,
    pub(crate) fire_key: String,
    pub(crate) source: Source,
    pub(crate) nominal_at: Option<DateTime<Utc>>,
    /// The version it was started with.
    pub(crate) spec: Arc<ScheduleSpec>,
    pub(crate) started_at: DateTime<Utc>,
    /// The message, once it was read from its file.
    pub(crate) prompt: Option<String>,
    /// Time spent waiting for a person, which the limit does not count.
    pub(crate) waited: chrono::TimeDelta,
    pub(crate) progress: Progress,
}

/// What the current definitions say about a pending row.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// Start it, with this definition.
    Run(Arc<ScheduleSpec>),
    /// End it.
    End(RunStatus, Reason),
}

impl Ledger {
    /// Ends or starts pending rows, oldest first, until `slots` runs are at work. A run that waits for a person holds no slot.
    pub(crate) async fn dispatch(
        &self,
        verdict: impl Fn(&str, Source) -> Verdict + Send + 'static,
        slots: usize,
        now: DateTime<Utc>,
    ) -> Result<Vec<Job>, LedgerError> {
        let (jobs, ended) = self
            .database
            .write(move |connection| {
                let mut ended = Vec::new();
                let mut active = active_runs(connection)?;
                let mut free = slots.saturating_sub(running(connection)?);
                let mut jobs = Vec::new();
                for row in pending(connection)? {
                    let spec = match verdict(&row.schedule, row.source) {
                        Verdict::Run(spec) => spec,
                        Verdict::End(status, reason) => {
                            end(connection, row.id, status, reason, None, now)?;
                            ended.push((row.schedule, status));
                            continue;
                        }
                    };
                    if let Some(blocking) = active.get(&row.schedule) {
                        skip_for_overlap(connection, row.id, *blocking, now)?;
                        ended.push((row.schedule, RunStatus::Skipped));
                    } else if free > 0 {
                        free -= 1;
                        active.insert(row.schedule.clone(), row.id);
                        jobs.push(start(connection, row, spec, now)?);
                    }
                }
                Ok::<_, LedgerError>((jobs, ended))
            })
            .await?;
        self.count(&ended);
        Ok(jobs)
    }

    /// The runs that were under way when the process died. Each time counts; one too many fails the run.
    pub(crate) async fn recover(&self, now: DateTime<Utc>) -> Result<Vec<Job>, LedgerError> {
        let (jobs, ended) = self
            .database
            .write(move |connection| {
                let ids: Vec<(i64, String, RunStatus, u32)> = connection
                    .prepare_cached(
                        "SELECT id, schedule, status, recoveries FROM runs WHERE status IN ('running', 'paused')
                         ORDER BY id",
                    )?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
                    .collect::<Result<_, _>>()?;
                let (mut jobs, mut ended) = (Vec::new(), Vec::new());
                for (id, schedule, status, recoveries) in ids {
                    if status == RunStatus::Running && recoveries >= RECOVERIES {
                        let text = "the process died too often while this run was under way";
                        end(connection, RunNumber(id), RunStatus::Failed, Reason::CrashLimit, Some(text), now)?;
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

    fn count(&self, ended: &[(String, RunStatus)]) {
        ended.iter().for_each(|(schedule, status)| self.ended.add(schedule, *status, 1));
    }
}

struct Pending {
    id: RunNumber,
    schedule: String,
    source: Source,
    nominal_at: Option<DateTime<Utc>>,
    fire_key: String,
}

fn pending(connection: &Connection) -> Result<Vec<Pending>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, schedule, source, nominal_at, fire_key FROM runs WHERE status = 'pending'
         ORDER BY dispatch_at, schedule, id",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Pending {
            id: RunNumber(row.get(0)?),
            schedule: row.get(1)?,
            source: row.get(2)?,
            nominal_at: record::instant(row.get(3)?),
            fire_key: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn start(
    connection: &Connection,
    row: Pending,
    spec: Arc<ScheduleSpec>,
    now: DateTime<Utc>,
) -> Result<Job, LedgerError> {
    connection.execute(
        "UPDATE runs SET status = ?2, spec_json = ?3, profile = ?4, model = ?5, started_at = ?6, updated_at = ?6
         WHERE id = ?1",
        params![
            row.id.0,
            RunStatus::Running,
            serde_json::to_string(&*spec)?,
            spec.profile,
            spec.model,
            now.timestamp_millis()
        ],
    )?;
    let Pending { id, source, nominal_at, fire_key, schedule: _ } = row;
    Ok(Job {
        id,
        fire_key,
        source,
        nominal_at,
        spec,
        started_at: now,
        prompt: None,
        waited: chrono::TimeDelta::zero(),
        progress: Progress::default(),
    })
}

/// A row whose definition cannot be read (written by another version) ends as `unknown`: what became of it, nobody here can find out.
fn stored_job(connection: &Connection, id: i64, now: DateTime<Utc>) -> Result<Option<Job>, LedgerError> {
    let (spec, job) = connection.query_row(
        "SELECT spec_json, fire_key, source, nominal_at, started_at, waited_ms, session_id, run_id, cursor, paused_at,
                prompt
         FROM runs WHERE id = ?1",
        [id],
        |row| {
            let spec: Option<ScheduleSpec> = record::json(row.get(0)?);
            let (fire_key, source) = (row.get(1)?, row.get(2)?);
            let (nominal_at, started_at) = (record::instant(row.get(3)?), record::instant(row.get(4)?));
            let waited = chrono::TimeDelta::milliseconds(row.get(5)?);
            let prompt = row.get(10)?;
            let progress = Progress {
                session: record::parsed(row.get(6)?),
                run: record::parsed(row.get(7)?),
                cursor: EventId(record::natural(row.get(8)?)),
                paused_since: record::instant(row.get(9)?),
            };
            let job = move |spec| Job {
                id: RunNumber(id),
                fire_key,
                source,
                nominal_at,
                spec: Arc::new(spec),
                started_at: started_at.unwrap_or(now),
                prompt,
                waited,
                progress,
            };
            Ok((spec, job))
        },
    )?;
    if spec.is_none() {
        connection.execute(
            "UPDATE runs SET status = ?2, error = ?3, finished_at = ?4, updated_at = ?4 WHERE id = ?1",
            params![id, RunStatus::Unknown, "its stored definition cannot be read", now.timestamp_millis()],
        )?;
    }
    Ok(spec.map(job))
}

fn running(connection: &Connection) -> Result<usize, LedgerError> {
    let count: i64 =
        connection.query_row("SELECT count(*) FROM runs WHERE status = 'running'", [], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

fn active_runs(connection: &Connection) -> Result<HashMap<String, RunNumber>, LedgerError> {
    let mut statement =
        connection.prepare_cached("SELECT schedule, id FROM runs WHERE status IN ('running', 'paused')")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, RunNumber(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The run of the schedule that is under way, if there is one.
pub(super) fn active_run(connection: &Connection, schedule: &str) -> Result<Option<RunNumber>, LedgerError> {
    let id = connection
        .query_row(
            "SELECT id FROM runs WHERE schedule = ?1 AND status IN ('running', 'paused') LIMIT 1",
            [schedule],
            |row| row.get(0),
        )
        .optional()?;
    Ok(id.map(RunNumber))
}

pub(super) fn skip_for_overlap(
    connection: &Connection,
    id: RunNumber,
    blocking: RunNumber,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    connection.execute("UPDATE runs SET blocking_run = ?2 WHERE id = ?1", params![id.0, blocking.0])?;
    end(connection, id, RunStatus::Skipped, Reason::Overlap, None, now)
}

fn end(
    connection: &Connection,
    id: RunNumber,
    status: RunStatus,
    reason: Reason,
    error: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    connection.execute(
        "UPDATE runs SET status = ?2, reason = ?3, error = ?4, finished_at = ?5, updated_at = ?5 WHERE id = ?1",
        params![id.0, status, reason, error, now.timestamp_millis()],
    )?;
    Ok(())
}
