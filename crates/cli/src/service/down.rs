//! `stakpak down`: stops whatever holds the state directory and removes the service. Reads no configuration, so that it
//! works when that is broken.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use super::{Service, wait};
use crate::{
    args::{DownArgs, Global},
    home::Home,
    instance::{Facts, Seat},
};

/// A killed process is gone after that.
const GONE: Duration = Duration::from_secs(5);

pub(crate) async fn down(global: &Global, args: &DownArgs) -> Result<()> {
    let home = Home::open(global.home.clone(), global.config.clone())?;
    let facts = Facts::of_running(&home)?;
    let service = Service::installed(&home);
    let began = Instant::now();
    if let Some(service) = &service
        && let Err(error) = service.stop(&home).await
    {
        eprintln!("{error:#}");
    }
    let killed = match &facts {
        Some(facts) => end(&home, facts, args).await?,
        None => false,
    };
    if let Some(service) = &service {
        wait::until_free(&home, Seat::Supervisor, GONE).await?;
        service.uninstall(&home).await?;
    }
    if global.json {
        let stopped = facts.as_ref().map(|facts| facts.pid);
        say!(
            "{}",
            json!({ "command": "autopilot.down", "ok": true, "stopped": stopped, "killed": killed, "uninstalled": service.is_some() })
        );
        return Ok(());
    }
    match &facts {
        Some(facts) if killed => {
            say!(
                "process {} did not stop in {} s and was killed; nothing accepted is lost",
                facts.pid,
                args.timeout.as_secs()
            );
        }
        Some(facts) => say!("stopped: process {}, in {:.1} s", facts.pid, began.elapsed().as_secs_f64()),
        None => say!("stakpak is not running"),
    }
    if service.is_some() {
        say!("the service is removed; `stakpak up -d` installs it again");
    }
    Ok(())
}

/// Whether it had to be killed.
async fn end(home: &Home, facts: &Facts, args: &DownArgs) -> Result<bool> {
    let pid = Pid::from_raw(i32::try_from(facts.pid).context("the process has no number")?);
    signal(pid, Signal::SIGTERM)?;
    if args.now {
        // The second one does not wait for runs.
        tokio::time::sleep(Duration::from_millis(200)).await;
        signal(pid, Signal::SIGTERM)?;
    }
    if wait::until_free(home, Seat::Server, args.timeout).await? {
        return Ok(false);
    }
    signal(pid, Signal::SIGKILL)?;
    if !wait::until_free(home, Seat::Server, GONE).await? {
        bail!("process {pid} cannot be killed");
    }
    Ok(true)
}

fn signal(pid: Pid, signal: Signal) -> Result<()> {
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("process {pid} cannot be stopped")),
    }
}
