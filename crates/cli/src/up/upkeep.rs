//! The journal's upkeep as a part of `up`.

use stakpak_agent_core::Retention;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::supervise::{Fault, Supervisor};
use crate::agent_server::AgentServer;

pub(super) fn start(server: &AgentServer, retention: Retention, tasks: &TaskTracker, stop: CancellationToken) {
    let ports = server.upkeep_ports();
    tasks.spawn(async move {
        let part = || {
            let (mut job, stop) = (ports.job(retention.clone()), stop.clone());
            // Nobody waits for it: however often it fails, it is tried again.
            async move { job.run(&stop).await.map_err(|error| Fault::Start(error.into())) }
        };
        Supervisor::new("journal upkeep").run(stop.clone(), part).await;
    });
}
