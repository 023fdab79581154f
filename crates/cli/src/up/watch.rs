//! Hot reload: files are read again when they change. One that cannot be used changes nothing.

mod reload;

use std::time::Duration;

use stakpak_scheduler::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use toml_edit::DocumentMut;

pub(super) use reload::Reload;

use super::gateway::Mount;
/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// What the gateway reads of the file; `[server]` only where there is no server in the process.
const TABLES: [&str; 3] = ["gateway", "routing", "channels"];
const STANDALONE_TABLES: [&str; 4] = ["server", "gateway", "routing", "channels"];

pub(super) fn start(
    mut reload: Reload,
    scheduler: Handle,
    gateway: Mount,
    tasks: &TaskTracker,
    stop: CancellationToken,
) {
    tasks.spawn(async move {
        let mut tables = Tables::new(&TABLES);
        tables.changed(&gateway).await;
        while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            if tables.changed(&gateway).await {
                gateway.reload();
            }
            if let Err(error) = reload.profiles().await {
                tracing::warn!("config.toml is not reloaded, the last good one stays in use: {error:#}");
                complain(&scheduler, &format!("The last good one stays in use. {error:#}")).await;
            }
            match reload.autopilot().await {
                Ok(None) => {}
                Ok(Some(schedules)) => {
                    let errors: Vec<String> = schedules.errors().map(ToString::to_string).collect();
                    for error in &errors {
                        tracing::warn!("{error}");
                    }
                    scheduler.reload(schedules);
                    if !errors.is_empty() {
                        complain(&scheduler, &errors.join("\n")).await;
                    }
                    tracing::info!("autopilot.toml is reloaded");
                }
                Err(error) => {
                    tracing::warn!("autopilot.toml is not reloaded, the last good one stays in use: {error:#}");
                    complain(&scheduler, &format!("The last good one stays in use. {error:#}")).await;
                }
            }
        }
    });
}

/// Whoever hears of schedules hears that their file is wrong.
async fn complain(scheduler: &Handle, problem: &str) {
    if let Err(error) = scheduler.config_invalid(problem).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "nobody can be told of the unusable file");
    }
}

/// The gateway's tables only, for a gateway that runs alone.
pub(crate) fn start_gateway(gateway: Mount, tasks: &TaskTracker, stop: CancellationToken) {
    tasks.spawn(async move {
        let mut tables = Tables::new(&STANDALONE_TABLES);
        tables.changed(&gateway).await;
        while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            if tables.changed(&gateway).await {
                gateway.reload();
            }
        }
    });
}

/// The tables that the gateway reads: it is started again only when they change.
struct Tables {
    names: &'static [&'static str],
    /// The file, to parse it only when it has changed.
    file: Option<String>,
    /// As they were when the file last was TOML.
    text: Option<String>,
}

impl Tables {
    fn new(names: &'static [&'static str]) -> Self {
        Self { names, file: None, text: None }
    }

    async fn changed(&mut self, gateway: &Mount) -> bool {
        let file = Some(tokio::fs::read_to_string(gateway.file()).await.unwrap_or_default());
        if file == self.file {
            return false;
        }
        self.file = file;
        let text = tables(self.file.as_deref().unwrap_or_default(), self.names);
        if text.is_none() || text == self.text {
            return false;
        }
        self.text = text;
        true
    }
}

/// Tables with all that lies below them.
fn tables(text: &str, names: &[&str]) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    document.retain(|table, _| names.contains(&table));
    document.set_trailing("");
    // A table by itself would leave out the tables below it.
    Some(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::{TABLES, tables};

    const BEFORE: &str = "[server]\nlisten = \"127.0.0.1:1\"\n[channels]\nx = 1\n[channels.telegram]\ntoken = \"a\"\n\
        [channels.telegram.profiles]\nops = \"one\"\n[[routing.rules]]\nto = \"a\"\n[gateway.approvals]\nallow = [\"a\"]\n";

    #[test]
    fn a_change_is_seen_however_deep_it_lies() {
        let changed = |from: &str, to: &str| {
            assert!(BEFORE.contains(from), "{from}");
            tables(&BEFORE.replace(from, to), &TABLES) != tables(BEFORE, &TABLES)
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
        let none = tables("", &TABLES);
        assert_eq!(tables("[server]\n", &TABLES), none);
        assert_ne!(tables("[channels.telegram]\ntoken = \"a\"\n", &TABLES), none);
    }
}
