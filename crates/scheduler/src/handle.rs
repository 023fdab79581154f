//! Asks and steers a scheduler from other tasks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use stakpak_config::Finding;
use stakpak_redact::Redactor;
use tokio::sync::{Notify, watch};

use crate::{
    backfill::{self, Backfill, BackfillError, Backfilled},
    clock::Clock,
    ledger::{
        Asked, CancelError, Decide, DecideError, Event, HistoryFilter, Hold, HoldError, Ledger, LedgerError,
        MissedInstants, OpenRuns, OutboxCounts, RunNumber, RunRecord, TriggerOptions,
    },
    notice,
    overview::{self, ScheduleOverview, SchedulerStatus},
    pulse::{Heart, Pulse},
    spec::ScheduleSet,
};

/// Why a trigger was refused.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// Not in the file.
    #[error("there is no schedule named `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// In the file, with errors.
    #[error("schedule `{name}` is invalid{}", first_of(errors))]
    Invalid {
        /// The schedule.
        name: String,
        /// What is wrong with it.
        errors: Vec<Finding>,
    },
    /// The ledger cannot be written.
    #[error("the trigger could not be recorded")]
    Ledger(#[from] LedgerError),
}

fn first_of(errors: &[Finding]) -> String {
    errors.first().map(|error| format!(": {error}")).unwrap_or_default()
}

/// Asks and steers a [`Scheduler`](crate::Scheduler). Clones share it.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) ledger: Ledger,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) schedules: watch::Sender<Arc<ScheduleSet>>,
    pub(crate) triggered: Arc<Notify>,
    pub(crate) heart: Heart,
    pub(crate) redactor: Redactor,
    /// What was told of a file that cannot be used, until one can.
    pub(crate) complaint: Arc<Mutex<Option<String>>>,
}

impl Handle {
    /// Starts a run of the schedule now; see [`crate::trigger`]. Returns once it is durable.
    ///
    /// # Errors
    /// As [`crate::trigger`].
    pub async fn trigger(&self, name: &str, options: TriggerOptions) -> Result<RunRecord, TriggerError> {
        let record = overview::trigger(&self.schedules(), &self.ledger, name, options, self.clock.now()).await?;
        self.triggered.notify_one();
        Ok(record)
    }

    /// Runs instants that have passed; see [`crate::backfill`]. Returns once they are durable.
    ///
    /// # Errors
    /// As [`crate::backfill`].
    pub async fn backfill(&self, name: &str, backfill: Backfill) -> Result<Backfilled, BackfillError> {
        let filled = backfill::backfill(&self.schedules(), &self.ledger, name, backfill, self.clock.now()).await?;
        self.triggered.notify_one();
        Ok(filled)
    }

    /// Replaces the schedules. The next fire of each follows its new definition; runs under way keep theirs.
    pub fn reload(&self, schedules: ScheduleSet) {
        if schedules.errors().next().is_none() {
            *self.complaint() = None;
        }
        self.schedules.send_replace(Arc::new(schedules));
    }

    /// The file has changed and cannot be used, or not all of it: told once where `[notifications]` says, until it can be.
    ///
    /// # Errors
    /// Only of the ledger file.
    pub async fn config_invalid(&self, problem: &str) -> Result<(), LedgerError> {
        let problem = self.redactor.redact(problem).into_owned();
        if self.complaint().replace(problem.clone()).is_some_and(|told| told == problem) {
            return Ok(());
        }
        let notice = notice::of_system(Event::ConfigInvalid, &problem, "stakpak status");
        let set = self.schedules();
        match set.notifications.route_of(Event::ConfigInvalid) {
            Some(route) => self.ledger.tell_system(Event::ConfigInvalid, route, notice, self.clock.now()).await,
            None => Ok(()),
        }
    }

    fn complaint(&self) -> MutexGuard<'_, Option<String>> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The schedules in use.
    #[must_use]
    pub fn schedules(&self) -> Arc<ScheduleSet> {
        self.schedules.borrow().clone()
    }

    /// See [`crate::list`].
    ///
    /// # Errors
    /// Only of the ledger file.
    pub async fn list(&self) -> Result<Vec<ScheduleOverview>, LedgerError> {
        overview::list(&self.schedules(), &self.ledger, self.clock.now()).await
    }

    /// See [`Ledger::history`].
    ///
    /// # Errors
    /// Only of the ledger file.
    pub async fn history(&self, filter: HistoryFilter<'_>, limit: u32) -> Result<Vec<RunRecord>, LedgerError> {
        self.ledger.history(filter, limit).await
    }

