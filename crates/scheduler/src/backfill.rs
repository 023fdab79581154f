//! Runs of instants that have passed: asked for by a person, planned in one transaction, oldest first.
//!
//! Invariants: an instant that has a run gets no second one unless that is forced; a request that is too large writes nothing;
//! a request that is repeated under its key writes nothing either.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::{
    handle::TriggerError,
    ledger::{Filled, Filling, Ledger, LedgerError, RunNumber},
    spec::{Definition, Overlap, ScheduleSet},
    timing::{Timing, parse_at},
};

/// Runs that one request may make, whatever its limit says.
const MOST_RUNS: u32 = 10_000;

/// Instants that one request may go over.
const MOST_INSTANTS: usize = 100_000;

/// Instants of a schedule that are to be run afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The first instant: RFC 3339, or a local time of the schedule's zone.
    pub from: String,
    /// The first instant that is not meant.
    pub to: String,
    /// More runs than this are refused.
    pub limit: u32,
    /// What its runs do while another one is active.
    pub overlap: Overlap,
    /// Also those that have a run.
    pub force: bool,
    /// Write nothing.
    pub dry_run: bool,
    /// Of the caller: the same key makes the runs once.
    pub key: Option<String>,
}

/// What a backfill makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backfilled {
    /// The schedule.
    pub schedule_name: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The instants, oldest first.
    pub instants: Vec<DateTime<Utc>>,
    /// Instants of that time that have a run.
    pub left_out: u64,
    /// The runs, in the same order.
    pub run_ids: Vec<RunNumber>,
}

/// Why a backfill was refused. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// There is no such schedule, it has errors, or the ledger cannot be written.
    #[error(transparent)]
    Schedule(#[from] TriggerError),
    /// An end of the time cannot be used.
    #[error("`{key}`: {problem}")]
    Time {
        /// Which.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The limit is out of bounds.
    #[error("`limit` must be between 1 and {MOST_RUNS}")]
    Limit,
    /// More runs than allowed.
    #[error(
        "{count} instants of `{name}` would be run, and the limit is {limit}; give a shorter time or a higher limit"
    )]
    TooMany {
        /// The schedule.
        name: String,
        /// How many it would be.
        count: u64,
        /// How many it may be.
        limit: u32,
    },
    /// More instants than are looked at.
    #[error("more than {MOST_INSTANTS} instants of `{name}` lie in this time; give a shorter one")]
    TooLong {
        /// The schedule.
        name: String,
    },
    /// The key was used for something else.
    #[error("this idempotency key was used with another backfill")]
    KeyReused,
}

impl From<LedgerError> for BackfillError {
    fn from(error: LedgerError) -> Self {
        Self::Schedule(TriggerError::Ledger(error))
    }
}

/// Writes a run for every instant of the schedule in [from, to) that has none, or only one that was missed. The running
/// scheduler starts them, or the next one; neither catch-up nor jitter applies.
///
/// # Errors
/// See [`BackfillError`].
pub async fn backfill(
    set: &ScheduleSet,
    ledger: &Ledger,
    name: &str,
    backfill: Backfill,
    now: DateTime<Utc>,
) -> Result<Backfilled, BackfillError> {
    let (spec, timing) = match set.get(name).map(|schedule| &schedule.definition) {
        None => return Err(TriggerError::Unknown { name: name.to_owned() }.into()),
        Some(Definition::Invalid(errors)) => {
            return Err(TriggerError::Invalid { name: name.to_owned(), errors: errors.clone() }.into());
        }
        Some(Definition::Valid { spec, timing, .. }) => (spec, timing),
    };
    if !(1..=MOST_RUNS).contains(&backfill.limit) {
        return Err(BackfillError::Limit);
    }
    let read = |key, text: &str| {
        let instant = parse_at(text, spec.timezone);
        instant.map_err(|error| BackfillError::Time { key, problem: error.to_string() })
    };
    let (from, to) = (read("from", &backfill.from)?, read("to", &backfill.to)?);
    let wrong = |key, problem: &str| Err(BackfillError::Time { key, problem: problem.to_owned() });
    if to > now {
        return wrong("to", "lies in the future: what is to come fires by itself");
    }
    if from >= to {
        return wrong("from", "must be before `to`");
    }
    let instants = instants(timing, from, to).ok_or_else(|| BackfillError::TooLong { name: name.to_owned() })?;
    let Backfill { limit, overlap, force, dry_run, key, .. } = backfill;
    let filling = Filling { schedule: name.to_owned(), from, to, instants, limit, overlap, force, dry_run, key };
    match ledger.fill(filling, now).await? {
        Filled::Done(filled) => Ok(filled),
        Filled::TooMany(count) => Err(BackfillError::TooMany { name: name.to_owned(), count, limit }),
        Filled::KeyReused => Err(BackfillError::KeyReused),
    }
}

/// None: too many to go over.
fn instants(timing: &Timing, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<Vec<DateTime<Utc>>> {
    let fires = timing.fires_after(from - TimeDelta::milliseconds(1)).take_while(|instant| *instant < to);
    let instants: Vec<_> = fires.take(MOST_INSTANTS + 1).collect();
    (instants.len() <= MOST_INSTANTS).then_some(instants)
}
