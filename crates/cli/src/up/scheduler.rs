//! The scheduler as a part of `up`.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use stakpak_client::StakpakClient;
use stakpak_redact::Redactor;
use stakpak_scheduler::{Clock, Handle, ScheduleSet, Scheduler, SchedulerConfig};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{parts::SchedulerPart, schedules, supervise::supervise};
use crate::home::Home;

/// The scheduler; it may be switched off, and can then still be asked.
pub(super) struct Part {
    scheduler: Arc<Scheduler>,
    off: bool,
}

pub(super) async fn open(
    home: &Home,
    schedules: ScheduleSet,
    client: StakpakClient,
    redactor: Redactor,
    off: bool,
) -> Result<Part> {
    let ledger = home.autopilot("autopilot.db");
    let config = SchedulerConfig { ledger, schedules, redactor, credential_variables: home.credential_variables() };
    let scheduler = tokio::task::spawn_blocking(|| Scheduler::open(config, client, clock())).await?;
    Ok(Part { scheduler: Arc::new(scheduler.context("the schedule ledger cannot be opened")?), off })
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
        Arc::new(SchedulerPart { handle: self.handle(), off: self.off })
    }

    /// Its routes; the bearer check is put in front of them.
    pub(super) fn router(&self) -> Router {
        schedules::router(self.handle())
    }

    pub(super) fn start(&self, tasks: &TaskTracker, stop: CancellationToken) {
        if self.off {
            return;
        }
        let scheduler = Arc::clone(&self.scheduler);
        tasks.spawn(supervise("scheduler", stop.clone(), move || {
            let (scheduler, stop) = (Arc::clone(&scheduler), stop.clone());
            async move { scheduler.run(stop).await }
        }));
    }
}
