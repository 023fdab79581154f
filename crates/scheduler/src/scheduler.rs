//! The service: plans what is due, starts what may start, sees runs to their end, sleeps until the next instant.
//!
//! Invariants: a plan is durable before anything of it is dispatched; every run belongs to this loop, which learns of its end,
//! error or panic; dropping the loop at any point loses nothing that a new one does not find in the ledger.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_client::StakpakClient;
use stakpak_protocol::{RunId, SessionId};
use stakpak_redact::Redactor;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    agent,
    clock::Clock,
    courier::Courier,
    due::due,
    handle::Handle,
    ledger::{
        Dispatched, Event, Job, Ledger, LedgerError, Look, Planned, Reason, Recovered, RunNumber, RunStatus, Source,
        Tracked, Verdict,
    },
    notice,
    pulse::{Alarm, BEAT, Beating, Heart},
    runner::Runner,
    spec::{Definition, ScheduleSet, ScheduleSpec},
    timing::Timing,
};

/// How often the ledger lets go of what is old.
const PRUNED_EVERY: TimeDelta = TimeDelta::hours(1);

/// What a scheduler is made of.
#[derive(Debug)]
pub struct SchedulerConfig {
    /// The ledger file, `autopilot/autopilot.db` in the state directory.
    pub ledger: PathBuf,
    /// The schedules at first.
    pub schedules: ScheduleSet,
    /// Goes over what checks and agents say before it is stored.
    pub redactor: Redactor,
    /// Names of environment variables that may hold secrets: no check sees them unless its schedule names them.
    pub credential_variables: Vec<String>,
}