    /// See [`Ledger::missed_beside`].
    ///
    /// # Errors
    /// Only of the ledger file.
    pub async fn missed_beside(
        &self,
        filter: HistoryFilter<'_>,
        limit: u32,
        runs: &[RunRecord],
    ) -> Result<Vec<MissedInstants>, LedgerError> {
        self.ledger.missed_beside(filter, limit, runs).await
    }

    /// See [`Ledger::run`].
    ///
    /// # Errors
    /// Only of the ledger file.
    pub async fn run(&self, id: RunNumber) -> Result<Option<RunRecord>, LedgerError> {
        self.ledger.run(id).await
    }

    /// Keeps a schedule of the file from firing; what it says holds until [`Handle::release`] or its end. See [`Ledger::hold`].
    ///
    /// # Errors
    /// There is no such schedule, its key was used for something else, or the ledger cannot be written.
    pub async fn hold(&self, name: &str, hold: Hold, asked: Option<Asked>) -> Result<Option<DateTime<Utc>>, HoldError> {
        self.known(name)?;
        let until = self.ledger.hold(name, hold, asked).await?;
        self.triggered.notify_one();
        Ok(until)
    }

    /// Lets it fire again. False if nothing held it. See [`Ledger::release`].
    ///
    /// # Errors
    /// It is not held and not in the file, its key was used for something else, or the ledger cannot be written.
    pub async fn release(&self, name: &str, asked: Option<Asked>) -> Result<bool, HoldError> {
        let released = self.ledger.release(name, self.clock.now(), asked).await?;
        if !released {
            self.known(name)?;
        }
        Ok(released)
    }

    fn known(&self, name: &str) -> Result<(), HoldError> {
        let known = self.schedules().get(name).is_some();
        if known { Ok(()) } else { Err(HoldError::Unknown { name: name.to_owned() }) }
    }

    /// Decides about the calls that a paused run waits with; see [`Ledger::decide`].
    ///
    /// # Errors
    /// As [`Ledger::decide`].
    pub async fn decide(&self, run: RunNumber, decide: Decide) -> Result<RunRecord, DecideError> {
        self.ledger.decide(run, decide, self.clock.now()).await
    }

    /// Ends a run; one at work has ended once the server has confirmed it.
    ///
    /// # Errors
    /// As [`Ledger::cancel`].
    pub async fn cancel(&self, run: RunNumber, key: Option<String>) -> Result<RunRecord, CancelError> {
        let record = self.ledger.cancel(run, key, self.clock.now()).await?;
        self.triggered.notify_one();
        Ok(record)
    }

    /// See [`crate::status`].
    ///
    /// # Errors
    /// Only of the ledger file.
    pub async fn status(&self) -> Result<SchedulerStatus, LedgerError> {
        overview::status(&self.schedules(), &self.ledger, self.clock.now()).await
    }

    /// The planning loop's last sign of life; none while no loop runs. Asks nobody.
    #[must_use]
    pub fn pulse(&self) -> Option<Pulse> {
        self.heart.pulse(self.clock.now())
    }

    /// The next instant of any schedule, while a planning loop runs; costs nothing, however many schedules there are.
    #[must_use]
    pub fn next_instant(&self) -> Option<DateTime<Utc>> {
        self.heart.next()
    }

    /// Planning loops that got to work in this process, one after the other.
    #[must_use]
    pub fn loops(&self) -> u64 {
        self.heart.loops()
    }

    /// Runs that have not ended.
    ///
    /// # Errors
    /// Only of the ledger file.
    pub async fn open_runs(&self) -> Result<OpenRuns, LedgerError> {
        self.ledger.open_runs().await
    }

    /// Notifications that did not arrive.
    ///
    /// # Errors
    /// Only of the ledger file.
    pub async fn outbox(&self) -> Result<OutboxCounts, LedgerError> {
        self.ledger.outbox(self.clock.now()).await
    }

    /// Notifications that came to an end while this process lived, by state.
    #[must_use]
    pub fn deliveries(&self) -> BTreeMap<&'static str, u64> {
        self.ledger.delivered()
    }

    /// Runs that ended while this process lived, by schedule and status.
    #[must_use]
    pub fn ended_runs(&self) -> BTreeMap<(String, &'static str), u64> {
        self.ledger.ended()
    }
}
