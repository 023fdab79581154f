//! Reads the product's ledger from outside, also while it is at work.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, OpenFlags, Row as SqlRow};

use crate::{
    history::{Fire, Range, Row},
    schedules::{Millis, Overlap, QUEUE_LIMIT, SLOTS, Schedule},
};

/// Runs that hold the place of their schedule.
const ACTIVE: &str = "(status IN ('running', 'paused') OR status = 'pending' AND started_at IS NOT NULL
     OR status = 'unknown' AND unconfirmed = 1)";

/// A look at the ledger. Closed before the product is killed, so that a kill leaves nobody behind who has it open.
pub struct Look(Connection);

impl Look {
    pub fn open(ledger: &Path) -> Self {
        let connection = Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        Self(connection)
    }

    fn all<T>(&self, sql: &str, read: impl Fn(&SqlRow<'_>) -> rusqlite::Result<T>) -> Vec<T> {
        let mut statement = self.0.prepare_cached(sql).unwrap();
        let rows = statement.query_map([], |row| read(row)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// Up to where each schedule is planned.
    pub fn cursors(&self) -> BTreeMap<String, Millis> {
        self.all("SELECT name, cursor_at FROM schedule_state", |row| Ok((row.get(0)?, row.get(1)?)))
            .into_iter()
            .collect()
    }

    /// What must not be at any moment: two active runs of a schedule, more agents at work than slots.
    pub fn crowded(&self) -> Vec<String> {
        let doubled =
            format!("SELECT schedule, group_concat(id) FROM runs WHERE {ACTIVE} GROUP BY schedule HAVING count(*) > 1");
        let mut crowded = self.all(&doubled, |row| {
            Ok(format!("{} has two active runs, {}", row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        });
        let at_work: i64 =
            self.all("SELECT count(*) FROM runs WHERE status = 'running' AND checking = 0", |row| row.get(0))[0];
        if usize::try_from(at_work).unwrap() > SLOTS {
            crowded.push(format!("{at_work} agents are at work, and {SLOTS} may be"));
        }
        crowded
    }

    /// Rows that wait at `now` behind an active run, by schedule, with the run they wait for.
    pub fn waiting(&self, now: Millis) -> BTreeMap<String, (i64, Vec<i64>)> {
        let mut waiting: BTreeMap<String, (i64, Vec<i64>)> = self
            .all(&format!("SELECT schedule, id FROM runs WHERE {ACTIVE}"), |row| {
                Ok((row.get(0)?, (row.get(1)?, Vec::new())))
            })
            .into_iter()
            .collect();
        let rows = self
            .all("SELECT schedule, id, dispatch_at FROM runs WHERE status = 'pending' AND started_at IS NULL", |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, Millis>(2)?))
            });
        for (schedule, id, _) in rows.into_iter().filter(|(_, _, dispatch_at)| *dispatch_at <= now) {
            if let Some((_, ids)) = waiting.get_mut(&schedule) {
                ids.push(id);
            }
        }
        waiting
    }

    /// Rows that have not ended and whose time has come.
    pub fn open_rows(&self, now: Millis) -> usize {
        let sql = format!("SELECT dispatch_at, {ACTIVE} FROM runs WHERE status = 'pending' OR {ACTIVE}");
        let rows = self.all(&sql, |row| Ok((row.get::<_, Millis>(0)?, row.get::<_, bool>(1)?)));
        rows.into_iter().filter(|(dispatch_at, active)| *active || *dispatch_at <= now).count()
    }

    pub fn rows(&self) -> Vec<Row> {
        let sql = "SELECT id, schedule, nominal_at, fire_key, status, reason, blocking_run, planned_at, dispatch_at, started_at,
                          finished_at, check_exit_code, recoveries, error, agent_at FROM runs ORDER BY id";
        self.all(sql, |row| {
            Ok(Row {
                id: row.get(0)?,
                fire: Fire { schedule: row.get(1)?, nominal: row.get(2)? },
                key: row.get(3)?,
                status: row.get(4)?,
                reason: row.get(5)?,
                blocking: row.get(6)?,
                planned_at: row.get(7)?,
                dispatch_at: row.get(8)?,
                started_at: row.get(9)?,
                finished_at: row.get(10)?,
                exit_code: row.get(11)?,
                recoveries: row.get(12)?,
                error: row.get(13)?,
                agent_at: row.get(14)?,
            })
        })
    }

    pub fn ranges(&self) -> Vec<Range> {
        self.all("SELECT schedule, from_at, to_at, count FROM missed_ranges ORDER BY schedule, from_at", |row| {
            let count: i64 = row.get(3)?;
            Ok(Range {
                schedule: row.get(0)?,
                from: row.get(1)?,
                to: row.get(2)?,
                count: usize::try_from(count).unwrap(),
            })
        })
    }
}

/// Rows of a schedule that waited behind the same run at both looks, between which every loop came round.
pub fn too_many_wait(
    schedules: &[Schedule],
    before: &BTreeMap<String, (i64, Vec<i64>)>,
    after: &BTreeMap<String, (i64, Vec<i64>)>,
) -> Vec<String> {
    let mut found = Vec::new();
    for schedule in schedules {
        let (Some((active, ids)), Some((still, waiting))) = (before.get(&schedule.name), after.get(&schedule.name))
        else {
            continue;
        };
        let stayed = ids.iter().filter(|id| waiting.contains(id)).count();
        let most = match schedule.overlap {
            Overlap::Skip => 0,
            Overlap::QueueOne | Overlap::CancelRunning => 1,
            Overlap::QueueAll => QUEUE_LIMIT,
        };
        if active == still && stayed > most {
            found.push(format!("{stayed} runs of {} wait for run {active}, and {most} may", schedule.name));
        }
    }
    found
}
