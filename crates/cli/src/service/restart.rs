//! `stakpak restart`: everything is checked before anything is stopped.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;

use super::{STOP_SLACK, Service, detach, environment, wait};
use crate::{
    args::{Backend, Global},
    autopilot_file::AutopilotFile,
    home::Home,
    instance::{Facts, Seat},
};

/// Keys of `autopilot.toml` that a reload does not change.
const AT_START: &str = "[server] listen, token, sandbox_mode and [watch] db_path, log_dir";

pub(crate) async fn restart(global: &Global) -> Result<()> {
    let home = Home::open(global.home.clone(), global.config.clone())?;
    AutopilotFile::load(&home)?;
    home.config_file()?;
    let Some(facts) = Facts::of_running(&home)? else {
        bail!("stakpak is not running; start it with: stakpak up -d");
    };
    let (Some(_), Some(service)) = (facts.service, Service::installed(&home)) else {
        return in_a_terminal(&facts, global.json);
    };
    environment::prepare(&home, false)?;
    let service = service.renewed()?;
    service.stop(&home).await?;
    let limit = Duration::from_secs(service.drain_secs) + STOP_SLACK;
    wait::must_be_free(&home, Seat::Server, limit).await?;
    if service.backend == Backend::Process {
        wait::must_be_free(&home, Seat::Supervisor, limit).await?;
    }
    service.install(&home).await?;
    service.start(&home).await?;
    let facts = wait::until_ready(&home, service.backend).await?;
    detach::report(&home, &service, &facts, global.json).await
}

/// It is not ours to stop what a person watches.
fn in_a_terminal(facts: &Facts, json: bool) -> Result<()> {
    if json {
        let report = json!({ "command": "autopilot.restart", "ok": true, "reloaded": true, "pid": facts.pid,
            "restart_required": ["server.listen", "server.token", "server.sandbox_mode", "watch.db_path", "watch.log_dir"] });
        say!("{report}");
        return Ok(());
    }
    say!("process {} runs in a terminal; it reads autopilot.toml again by itself", facts.pid);
    say!("only {AT_START} wait until you stop it there and start it again");
    Ok(())
}
