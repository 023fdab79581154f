//! From `pending` to `running`: who may start now is decided in the transaction that starts it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use stakpak_protocol::Usd;

use super::{
    Ledger, LedgerError, Reason, RunNumber, RunStatus, Source, cancel,
    round::{ACTIVE, Round},
    spending,
    waiting::{self, Look, Pending},
};
use crate::{
    agent::Progress,
    check::CheckResult,
    spec::{ScheduleSet, ScheduleSpec, SharedBudget},
};

/// A run that somebody has to see to its end, and how far it got.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: RunNumber,
    /// `Idempotency-Key` of this attempt.
    pub(crate) key: String,
    pub(crate) source: Source,
    pub(crate) nominal_at: Option<DateTime<Utc>>,
    /// The version it was started with.
    pub(crate) spec: Arc<ScheduleSpec>,
    /// Its check is to be run first.
    pub(crate) checking: bool,
    /// What its check did.
    pub(crate) check: Option<CheckResult>,
    /// Since when the time of the agent counts.
    pub(crate) agent_at: DateTime<Utc>,
    /// The message, once it was read from its file.
    pub(crate) prompt: Option<String>,
    /// Why it must end, if it must.
    pub(crate) cancel: Option<Reason>,
    /// It should have ended, and the server has not said so.
    pub(crate) unconfirmed: bool,
    /// Time spent waiting for a person, which the limit does not count.
    pub(crate) waited: chrono::TimeDelta,
    pub(crate) progress: Progress,
    /// What the server is asked to let this attempt cost.
    pub(crate) cost_limit: Option<Usd>,
}

/// What the current definitions say about a pending row.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// Start it, with this definition.
    Run(Arc<ScheduleSpec>),
    /// End it; those whom the definition names are told.
    End(RunStatus, Reason, Option<Arc<ScheduleSpec>>),
}

/// What may go on after a look at all rows that wait.
#[derive(Debug, Default)]
pub(crate) struct Dispatched {
    /// To be started.
    pub(crate) jobs: Vec<Job>,
    /// Active runs that must end: a newer one needs their place, or a person wants it.
    pub(crate) to_be_ended: Vec<RunNumber>,
    /// When the next row is due that is planned for later.
    pub(crate) next: Option<DateTime<Utc>>,
}

impl Ledger {
    /// Ends or starts pending rows that are due, oldest first, until as many runs are at work as may, those that the budgets
    /// allow. A run that waits for a person holds no slot.
    pub(crate) async fn dispatch(
        &self,
        verdict: impl Fn(&ScheduleSet, &str, Source) -> Verdict + Send + 'static,
        set: Arc<ScheduleSet>,
        look: Look,
        now: DateTime<Utc>,
    ) -> Result<Dispatched, LedgerError> {
        let (dispatched, ended) = self
            .database
            .write(move |connection| {
                let mut round = Round::begin(connection, &set, now)?;
                waiting::each(connection, look, now, &mut round, |round, row| {
                    if row.has_begun {
                        return round.go_on(&row);
                    }
                    match verdict(&set, &row.schedule, row.source) {
                        Verdict::Run(spec) => round.admit(row, spec),
                        Verdict::End(status, reason, spec) => round.end(&row, spec.as_deref(), status, reason, None),
                    }
                })?;
                let next = waiting::next(connection, now)?;
                let to_be_ended = cancel::to_be_ended(connection)?;
                Ok::<_, LedgerError>((Dispatched { next, to_be_ended, ..round.dispatched }, round.ended))
            })
            .await?;
        if !dispatched.jobs.is_empty() {
            self.posted.notify_one();
        }
        self.count(&ended);
        Ok(dispatched)
    }

    pub(super) fn count(&self, ended: &[(String, RunStatus)]) {
        if !ended.is_empty() {
            self.posted.notify_one();
        }
        ended.iter().for_each(|(schedule, status)| self.ended.add(schedule, status.as_str(), 1));
    }
}

pub(super) fn start(
    connection: &Connection,
    row: Pending,
    spec: Arc<ScheduleSpec>,
    shared: &SharedBudget,
    now: DateTime<Utc>,
) -> Result<Job, LedgerError> {
    let checking = row.checks(&spec);
    connection.execute(
        "UPDATE runs SET status = ?2, spec_json = ?3, profile = ?4, model = ?5, started_at = ?6, agent_at = ?6,
                updated_at = ?6, exclusive_group = ?7, checking = ?8
         WHERE id = ?1",
        params![
            row.id.0,
            RunStatus::Running,
            serde_json::to_string(&*spec)?,
            spec.profile,
            spec.model,
            now.timestamp_millis(),
            spec.firing.exclusive_group,
            checking
        ],
    )?;
    let cost_limit = if checking { None } else { spending::begun(connection, row.id, &spec, shared, now)? };
    let Pending { id, source, nominal_at, fire_key, .. } = row;
    Ok(Job {
        id,
        key: fire_key,
        source,
        nominal_at,
        spec,
        checking,
        check: None,
        agent_at: now,
        prompt: None,
        cancel: None,
        unconfirmed: false,
        waited: chrono::TimeDelta::zero(),
        progress: Progress::default(),
        cost_limit,
    })
}

/// The run of the schedule that is active, if there is one.
pub(super) fn active_run(connection: &Connection, schedule: &str) -> Result<Option<RunNumber>, LedgerError> {
    let sql = format!("SELECT id FROM runs WHERE schedule = ?1 AND {ACTIVE} LIMIT 1");
    let id = connection.query_row(&sql, [schedule], |row| row.get(0)).optional()?;
    Ok(id.map(RunNumber))
}

pub(super) fn block(connection: &Connection, id: RunNumber, blocking: RunNumber) -> Result<(), LedgerError> {
    connection.execute("UPDATE runs SET blocking_run = ?2 WHERE id = ?1", params![id.0, blocking.0])?;
    Ok(())
}

pub(super) fn skip_for_overlap(
    connection: &Connection,
    id: RunNumber,
    blocking: RunNumber,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    block(connection, id, blocking)?;
    end(connection, id, RunStatus::Skipped, Reason::Overlap, None, now)
}

pub(super) fn end(
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
