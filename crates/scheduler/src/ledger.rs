//! The ledger: which instants were accounted for, and every run with its outcome. SQLite, one file.
//!
//! Invariants: a fire key has one row, ever; a row is durable before anything it stands for is done; cursors never move
//! back; an ended row never changes, except `unknown`. Methods that write return after the commit.

mod asked;
mod attempts;
mod backfill;
mod cancel;
#[cfg(test)]
mod crowd;
mod decide;
mod dispatch;
mod earlier;
mod history;
mod hold;
mod missed;
mod outbox;
mod plan;
mod progress;
mod record;
mod recover;
mod retention;
mod round;
mod schema;
mod spending;
mod waiting;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, params};
use stakpak_sqlite::Database;
use tokio::sync::{Notify, watch};

pub use asked::{Asked, HoldError};
pub use attempts::Attempt;
pub(crate) use attempts::Repeat;
pub(crate) use backfill::{Filled, Filling};
pub use cancel::CancelError;
pub use decide::{Decide, DecideError, Decided};
pub(crate) use dispatch::{Dispatched, Job, Verdict};
pub use history::HistoryFilter;
pub use hold::{HeldBy, Hold};
pub use missed::MissedInstants;
pub use outbox::OutboxCounts;
pub(crate) use outbox::{Attempted, Outgoing};
pub(crate) use plan::{Planned, Tracked};
pub(crate) use progress::Finish;
pub use record::{
    Event, Notification, NotificationState, Reason, RunNumber, RunRecord, RunStatus, Source, UnknownWord,
};
pub(crate) use recover::Recovered;
pub use retention::Retention;
pub use spending::SpentToday;
pub(crate) use spending::cost_key;
pub(crate) use waiting::Look;

use crate::{
    fire::FireKey,
    spec::{Overlap, ScheduleSpec},
    tally::Tally,
};

/// What can go wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened, migrated or written.
    #[error("ledger storage")]
    Storage(#[from] stakpak_sqlite::Error),
    /// A statement failed.
    #[error("ledger statement")]
    Statement(#[from] rusqlite::Error),
    /// A definition cannot be written as JSON.
    #[error("ledger row cannot be encoded")]
    Encode(#[from] serde_json::Error),
}

/// Handle to the ledger file. Cheap to clone; usable with or without a running scheduler.
#[derive(Debug, Clone)]
pub struct Ledger {
    database: Database,
    /// Runs that this process, through this handle or a clone of it, saw to their end.
    ended: Tally,
    /// Notifications that came to an end.
    deliveries: Tally,
    /// Something may have been put into the outbox.
    posted: Arc<Notify>,
    /// Something may have been decided about calls.
    decided: watch::Sender<()>,
}

/// How a run is started by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TriggerOptions {
    /// Beside a run that is active.
    pub force: bool,
    /// Without the check.
    pub no_check: bool,
    /// Of the caller: the same key makes one run.
    pub key: Option<String>,
}

/// What the ledger knows of one schedule.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScheduleFacts {
    /// None when it is not tracked.
    pub(crate) tracked: Option<Seen>,
    pub(crate) hold: Option<Hold>,
    pub(crate) last_run: Option<RunRecord>,
    pub(crate) active: Vec<RunNumber>,
}

/// How far a schedule is accounted for.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Hash of the definition that it was tracked with.
    pub(crate) timing: String,
    pub(crate) cursor: DateTime<Utc>,
}

