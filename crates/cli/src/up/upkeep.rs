//! The journal's upkeep as a part of `up`.

use stakpak_agent_core::Retention;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::supervise::supervise;
use crate::agent_server::AgentServer;

pub(super) fn start(server: &AgentServer, retention: Retention, tasks: &TaskTracker, stop: CancellationToken) {
    let ports = server.upkeep_ports();
    tasks.spawn(supervise("journal upkeep", stop.clone(), move || {
        let mut job = ports.job(retention.clone());
        let stop = stop.clone();
        async move { job.run(&stop).await }
    }));
}
