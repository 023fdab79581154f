//! Rows that wait for their turn, in its order, and which of them a round looks at.
//!
//! A round is held each time a run ends or a row comes due. With thousands of rows that wait for a slot it looks only at those for
//! which something may have changed; now and then, and after every change from outside, it looks at all.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row, params};

use super::{
    LedgerError, Reason, RunNumber, Source, record,
    round::{ACTIVE, Round},
};
use crate::spec::{Overlap, ScheduleSpec};

/// Rows that are read at a time.
const PAGE: usize = 256;

/// Which rows a round looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// All that are due. What a person started is due whatever a clock says that was set back.
    All,
    /// From the first on until no slot is free; then only those that came due after this instant, and those whose schedule has an
    /// active run.
    Since(DateTime<Utc>),
}

/// A row that waits and is due.
pub(super) struct Pending {
    pub(super) id: RunNumber,
    pub(super) schedule: String,
    pub(super) source: Source,
    pub(super) nominal_at: Option<DateTime<Utc>>,
    pub(super) fire_key: String,
    /// It is run without its check.
    pub(super) no_check: bool,
    /// It is run beside another one.
    pub(super) force: bool,
    /// Its check is done, or an attempt of it: it is a run under way, and keeps its version.
    pub(super) has_begun: bool,
    /// It must end.
    pub(super) cancel: Option<Reason>,
    /// In the place of the policy of its schedule.
    pub(super) overlap: Option<Overlap>,
    pub(super) planned_at: Option<DateTime<Utc>>,
    /// Which one is next, from 1.
    pub(super) attempt: u32,
    dispatch_at: i64,
}

const COLUMNS: &str =
    "id, schedule, source, nominal_at, fire_key, no_check, force, started_at IS NOT NULL, cancel_reason,
     overlap, planned_at, attempt, dispatch_at";
/// The order of turns, which the index `runs_waiting` has; without statistics SQLite would not choose it by itself.
const ORDER: &str = "dispatch_at, schedule, id";

impl Pending {
    /// Whether a check runs before the agent.
    pub(super) fn checks(&self, spec: &ScheduleSpec) -> bool {
        spec.check.is_some() && !self.no_check
    }

    pub(super) fn overlap(&self, spec: &ScheduleSpec) -> Overlap {
        self.overlap.unwrap_or(spec.firing.overlap)
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: RunNumber(row.get(0)?),
            schedule: row.get(1)?,
            source: row.get(2)?,
            nominal_at: record::instant(row.get(3)?),
            fire_key: row.get(4)?,
            no_check: row.get(5)?,
            force: row.get(6)?,
            has_begun: row.get(7)?,
            cancel: row.get(8)?,
            overlap: record::word(row.get(9)?),
            planned_at: record::instant(row.get(10)?),
            attempt: row.get(11)?,
            dispatch_at: row.get(12)?,
        })
    }

    fn place(&self) -> Place {
        Place(self.dispatch_at, self.schedule.clone(), self.id.0)
    }
}

/// Where a row is in the order of turns.
struct Place(i64, String, i64);

impl Place {
    const FIRST: Self = Self(i64::MIN, String::new(), i64::MIN);
}

/// Shows the round the rows it is to look at, in their order.
pub(super) fn each<'a>(
    connection: &Connection,
    look: Look,
    now: DateTime<Utc>,
    round: &mut Round<'a>,
    mut show: impl FnMut(&mut Round<'a>, Pending) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let mut after = Place::FIRST;
    loop {
        let rows = page(connection, look, &after, now)?;
        let is_last = rows.len() < PAGE;
        for row in rows {
            if let Look::Since(since) = look
                && round.is_full()
            {
                return concerned(connection, &after, since, now)?.into_iter().try_for_each(|row| show(round, row));
            }
            after = row.place();
            show(round, row)?;
        }
        if is_last {
            return Ok(());
        }
    }
}

fn page(connection: &Connection, look: Look, after: &Place, now: DateTime<Utc>) -> Result<Vec<Pending>, LedgerError> {
    let due = match look {
        Look::All => "(dispatch_at <= ?1 OR source <> 'cron' AND started_at IS NULL)",
        Look::Since(_) => "dispatch_at <= ?1",
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM runs INDEXED BY runs_waiting WHERE status = 'pending' AND {due} AND ({ORDER}) > (?2, ?3, ?4)
         ORDER BY {ORDER} LIMIT {PAGE}"
    ))?;
    let Place(dispatch_at, schedule, id) = after;
    let rows = statement.query_map(params![now.timestamp_millis(), dispatch_at, schedule, id], Pending::from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Of the rows after that place, those that may have to end although no slot is free.
fn concerned(
    connection: &Connection,
    after: &Place,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<Pending>, LedgerError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM runs INDEXED BY runs_waiting
         WHERE status = 'pending' AND dispatch_at > ?1 AND dispatch_at <= ?2 AND ({ORDER}) > (?3, ?4, ?5)
         UNION
         SELECT {COLUMNS} FROM runs INDEXED BY runs_waiting_of_schedule
         WHERE status = 'pending' AND dispatch_at <= ?2 AND ({ORDER}) > (?3, ?4, ?5)
               AND schedule IN (SELECT schedule FROM runs WHERE {ACTIVE})
         ORDER BY {ORDER}"
    ))?;
    let Place(dispatch_at, schedule, id) = after;
    let (since, now) = (since.timestamp_millis(), now.timestamp_millis());
    let rows = statement.query_map(params![since, now, dispatch_at, schedule, id], Pending::from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When the next row comes due.
pub(super) fn next(connection: &Connection, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, LedgerError> {
    let sql = "SELECT min(dispatch_at) FROM runs INDEXED BY runs_waiting WHERE status = 'pending' AND dispatch_at > ?1";
    let next = connection.prepare_cached(sql)?.query_row([now.timestamp_millis()], |row| row.get(0))?;
    Ok(record::instant(next))
}
