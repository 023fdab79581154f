//! The scheduler as a part of `up`.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use stakpak_client::StakpakClient;
use stakpak_redact::Redactor;
use stakpak_scheduler::{Clock, Handle, ScheduleSet, Scheduler, SchedulerConfig};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    parts::SchedulerPart,
    schedules,
    supervise::{Fault, Supervisor},
};
use crate::home::Home;

/// The scheduler; it may be switched off, and can then still be asked.
pub(super) struct Part {
    scheduler: Arc<Scheduler>,
    supervisor: Supervisor,
    off: bool,
}

pub(super) async fn open(
    home: &Home,
    schedules: ScheduleSet,
    client: StakpakClient,
    redactor: Redactor,
    off: bool,
) -> Result<Part> {
    let ledger = home.ledger();
    let config = SchedulerConfig { ledger, schedules, redactor, credential_variables: home.credential_variables() };
    let scheduler = tokio::task::spawn_blocking(|| Scheduler::open(config, client, clock())).await?;
    let scheduler = scheduler.context("the schedule ledger cannot be opened")?;
    Ok(Part { scheduler: Arc::new(scheduler), supervisor: Supervisor::new("scheduler"), off })
}

#[cfg(not(feature = "campaign"))]
fn clock() -> Arc<dyn Clock> {
    Arc::new(stakpak_scheduler::SystemClock)
}

/// The one that a campaign sets, if the process was started by one.
#[cfg(feature = "campaign")]
fn clock() -> Arc<dyn Clock> {
    match std::env::var_os("STAKPAK_CAMPAIGN_CLOCK") {
        Some(file) => Arc::new(stakpak_scheduler::CampaignClock::new(file.as_ref())),
        None => Arc::new(stakpak_scheduler::SystemClock),
    }
}

impl Part {
    pub(super) fn handle(&self) -> Handle {
        self.scheduler.handle()
    }

    /// How it goes.
    pub(super) fn part(&self) -> Arc<dyn stakpak_server::Part> {
        Arc::new(SchedulerPart { handle: self.handle(), supervisor: self.supervisor.clone(), off: self.off })
    }

    /// Its routes; the bearer check is put in front of them.
    pub(super) fn router(&self) -> Router {
        schedules::router(self.handle())
    }

    pub(super) fn start(&self, tasks: &TaskTracker, stop: CancellationToken) {
        if self.off {
            return;
        }
        let (scheduler, supervisor) = (Arc::clone(&self.scheduler), self.supervisor.clone());
        tasks.spawn(async move {
            let part = || {
                let (scheduler, stop) = (Arc::clone(&scheduler), stop.clone());
                async move {
                    let (handle, before) = (scheduler.handle(), scheduler.handle().loops());
                    scheduler.run(stop).await.map_err(|error| {
                        if handle.loops() > before { Fault::Work(error.into()) } else { Fault::Start(error.into()) }
                    })
                }
            };
            supervisor.run(stop.clone(), part).await;
        });
    }

    /// Returns, with the reason, when it failed too often.
    pub(super) async fn gave_up(&self) -> String {
        self.supervisor.gave_up().await
    }
}
