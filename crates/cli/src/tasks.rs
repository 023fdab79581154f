//! Tasks of sessions: this program is also the shim that keeps one.

use std::time::Duration;

use anyhow::{Context, Result};
use stakpak_tools::{LocalTools, TaskShim, TasksConfig};

use crate::home::Home;

/// The only argument of a shim. It is no command for people, so the command line does not know it.
const SHIM: &str = "__task-shim";
/// All of them at once: SIGTERM, two seconds, SIGKILL, and some time to write down their end.
const END_LIMIT: Duration = Duration::from_secs(4);

pub(crate) fn is_shim() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    arguments.next().is_some_and(|first| first == SHIM) && arguments.next().is_none()
}

/// `mode`: which of the commands starts them.
pub(crate) fn config(home: &Home, mode: &str) -> Result<TasksConfig> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let shim = TaskShim { program, arguments: vec![SHIM.into()] };
    Ok(TasksConfig { directory: home.autopilot("tasks"), shim, host: mode.to_owned() })
}

/// Ends the tasks that this command has started, also at an earlier start.
pub(crate) async fn end_all(tools: &LocalTools) {
    match tokio::time::timeout(END_LIMIT, tools.end_tasks()).await {
        Ok(Ok(ended)) => tracing::info!(ended, "tasks ended, as tasks_on_shutdown says"),
        Ok(Err(error)) => tracing::warn!(%error, "not all tasks could be ended"),
        Err(_) => tracing::warn!("not all tasks have ended in time"),
    }
}
