//! What lists and status show: the definitions of a file beside the facts of a ledger. Works with or without a running
//! scheduler.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_config::Finding;

use crate::{
    handle::TriggerError,
    ledger::{
        Hold, Ledger, LedgerError, OutboxCounts, RunNumber, RunRecord, ScheduleFacts, SpentToday, TriggerOptions,
    },
    spec::{Definition, Schedule, ScheduleSet, ScheduleSpec},
    timing::Timing,
};

/// Whether a schedule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleState {
    /// It does.
    Active,
    /// Its entry says no.
    Disabled,
    /// Its entry has errors.
    Invalid,
    /// Its only instant has passed.
    Done,
    /// It is held; see [`ScheduleOverview::hold`].
    Paused,
}

/// One schedule with what became of it.
#[derive(Debug, Clone)]
pub struct ScheduleOverview {
    /// As written.
    pub name: String,
    /// Whether it fires.
    pub state: ScheduleState,
    /// What it runs; none when invalid.
    pub spec: Option<Arc<ScheduleSpec>>,
    /// Why it is invalid.
    pub errors: Vec<Finding>,
    /// Who holds it, and until when.
    pub hold: Option<Hold>,
    /// Its next instant; none unless active.
    pub next_run_at: Option<DateTime<Utc>>,
    /// The newest row.
    pub last_run: Option<RunRecord>,
    /// Runs under way.
    pub active_runs: Vec<RunNumber>,
}

/// A scheduler's work at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerStatus {
    /// When a planning loop last wrote: at its start and at each instant. None before the first start.
    pub heartbeat_at: Option<DateTime<Utc>>,
    /// Runs at work.
    pub active_runs: u64,
    /// Runs that wait for a slot or for a scheduler.
    pub queued_runs: u64,
    /// Runs that wait for a person.
    pub paused_runs: u64,
    /// Notifications that did not arrive.
    pub outbox: OutboxCounts,
    /// What today took of what all schedules together may use.
    pub spent: SpentToday,
    /// The next instant of any schedule.
    pub next_run_at: Option<DateTime<Utc>>,
}

/// Every entry of the file, in its order.
///
/// # Errors
/// Only of the ledger file.
pub async fn list(
    set: &ScheduleSet,
    ledger: &Ledger,
    now: DateTime<Utc>,
) -> Result<Vec<ScheduleOverview>, LedgerError> {
    let mut overviews = Vec::new();
    for schedule in &set.schedules {
        let facts = ledger.facts(&schedule.name).await?;
        overviews.push(overview(schedule, facts, now));
    }
    Ok(overviews)
}

fn overview(schedule: &Schedule, facts: ScheduleFacts, now: DateTime<Utc>) -> ScheduleOverview {
    let mut overview = ScheduleOverview {
        name: schedule.name.clone(),
        state: ScheduleState::Invalid,
        spec: None,
        errors: Vec::new(),
        hold: facts.hold.filter(|hold| hold.holds(now)),
        next_run_at: None,
        last_run: facts.last_run,
        active_runs: facts.active,
    };
    let (spec, timing, past) = match &schedule.definition {
        Definition::Invalid(errors) => {
            overview.errors.clone_from(errors);
            return overview;
        }
        Definition::Valid { spec, timing, past } => (spec, timing, past),
    };
    let known = facts.tracked.filter(|seen| seen.timing == spec.timing_hash());
    overview.spec = Some(Arc::clone(spec));
    overview.state = match past {
        _ if !spec.enabled => ScheduleState::Disabled,
        Some(error) if known.is_none() => {
            overview.errors.push(error.clone());
            ScheduleState::Invalid
        }
        _ => ScheduleState::Active,
    };
    if overview.state == ScheduleState::Active {
        let from = known.map_or(now, |seen| seen.cursor.max(now));
        overview.next_run_at = timing.next_after(from);
        if matches!(timing, Timing::At(_)) && overview.next_run_at.is_none() {
            overview.state = ScheduleState::Done;
        }
        if let Some(hold) = &overview.hold {
            overview.state = ScheduleState::Paused;
            overview.next_run_at = hold.until.and_then(|until| timing.next_after(until - TimeDelta::milliseconds(1)));
        }
    }
    overview
}

/// The work at a glance.
///
/// # Errors
/// Only of the ledger file.
pub async fn status(set: &ScheduleSet, ledger: &Ledger, now: DateTime<Utc>) -> Result<SchedulerStatus, LedgerError> {
    let open = ledger.open_runs().await?;
    let schedules = list(set, ledger, now).await?;
    Ok(SchedulerStatus {
        heartbeat_at: ledger.heartbeat().await?,
        active_runs: open.active,
        queued_runs: open.queued,
        paused_runs: open.paused,
        outbox: ledger.outbox(now).await?,
        spent: ledger.spent_today(&set.budget, now).await?,
        next_run_at: schedules.iter().filter_map(|schedule| schedule.next_run_at).min(),
    })
}

/// Writes a run of the schedule to be started by the running scheduler, or by the next one. While another run of it is active
/// and its policy is to skip, the row comes back `skipped`, with the reason and the active run.
///
/// # Errors
/// Unknown and invalid schedules are refused; else only of the ledger file.
pub async fn trigger(
    set: &ScheduleSet,
    ledger: &Ledger,
    name: &str,
    options: TriggerOptions,
    now: DateTime<Utc>,
) -> Result<RunRecord, TriggerError> {
    match set.get(name).map(|schedule| &schedule.definition) {
        None => Err(TriggerError::Unknown { name: name.to_owned() }),
        Some(Definition::Invalid(errors)) => {
            Err(TriggerError::Invalid { name: name.to_owned(), errors: errors.clone() })
        }
        Some(Definition::Valid { spec, .. }) => Ok(ledger.trigger(spec, options, now).await?),
    }
}