/// Why the scheduler stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// The ledger cannot be read or written.
    #[error("the scheduler's ledger failed")]
    Ledger(#[from] LedgerError),
    /// A run's task panicked; the next start takes the run up again.
    #[error("the task of a scheduled run panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// The service. One at a time may [`run`](Scheduler::run) on a ledger file; the instance lock sees to that.
#[derive(Debug)]
pub struct Scheduler {
    runner: Runner,
    schedules: watch::Sender<Arc<ScheduleSet>>,
    triggered: Arc<Notify>,
    heart: Heart,
    complaint: Arc<Mutex<Option<String>>>,
}

/// A schedule as the loop sees it: only valid and enabled ones.
struct Tracking {
    spec: Arc<ScheduleSpec>,
    timing: Timing,
    cursor: DateTime<Utc>,
    /// The first instant after the cursor, so that a wake-up costs nothing for schedules that are not due.
    next: Option<DateTime<Utc>>,
}

impl Scheduler {
    /// Opens the ledger, which blocks for a few milliseconds. Nothing runs yet.
    ///
    /// # Errors
    /// Only of the ledger file.
    pub fn open(config: SchedulerConfig, client: StakpakClient, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        let ledger = Ledger::open(&config.ledger)?;
        let (schedules, current) = watch::channel(Arc::new(config.schedules));
        let triggered = Arc::<Notify>::default();
        Ok(Self {
            runner: Runner {
                ledger,
                client,
                clock,
                redactor: config.redactor,
                credential_variables: config.credential_variables.into(),
                schedules: current,
                triggered: Arc::clone(&triggered),
            },
            schedules,
            triggered,
            heart: Heart::default(),
            complaint: Arc::default(),
        })
    }

    /// Asks and steers this scheduler, also while it does not run.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            ledger: self.runner.ledger.clone(),
            clock: Arc::clone(&self.runner.clock),
            schedules: self.schedules.clone(),
            triggered: Arc::clone(&self.triggered),
            heart: self.heart.clone(),
            redactor: self.runner.redactor.clone(),
            complaint: Arc::clone(&self.complaint),
        }
    }

    /// Works until cancelled. Runs under way then go on at the server, and here at the next start.
    ///
    /// # Errors
    /// When it cannot go on; starting it again is safe.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), SchedulerError> {
        let courier = Courier {
            ledger: self.runner.ledger.clone(),
            client: self.runner.client.clone(),
            clock: Arc::clone(&self.runner.clock),
            redactor: self.runner.redactor.clone(),
            schedules: self.schedules.subscribe(),
        };
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            stopped = self.work() => stopped,
            never = courier.run() => match never {},
            never = self.watch_over() => match never {},
            never = self.let_go() => match never {},
        }
    }

    async fn work(&self) -> Result<(), SchedulerError> {
        let mut changes = self.schedules.subscribe();
        let mut runs = Runs::default();
        let now = self.runner.clock.now();
        self.runner.ledger.started(Uuid::new_v4().to_string(), now).await?;
        let mut set = changes.borrow_and_update().clone();
        let Recovered { jobs, given_up } = self.runner.ledger.recover(now).await?;
        for job in jobs {
            tracing::info!(run = %job.id, schedule = %job.spec.name, "scheduled run is taken up again");
            runs.start(&self.runner, &set, job);
        }
        given_up.into_iter().for_each(|(id, session, run)| runs.call_off(&self.runner, id, (session, run)));
        let mut tracking = self.track(&set).await?;
        let beating = self.heart.start();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut look, mut planned_at) = (Look::All, now);
        loop {
            let now = self.runner.clock.now();
            self.plan(&mut tracking, &beating, now).await?;
            // A clock that was set back says nothing about what is new.
            let look_now = if now < planned_at { Look::All } else { look };
            let dispatched = self.dispatch(&set, look_now).await?;
            (look, planned_at) = (Look::Since(now), now);
            for job in dispatched.jobs {
                runs.start(&self.runner, &set, job);
            }
            dispatched.to_be_ended.into_iter().for_each(|id| runs.stop(id));
            let planned = tracking.iter().filter_map(|schedule| schedule.next).min();
            beating.waits_for(planned);
            let next = planned.into_iter().chain(dispatched.next).min();
            tokio::select! {
                _ = beat.tick() => {
                    beating.beat(self.beat().await);
                    look = Look::All;
                }
                () = sleep_until(&*self.runner.clock, next) => {}
                () = self.triggered.notified() => look = Look::All,
                Some(ended) = runs.tasks.join_next() => runs.forget(ended.map_err(SchedulerError::Panicked)??),
                Ok(()) = changes.changed() => {
                    set = changes.borrow_and_update().clone();
                    tracking = self.track(&set).await?;
                    look = Look::All;
                }
            }
        }
    }

    /// Tells, once each time, that the loop does not do its work.
    async fn watch_over(&self) -> Infallible {
        let mut alarm = Alarm::default();
        let mut look = tokio::time::interval(BEAT);
        loop {
            look.tick().await;
            let now = self.runner.clock.now();
            let Some(problem) = alarm.look(self.heart.pulse(now)) else { continue };
            let route = self.schedules.borrow().notifications.route_of(Event::SchedulerDegraded);
            let Some(route) = route else { continue };
            let notice = notice::of_system(Event::SchedulerDegraded, problem, "stakpak status");
            match self.runner.ledger.tell_system(Event::SchedulerDegraded, route, notice, now).await {
                Ok(()) => alarm.told(),
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "an alarm cannot be written"),
            }
        }
    }

    /// Every hour, what history need not hold any longer.
    async fn let_go(&self) -> Infallible {
        loop {
            let now = self.runner.clock.now();
            let retention = self.schedules.borrow().retention;
            match self.runner.ledger.prune(retention, now).await {
                Ok(0) => {}
                Ok(runs) => tracing::info!(runs, "old runs are no longer in the history"),
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "old runs cannot be pruned"),
            }
            self.runner.clock.sleep_until(now + PRUNED_EVERY).await;
        }
    }

    async fn track(&self, set: &ScheduleSet) -> Result<Vec<Tracking>, LedgerError> {
        let mut valid = Vec::new();
        let mut kept = Vec::new();
        for schedule in &set.schedules {
            match &schedule.definition {
                Definition::Valid { spec, timing, .. } => valid.push((spec, timing)),
                Definition::Invalid(_) => kept.push(schedule.name.clone()),
            }
        }
        let tracked = valid.iter().map(|(spec, timing)| Tracked {
            name: spec.name.clone(),
            timing: spec.timing_hash(),
            only_instant: match timing {
                Timing::At(at) => Some(*at),
                Timing::Cron(_) | Timing::Every(_) => None,
            },
        });
        let tracked = tracked.collect();
        let cursors = self.runner.ledger.track(tracked, kept, self.runner.clock.now()).await?;
        let mut tracking = Vec::new();
        for ((spec, timing), cursor) in valid.into_iter().zip(cursors) {
            match cursor {
                None => tracing::warn!(schedule = %spec.name, "never fires: its time has passed"),
                Some(_) if !spec.enabled => {}
                Some(cursor) => tracking.push(Tracking {
                    spec: Arc::clone(spec),
                    timing: timing.clone(),
                    cursor,
                    next: timing.next_after(cursor),
                }),
            }
        }
        Ok(tracking)
    }

    /// A ledger that cannot be written is no reason to stop: nothing is lost until something is due.
    async fn beat(&self) -> bool {
        match self.runner.ledger.beat(self.runner.clock.now()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the ledger cannot be written");
                false
            }
        }
    }

    async fn plan(&self, tracking: &mut [Tracking], beating: &Beating, now: DateTime<Utc>) -> Result<(), LedgerError> {
        let oldest = tracking.iter().filter_map(|schedule| schedule.next).min();
        let mut planned = Vec::new();
        for schedule in tracking.iter_mut().filter(|schedule| schedule.next.is_some_and(|next| next <= now)) {
            let firing = &schedule.spec.firing;
            if let Some(due) = due(&schedule.timing, firing, schedule.cursor, now) {
                schedule.cursor = due.cursor;
                schedule.next = schedule.timing.next_after(due.cursor);
                planned.push(Planned {
                    spec: Arc::clone(&schedule.spec),
                    jitter: TimeDelta::from_std(firing.jitter).unwrap_or(TimeDelta::MAX),
                    due,
                });
            }
        }
        if planned.is_empty() {
            return Ok(());
        }
        self.runner.ledger.plan(planned, now).await?;
        if let Some(oldest) = oldest {
            beating.planned(oldest, now);
        }
        Ok(())
    }

    async fn dispatch(&self, set: &Arc<ScheduleSet>, look: Look) -> Result<Dispatched, LedgerError> {
        self.runner.ledger.dispatch(verdict, Arc::clone(set), look, self.runner.clock.now()).await
    }
}

