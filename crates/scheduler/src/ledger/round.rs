//! One look at the rows that wait: each starts, goes on waiting, or ends, by the policies of its schedule and what is active.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};

use super::{
    LedgerError, Reason, RunNumber, RunStatus, Source,
    dispatch::{Dispatched, block, end, start},
    hold::{self, Hold},
    outbox,
    progress::{Finish, record_end},
    recover::{stored_job, stored_spec},
    spending,
    waiting::Pending,
};
use crate::spec::{Overlap, ScheduleSet, ScheduleSpec};

/// Checks at once. They do not take the place of agent runs, so that a script that hangs is in nobody's way.
const CHECKS_AT_ONCE: usize = 32;

/// One look at the rows that wait: what is active, and what was decided so far.
pub(super) struct Round<'a> {
    connection: &'a Connection,
    now: DateTime<Utc>,
    free: usize,
    free_checks: usize,
    set: &'a ScheduleSet,
    /// By schedule.
    active: HashMap<String, Active>,
    groups: HashSet<String>,
    held: HashMap<String, Hold>,
    /// Rows that wait for an active run of their schedule, those of backfills by themselves.
    waiting: HashMap<(String, bool), u32>,
    pub(super) dispatched: Dispatched,
    pub(super) ended: Vec<(String, RunStatus)>,
}

#[derive(Clone, Copy)]
struct Active {
    id: RunNumber,
    /// It should have ended, and the server has not said so.
    unconfirmed: bool,
    /// Nobody is at work on it: it waits for its turn.
    waits: bool,
}

impl<'a> Round<'a> {
    pub(super) fn begin(
        connection: &'a Connection,
        set: &'a ScheduleSet,
        now: DateTime<Utc>,
    ) -> Result<Self, LedgerError> {
        Ok(Self {
            connection,
            now,
            free: set.max_concurrent_runs.saturating_sub(at_work(connection, false)?),
            free_checks: CHECKS_AT_ONCE.saturating_sub(at_work(connection, true)?),
            set,
            active: active_runs(connection)?,
            groups: active_groups(connection)?,
            held: hold::all(connection)?,
            waiting: HashMap::new(),
            dispatched: Dispatched::default(),
            ended: Vec::new(),
        })
    }

    /// Whether no run of any kind can start.
    pub(super) fn is_full(&self) -> bool {
        self.free == 0 && (self.free_checks == 0 || !self.set.has_checks())
    }

    /// Starts the row, lets it wait, or ends it.
    pub(super) fn admit(&mut self, row: Pending, spec: Arc<ScheduleSpec>) -> Result<(), LedgerError> {
        if self.is_held(&row) {
            return self.end(&row, Some(&spec), RunStatus::Skipped, Reason::Paused, None);
        }
        if let Some(why) = spending::used_up(self.connection, row.id, &spec, &self.set.budget, self.now)? {
            return self.leave_out(&row, &spec, &why);
        }
        if let Some(active) = self.active.get(&row.schedule).copied().filter(|_| !row.force) {
            if !(active.waits && row.overlap(&spec) == Overlap::CancelRunning) {
                return self.overlap(&row, &spec, active);
            }
            self.supersede(&row.schedule, active)?;
        }
        let group = spec.firing.exclusive_group.clone();
        let free = if row.checks(&spec) { &mut self.free_checks } else { &mut self.free };
        if *free == 0 || group.as_ref().is_some_and(|group| self.groups.contains(group)) {
            return Ok(());
        }
        *free -= 1;
        self.groups.extend(group);
        self.active.insert(row.schedule.clone(), Active { id: row.id, unconfirmed: false, waits: false });
        let job = start(self.connection, row, spec, &self.set.budget, self.now)?;
        if !job.checking {
            spending::alert(self.connection, &job.spec, self.set, self.now)?;
            outbox::tell_started(self.connection, job.id, &job.spec, self.now)?;
        }
        self.dispatched.jobs.push(job);
        Ok(())
    }

    /// Who asks for a run of a schedule that is held knows what he does; what was asked for before the hold stops with it.
    fn is_held(&self, row: &Pending) -> bool {
        let Some(hold) = self.held.get(&row.schedule) else { return false };
        match row.source {
            Source::Cron => hold.covers(row.nominal_at, self.now),
            Source::Backfill => hold.holds(self.now) && row.planned_at.is_some_and(|at| at < hold.since),
            Source::Manual => false,
        }
    }

    /// Lets a run go on that had to wait: for a slot after its check, or for its next attempt.
    pub(super) fn go_on(&mut self, row: &Pending) -> Result<(), LedgerError> {
        if let Some(reason) = row.cancel {
            let spec = stored_spec(self.connection, row.id)?;
            return self.end(row, spec.as_ref(), RunStatus::Cancelled, reason, None);
        }
        let spec = stored_spec(self.connection, row.id)?;
        if let Some(spec) = &spec
            && let Some(why) = spending::used_up(self.connection, row.id, spec, &self.set.budget, self.now)?
        {
            return if row.attempt > 1 { self.fail(row, spec, why) } else { self.leave_out(row, spec, &why) };
        }
        if self.free == 0 {
            return Ok(());
        }
        if let Some(spec) = &spec {
            spending::begun(self.connection, row.id, spec, &self.set.budget, self.now)?;
        }
        self.connection.execute(
            "UPDATE runs SET status = 'running', agent_at = ?2, updated_at = ?2 WHERE id = ?1",
            params![row.id.0, self.now.timestamp_millis()],
        )?;
        match stored_job(self.connection, row.id.0, self.now)? {
            Some(job) => {
                self.free -= 1;
                spending::alert(self.connection, &job.spec, self.set, self.now)?;
                outbox::tell_started(self.connection, row.id, &job.spec, self.now)?;
                self.active.insert(row.schedule.clone(), Active { id: row.id, unconfirmed: false, waits: false });
                self.dispatched.jobs.push(job);
            }
            None => self.ended.push((row.schedule.clone(), RunStatus::Unknown)),
        }
        Ok(())
    }

