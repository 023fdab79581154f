//! One look at the rows that wait: each starts, goes on waiting, or ends, by the policies of its schedule and what is active.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};

use super::{
    LedgerError, Reason, RunNumber, RunStatus, Source,
    dispatch::{Dispatched, Pending, block, end, start},
    hold::{self, Hold},
};
use crate::spec::{Overlap, ScheduleSpec};

/// One look at the rows that wait: what is active, and what was decided so far.
pub(super) struct Round<'a> {
    connection: &'a Connection,
    now: DateTime<Utc>,
    free: usize,
    /// By schedule.
    active: HashMap<String, Active>,
    groups: HashSet<String>,
    held: HashMap<String, Hold>,
    /// Rows that wait for an active run of their schedule.
    waiting: HashMap<String, u32>,
    pub(super) dispatched: Dispatched,
    pub(super) ended: Vec<(String, RunStatus)>,
}

#[derive(Clone, Copy)]
struct Active {
    id: RunNumber,
    /// It should have ended, and the server has not said so.
    unconfirmed: bool,
}

impl<'a> Round<'a> {
    pub(super) fn begin(connection: &'a Connection, slots: usize, now: DateTime<Utc>) -> Result<Self, LedgerError> {
        Ok(Self {
            connection,
            now,
            free: slots.saturating_sub(running(connection)?),
            active: active_runs(connection)?,
            groups: active_groups(connection)?,
            held: hold::all(connection)?,
            waiting: HashMap::new(),
            dispatched: Dispatched::default(),
            ended: Vec::new(),
        })
    }

    /// Starts the row, lets it wait, or ends it.
    pub(super) fn admit(&mut self, row: Pending, spec: Arc<ScheduleSpec>) -> Result<(), LedgerError> {
        let is_held = self.held.get(&row.schedule).is_some_and(|hold| hold.covers(row.nominal_at, self.now));
        if is_held && row.source == Source::Cron {
            return self.end(&row, RunStatus::Skipped, Reason::Paused, None);
        }
        if let Some(active) = self.active.get(&row.schedule).copied() {
            return self.overlap(&row, &spec, active);
        }
        let group = spec.firing.exclusive_group.clone();
        if self.free == 0 || group.as_ref().is_some_and(|group| self.groups.contains(group)) {
            return Ok(());
        }
        self.free -= 1;
        self.groups.extend(group);
        self.active.insert(row.schedule.clone(), Active { id: row.id, unconfirmed: false });
        self.dispatched.jobs.push(start(self.connection, row, spec, self.now)?);
        Ok(())
    }

    fn overlap(&mut self, row: &Pending, spec: &ScheduleSpec, active: Active) -> Result<(), LedgerError> {
        let waiting = self.waiting.entry(row.schedule.clone()).or_default();
        let (most, reason) = match spec.firing.overlap {
            Overlap::Skip => (0, Reason::Overlap),
            Overlap::CancelRunning if active.unconfirmed => (0, Reason::OverlapCancelFailed),
            Overlap::QueueOne | Overlap::CancelRunning => (1, Reason::Overlap),
            Overlap::QueueAll => (spec.firing.queue_limit, Reason::QueueFull),
        };
        if *waiting >= most {
            return self.end(row, RunStatus::Skipped, reason, Some(active.id));
        }
        *waiting += 1;
        // A run of this round has nobody yet who could end it: the next round asks again.
        let is_new = self.dispatched.jobs.iter().any(|job| job.id == active.id);
        if spec.firing.overlap == Overlap::CancelRunning && !is_new {
            self.connection.execute(
                "UPDATE runs SET cancel_reason = coalesce(cancel_reason, ?2) WHERE id = ?1",
                params![active.id.0, Reason::Superseded],
            )?;
            self.dispatched.superseded.push(active.id);
        }
        Ok(())
    }

    pub(super) fn end(
        &mut self,
        row: &Pending,
        status: RunStatus,
        reason: Reason,
        blocking: Option<RunNumber>,
    ) -> Result<(), LedgerError> {
        if let Some(blocking) = blocking {
            block(self.connection, row.id, blocking)?;
        }
        end(self.connection, row.id, status, reason, None, self.now)?;
        self.ended.push((row.schedule.clone(), status));
        Ok(())
    }
}

fn running(connection: &Connection) -> Result<usize, LedgerError> {
    let count: i64 =
        connection.query_row("SELECT count(*) FROM runs WHERE status = 'running'", [], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Runs of which another one must know: at work, waiting for a person, or not confirmed to have ended.
pub(super) const ACTIVE: &str = "(status IN ('running', 'paused') OR status = 'unknown' AND unconfirmed = 1)";

fn active_runs(connection: &Connection) -> Result<HashMap<String, Active>, LedgerError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT schedule, id, unconfirmed FROM runs WHERE {ACTIVE}"))?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, Active { id: RunNumber(row.get(1)?), unconfirmed: row.get(2)? })))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn active_groups(connection: &Connection) -> Result<HashSet<String>, LedgerError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT exclusive_group FROM runs WHERE exclusive_group IS NOT NULL AND {ACTIVE}"))?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
