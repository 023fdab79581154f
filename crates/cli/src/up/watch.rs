//! Hot reload: `autopilot.toml` is read again when it changes. A file that does not parse changes nothing.

use std::time::Duration;

use stakpak_scheduler::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use toml_edit::DocumentMut;

use super::gateway::Mount;
use crate::{autopilot_file::AutopilotFile, home::Home};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

pub(super) fn start(home: &Home, scheduler: Handle, gateway: Mount, tasks: &TaskTracker, stop: CancellationToken) {
    let home = home.clone();
    tasks.spawn(async move {
        let mut known = tokio::fs::read(home.autopilot_toml()).await.ok();
        // The server is made once, at the start.
        let mut server_known = AutopilotFile::load(&home).ok().map(|file| file.server);
        let mut gateway_known = gateway_tables(known.as_deref());
        while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            let found = tokio::fs::read(home.autopilot_toml()).await.ok();
            if found == known {
                continue;
            }
            known = found;
            match AutopilotFile::load(&home) {
                Ok(file) => {
                    for error in file.schedules.errors() {
                        tracing::warn!("{error}");
                    }
                    scheduler.reload(file.schedules);
                    let tables = gateway_tables(known.as_deref());
                    if tables != gateway_known {
                        gateway_known = tables;
                        gateway.reload();
                    }
                    tracing::info!("autopilot.toml is reloaded");
                    if server_known.as_ref() != Some(&file.server) {
                        tracing::warn!(
                            "[server] of autopilot.toml has changed: restart `stakpak up` for it to take effect"
                        );
                        server_known = Some(file.server);
                    }
                }
                Err(error) => {
                    tracing::warn!("autopilot.toml is not reloaded, the last good one stays in use: {error:#}");
                }
            }
        }
    });
}

/// The text of the tables that the gateway reads: it is started again only when they change.
fn gateway_tables(file: Option<&[u8]>) -> Vec<Option<String>> {
    let text = file.map(String::from_utf8_lossy).unwrap_or_default();
    let document: DocumentMut = text.parse().unwrap_or_default();
    ["gateway", "routing", "channels"].map(|table| document.get(table).map(ToString::to_string)).into()
}