impl Ledger {
    /// Opens the file, making and migrating it as needed; runs of 0.3.x in it are copied. Blocks, a few milliseconds.
    ///
    /// # Errors
    /// A newer or damaged file is refused and left alone.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let database = Database::open_with(path, schema::MIGRATIONS, earlier::import)?;
        let (ended, deliveries, posted) = (Tally::default(), Tally::default(), Arc::default());
        Ok(Self { database, ended, deliveries, posted, decided: watch::channel(()).0 })
    }

    /// One run.
    ///
    /// # Errors
    /// Only of the file.
    pub async fn run(&self, id: RunNumber) -> Result<Option<RunRecord>, LedgerError> {
        self.database.read(move |connection| run(connection, id)).await
    }

    /// Writes a run to be started now by the running scheduler, or at its next start. While another run of the schedule is
    /// active and its policy says so, the row is `skipped(overlap)` at once. A key that was used before gives its row.
    ///
    /// # Errors
    /// Only of the file.
    pub async fn trigger(
        &self,
        spec: &Arc<ScheduleSpec>,
        options: TriggerOptions,
        now: DateTime<Utc>,
    ) -> Result<RunRecord, LedgerError> {
        let spec = Arc::clone(spec);
        let (run, is_new): (RunRecord, bool) =
            self.database.write(move |connection| trigger(connection, &spec, &options, now)).await?;
        if is_new && run.status == RunStatus::Skipped {
            self.posted.notify_one();
            self.ended.add(&run.schedule, run.status.as_str(), 1);
        }
        Ok(run)
    }

    /// Returns when something may have been put into the outbox.
    pub(crate) async fn posted(&self) {
        self.posted.notified().await;
    }

    /// Runs that ended while this process lived, by schedule and status.
    pub(crate) fn ended(&self) -> BTreeMap<(String, &'static str), u64> {
        self.ended.read()
    }

    /// Runs by state, ended ones not counted.
    pub(crate) async fn open_runs(&self) -> Result<OpenRuns, LedgerError> {
        self.database
            .read(|connection| {
                let count = |status: RunStatus| {
                    connection.query_row("SELECT count(*) FROM runs WHERE status = ?1", [status], |row| {
                        row.get(0).map(record::natural)
                    })
                };
                Ok(OpenRuns {
                    active: count(RunStatus::Running)?,
                    queued: count(RunStatus::Pending)?,
                    paused: count(RunStatus::Paused)?,
                })
            })
            .await
    }

    /// What lists show beside the definition of a schedule.
    pub(crate) async fn facts(&self, schedule: &str) -> Result<ScheduleFacts, LedgerError> {
        let schedule = schedule.to_owned();
        self.database
            .read(move |connection| {
                let tracked = connection
                    .query_row("SELECT spec_hash, cursor_at FROM schedule_state WHERE name = ?1", [&schedule], |row| {
                        Ok(Seen { timing: row.get(0)?, cursor: record::instant(row.get(1)?).unwrap_or_default() })
                    })
                    .optional()?;
                let mut last_run = connection
                    .query_row(
                        &format!(
                            "SELECT {} FROM runs WHERE schedule = ?1 AND is_pruned = 0 ORDER BY id DESC LIMIT 1",
                            record::COLUMNS
                        ),
                        [&schedule],
                        RunRecord::from_row,
                    )
                    .optional()?;
                attach(connection, last_run.as_mut_slice())?;
                let active = connection
                    .prepare_cached("SELECT id FROM runs WHERE schedule = ?1 AND status IN ('running', 'paused')")?
                    .query_map([&schedule], |row| row.get(0).map(RunNumber))?
                    .collect::<Result<_, _>>()?;
                let hold = hold::of(connection, &schedule)?;
                Ok(ScheduleFacts { tracked, hold, last_run, active })
            })
            .await
    }

    /// Unix milliseconds of the planning loop's last sign of life, if it ever ran.
    pub(crate) async fn heartbeat(&self) -> Result<Option<DateTime<Utc>>, LedgerError> {
        self.database
            .read(|connection| {
                let millis = connection
                    .query_row("SELECT heartbeat_at FROM scheduler_state WHERE id = 1", [], |row| row.get(0))
                    .optional()?;
                Ok(record::instant(millis))
            })
            .await
    }
}

/// Runs that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRuns {
    /// At work.
    pub active: u64,
    /// Waiting for a slot or for a scheduler.
    pub queued: u64,
    /// Waiting for a person.
    pub paused: u64,
}

/// The row of the trigger, and whether it is new.
fn trigger(
    connection: &rusqlite::Connection,
    spec: &ScheduleSpec,
    options: &TriggerOptions,
    now: DateTime<Utc>,
) -> Result<(RunRecord, bool), LedgerError> {
    let schedule = &spec.name;
    let key = FireKey::manual(schedule, options.key.as_deref());
    let sql = "SELECT 1 FROM runs WHERE fire_key = ?1";
    let is_new = connection.query_row(sql, [key.as_str()], |_| Ok(())).optional()?.is_none();
    let id = plan::insert(connection, schedule, Source::Manual, None, &key, (now, now))?;
    if is_new {
        let set = "UPDATE runs SET force = ?2, no_check = ?3 WHERE id = ?1";
        connection.execute(set, params![id.0, options.force, options.no_check])?;
        if spec.firing.overlap == Overlap::Skip
            && !options.force
            && let Some(active) = dispatch::active_run(connection, schedule)?
        {
            dispatch::skip_for_overlap(connection, id, active, now)?;
            outbox::tell(connection, id, spec, now)?;
        }
    }
    let row = run(connection, id)?.ok_or(LedgerError::Statement(rusqlite::Error::QueryReturnedNoRows))?;
    Ok((row, is_new))
}

fn run(connection: &rusqlite::Connection, id: RunNumber) -> Result<Option<RunRecord>, LedgerError> {
    let sql = format!("SELECT {} FROM runs WHERE id = ?1", record::COLUMNS);
    let mut run = connection.query_row(&sql, [id.0], RunRecord::from_row).optional()?;
    attach(connection, run.as_mut_slice())?;
    Ok(run)
}

/// Puts to each run what other tables say about it.
fn attach(connection: &rusqlite::Connection, runs: &mut [RunRecord]) -> Result<(), LedgerError> {
    outbox::attach(connection, runs)?;
    attempts::attach(connection, runs)?;
    decide::attach(connection, runs)
}