    /// Its budget is used up before it began.
    fn leave_out(&mut self, row: &Pending, spec: &ScheduleSpec, why: &str) -> Result<(), LedgerError> {
        end(self.connection, row.id, RunStatus::Skipped, Reason::Budget, Some(why), self.now)?;
        outbox::tell(self.connection, row.id, spec, self.now)?;
        self.ended.push((row.schedule.clone(), RunStatus::Skipped));
        Ok(())
    }

    /// Its budget is used up, and it has begun: there is no further attempt.
    fn fail(&mut self, row: &Pending, spec: &ScheduleSpec, why: String) -> Result<(), LedgerError> {
        self.connection.execute("UPDATE runs SET status = 'running' WHERE id = ?1", [row.id.0])?;
        let finish = Finish::not_started(RunStatus::Failed, Some(Reason::BudgetExceeded), why);
        record_end(self.connection, row.id, &finish, spec, self.now)?;
        self.ended.push((row.schedule.clone(), RunStatus::Failed));
        Ok(())
    }

    /// Ends a run that waits for its turn.
    fn supersede(&mut self, schedule: &str, active: Active) -> Result<(), LedgerError> {
        end(self.connection, active.id, RunStatus::Cancelled, Reason::Superseded, None, self.now)?;
        if let Some(spec) = stored_spec(self.connection, active.id)? {
            outbox::tell(self.connection, active.id, &spec, self.now)?;
        }
        self.ended.push((schedule.to_owned(), RunStatus::Cancelled));
        self.active.remove(schedule);
        self.groups = active_groups(self.connection)?;
        Ok(())
    }

    fn overlap(&mut self, row: &Pending, spec: &ScheduleSpec, active: Active) -> Result<(), LedgerError> {
        // Those of a backfill take no fire its place in the queue; their number was limited when it was asked for.
        let is_backfill = row.source == Source::Backfill;
        let waiting = self.waiting.entry((row.schedule.clone(), is_backfill)).or_default();
        let overlap = row.overlap(spec);
        let (most, reason) = match overlap {
            Overlap::Skip => (0, Reason::Overlap),
            Overlap::CancelRunning if active.unconfirmed => (0, Reason::OverlapCancelFailed),
            Overlap::QueueOne | Overlap::CancelRunning => (1, Reason::Overlap),
            Overlap::QueueAll if is_backfill => (u32::MAX, Reason::QueueFull),
            Overlap::QueueAll => (spec.firing.queue_limit, Reason::QueueFull),
        };
        if *waiting >= most {
            return self.end(row, Some(spec), RunStatus::Skipped, reason, Some(active.id));
        }
        *waiting += 1;
        // A run of this round has nobody yet who could end it: the next round asks again.
        let is_new = self.dispatched.jobs.iter().any(|job| job.id == active.id);
        if overlap == Overlap::CancelRunning && !is_new {
            self.connection.execute(
                "UPDATE runs SET cancel_reason = coalesce(cancel_reason, ?2) WHERE id = ?1",
                params![active.id.0, Reason::Superseded],
            )?;
        }
        Ok(())
    }

    pub(super) fn end(
        &mut self,
        row: &Pending,
        spec: Option<&ScheduleSpec>,
        status: RunStatus,
        reason: Reason,
        blocking: Option<RunNumber>,
    ) -> Result<(), LedgerError> {
        if let Some(blocking) = blocking {
            block(self.connection, row.id, blocking)?;
        }
        end(self.connection, row.id, status, reason, None, self.now)?;
        if let Some(spec) = spec {
            outbox::tell(self.connection, row.id, spec, self.now)?;
        }
        self.ended.push((row.schedule.clone(), status));
        Ok(())
    }
}

fn at_work(connection: &Connection, checking: bool) -> Result<usize, LedgerError> {
    let sql = "SELECT count(*) FROM runs WHERE status = 'running' AND checking = ?1";
    let count: i64 = connection.query_row(sql, [checking], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Runs of which another one must know: at work, waiting for a person or for their turn, or not confirmed to have ended.
pub(super) const ACTIVE: &str = "(status IN ('running', 'paused') OR status = 'pending' AND started_at > 0
     OR status = 'unknown' AND unconfirmed = 1)";

fn active_runs(connection: &Connection) -> Result<HashMap<String, Active>, LedgerError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT schedule, id, unconfirmed, status = 'pending' FROM runs WHERE {ACTIVE}"))?;
    let rows = statement.query_map([], |row| {
        let (id, unconfirmed, waits) = (RunNumber(row.get(1)?), row.get(2)?, row.get(3)?);
        Ok((row.get(0)?, Active { id, unconfirmed, waits }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn active_groups(connection: &Connection) -> Result<HashSet<String>, LedgerError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT exclusive_group FROM runs WHERE exclusive_group IS NOT NULL AND {ACTIVE}"))?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
