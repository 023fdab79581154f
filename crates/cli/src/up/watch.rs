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

/// The text of the tables that the gateway reads, with all that lies below them: it is started again only when it changes.
fn gateway_tables(file: Option<&[u8]>) -> String {
    let text = file.map(String::from_utf8_lossy).unwrap_or_default();
    let mut document: DocumentMut = text.parse().unwrap_or_default();
    document.retain(|table, _| ["gateway", "routing", "channels"].contains(&table));
    document.set_trailing("");
    // A table by itself would leave out the tables below it.
    document.to_string()
}

#[cfg(test)]
mod tests {
    use super::gateway_tables;

    const BEFORE: &str = "[server]\nlisten = \"127.0.0.1:1\"\n[channels]\nx = 1\n[channels.telegram]\ntoken = \"a\"\n\
        [channels.telegram.profiles]\nops = \"one\"\n[[routing.rules]]\nto = \"a\"\n[gateway.approvals]\nallow = [\"a\"]\n";

    #[test]
    fn a_change_is_seen_however_deep_it_lies() {
        let changed = |from: &str, to: &str| {
            assert!(BEFORE.contains(from), "{from}");
            gateway_tables(Some(BEFORE.replace(from, to).as_bytes())) != gateway_tables(Some(BEFORE.as_bytes()))
        };
        for (from, to) in [
            ("x = 1", "x = 2"),
            ("token = \"a\"", "token = \"b\""),
            ("ops = \"one\"", "ops = \"two\""),
            ("to = \"a\"", "to = \"b\""),
            ("allow = [\"a\"]", "allow = []"),
            ("[channels.telegram]", "[channels.slack]"),
        ] {
            assert!(changed(from, to), "{from}");
        }
        assert!(!changed("127.0.0.1:1", "127.0.0.1:2"), "a table that the gateway does not read");
    }

    #[test]
    fn a_table_that_comes_or_goes_is_seen() {
        let none = gateway_tables(None);
        assert_eq!(gateway_tables(Some(b"[server]\n")), none);
        assert_ne!(gateway_tables(Some(b"[channels.telegram]\ntoken = \"a\"\n")), none);
    }
}