/// Runs under way, each with what makes it end.
#[derive(Default)]
struct Runs {
    tasks: JoinSet<Result<RunNumber, LedgerError>>,
    stops: HashMap<RunNumber, CancellationToken>,
}

impl Runs {
    fn start(&mut self, runner: &Runner, set: &ScheduleSet, job: Job) {
        let stop_grace = TimeDelta::from_std(set.stop_grace).unwrap_or(TimeDelta::MAX);
        let span = tracing::info_span!("scheduled_run", number = %job.id, schedule = %job.spec.name);
        let (id, stop, runner) = (job.id, CancellationToken::new(), runner.clone());
        self.stops.insert(id, stop.clone());
        let run = async move { runner.run(job, stop_grace, stop).await.map(|()| id) };
        self.tasks.spawn(run.instrument(span));
    }

    /// Its row has ended: it is only kept from going on at the server.
    fn call_off(&mut self, runner: &Runner, id: RunNumber, (session, run): (SessionId, RunId)) {
        let client = runner.client.clone();
        self.tasks.spawn(async move {
            agent::call_off(&client, session, run).await;
            Ok(id)
        });
    }

    fn stop(&self, id: RunNumber) {
        if let Some(stop) = self.stops.get(&id) {
            stop.cancel();
        }
    }

    fn forget(&mut self, id: RunNumber) {
        self.stops.remove(&id);
    }
}

/// What the file says now about a row that waits. A manual trigger runs a disabled schedule too.
fn verdict(set: &ScheduleSet, schedule: &str, source: Source) -> Verdict {
    match set.get(schedule).map(|schedule| &schedule.definition) {
        None => Verdict::End(RunStatus::Cancelled, Reason::Removed, None),
        Some(Definition::Invalid(_)) => Verdict::End(RunStatus::Skipped, Reason::Disabled, None),
        Some(Definition::Valid { spec, .. }) if !spec.enabled && source == Source::Cron => {
            Verdict::End(RunStatus::Skipped, Reason::Disabled, Some(Arc::clone(spec)))
        }
        Some(Definition::Valid { spec, .. }) => Verdict::Run(Arc::clone(spec)),
    }
}

async fn sleep_until(clock: &dyn Clock, instant: Option<DateTime<Utc>>) {
    match instant {
        Some(instant) => clock.sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
