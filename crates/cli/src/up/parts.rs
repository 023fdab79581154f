//! How scheduler and gateway go, as the server is told: for `/v1/ready` and `/metrics`.

use futures_util::future::BoxFuture;
use stakpak_gateway::{ChannelHealth, ChannelStatus};
use stakpak_protocol::CheckState;
use stakpak_scheduler::{Handle, LedgerError};
use stakpak_server::{Check, Measures, Part};
use utoipa::openapi::OpenApi;

use super::{
    gateway::{MOUNTED_AT, Mount, Phase},
    supervise::Supervisor,
};

mod gateway;

/// The scheduler.
pub(super) struct SchedulerPart {
    pub(super) handle: Handle,
    pub(super) supervisor: Supervisor,
    pub(super) off: bool,
}

impl Part for SchedulerPart {
    fn document(&self) -> Option<OpenApi> {
        Some(super::schedules::openapi())
    }

    fn check(&self) -> Option<(Check, CheckState)> {
        let state = match self.handle.pulse() {
            _ if self.off => CheckState::Off,
            Some(pulse) if pulse.is_alive() => CheckState::Ok,
            Some(pulse) if !pulse.ledger_writable => CheckState::ReadOnly,
            Some(_) => CheckState::Failed,
            None if self.handle.loops() > 0 => CheckState::Failed,
            None => CheckState::Starting,
        };
        Some((Check::Scheduler, self.supervisor.judge(state)))
    }

    fn measure<'a>(&'a self, measures: &'a mut Measures) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Err(error) = self.measure(measures).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the ledger cannot be read for the metrics");
            }
        })
    }
}

impl SchedulerPart {
    #[expect(clippy::cast_precision_loss, reason = "counts of runs")]
    async fn measure(&self, measures: &mut Measures) -> Result<(), LedgerError> {
        if let Some(pulse) = self.handle.pulse() {
            let age = "Time since the scheduler's last sign of life.";
            measures.gauge("stakpak_schedule_heartbeat_age_seconds", age, &[], pulse.age.as_secs_f64());
            let lag = "How long the oldest instant that is due waits to be planned.";
            measures.gauge("stakpak_schedule_lag_seconds", lag, &[], pulse.lag.as_secs_f64());
            let lateness = "How late the instants planned last were.";
            let seconds = pulse.last_lateness.as_secs_f64();
            measures.gauge("stakpak_schedule_last_lateness_seconds", lateness, &[], seconds);
        }
        for ((schedule, status), count) in self.handle.ended_runs() {
            let labels = [("schedule", schedule.as_str()), ("status", status)];
            let help = "Scheduled runs that ended, by schedule and status.";
            measures.counter("stakpak_schedule_runs_total", help, &labels, count as f64);
        }
        for (state, count) in self.handle.deliveries() {
            let help = "Notifications of scheduled runs that came to an end, by state.";
            measures.counter("stakpak_outbox_deliveries_total", help, &[("state", state)], count as f64);
        }
        let outbox = self.handle.outbox().await?;
        measures.gauge("stakpak_outbox_pending", "Notifications to be delivered.", &[], outbox.pending as f64);
        let open = self.handle.open_runs().await?;
        measures.gauge("stakpak_schedule_active", "Scheduled runs at work.", &[], open.active as f64);
        let queued = "Scheduled runs that wait for a slot.";
        measures.gauge("stakpak_schedule_queued", queued, &[], open.queued as f64);
        let paused = "Scheduled runs that wait for a person.";
        measures.gauge("stakpak_schedule_paused", paused, &[], open.paused as f64);
        Ok(())
    }
}

impl Part for Mount {
    fn document(&self) -> Option<OpenApi> {
        self.is_on().then(|| OpenApi::default().nest(MOUNTED_AT, stakpak_gateway::openapi()))
    }

    fn check(&self) -> Option<(Check, CheckState)> {
        let state = match self.phase() {
            Phase::Off => CheckState::Off,
            Phase::Starting => CheckState::Starting,
            Phase::Failed => CheckState::Failed,
            Phase::Running(gateway) => state_of(gateway.health().into_iter().map(|(_, health)| health)),
        };
        Some((Check::Channels, self.judge(state)))
    }

    fn measure<'a>(&'a self, measures: &'a mut Measures) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Phase::Running(gateway) = self.phase()
                && let Err(error) = gateway::measure(&gateway, measures).await
            {
                tracing::warn!(error = &error as &dyn std::error::Error, "the gateway's store cannot be read");
            }
        })
    }
}

/// Platforms come and go, which is no reason to take the server out of service.
fn state_of(channels: impl Iterator<Item = ChannelHealth>) -> CheckState {
    let lost = |status| matches!(status, ChannelStatus::Degraded | ChannelStatus::Failed);
    channels.fold(CheckState::Off, |all, channel| match (all, channel.status) {
        (_, status) if lost(status) => CheckState::Degraded,
        (CheckState::Off, ChannelStatus::Connected | ChannelStatus::Connecting) => CheckState::Ok,
        (all, _) => all,
    })
}

#[cfg(test)]
mod tests {
    use stakpak_gateway::{ChannelHealth, ChannelStatus};
    use stakpak_protocol::CheckState;

    use super::state_of;

    /// Where the documents of two parts are put together, a name stands for one of them.
    #[test]
    fn a_name_in_the_api_document_means_one_thing() {
        let schemas = |document: utoipa::openapi::OpenApi| document.components.unwrap_or_default().schemas;
        let of_server = schemas(stakpak_server::openapi());
        let others = [stakpak_gateway::openapi(), super::super::schedules::openapi()];
        let different: Vec<_> = others
            .into_iter()
            .flat_map(schemas)
            .filter(|(name, schema)| of_server.get(name).is_some_and(|known| known != schema))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(different, [""; 0]);
    }

    #[test]
    fn one_lost_channel_is_a_loss_and_none_is_off() {
        use ChannelStatus::{Connected, Connecting, Degraded, Disabled, Failed};
        let state = |statuses: &[ChannelStatus]| {
            state_of(statuses.iter().map(|status| ChannelHealth {
                status: *status,
                identity: None,
                since: 0,
                last_event_at: None,
                last_error: None,
            }))
        };
        assert_eq!(state(&[]), CheckState::Off);
        assert_eq!(state(&[Disabled]), CheckState::Off);
        assert_eq!(state(&[Disabled, Connecting]), CheckState::Ok);
        assert_eq!(state(&[Degraded, Connected]), CheckState::Degraded);
        assert_eq!(state(&[Connected, Failed]), CheckState::Degraded);
    }
}
