//! Until an instance is ready, or gone.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::sleep;

use super::process::Report;
use crate::{
    agent_server::client,
    args::Backend,
    autopilot_file::AutopilotFile,
    health::Health,
    home::Home,
    instance::{Facts, Lock, Owner, Seat},
};

/// How long a start may take.
const START: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// What is still connecting then goes on in the background.
const SETTLING: Duration = Duration::from_secs(5);
/// Of a log, when a start fails.
const LAST_LINES: usize = 20;

/// The facts of the instance that the service manager has started.
pub(super) async fn until_ready(home: &Home, backend: Backend) -> Result<Facts> {
    let token = AutopilotFile::load(home)?.token(home)?;
    let deadline = Instant::now() + START;
    let failed = |why: &str| anyhow::anyhow!("{why}; the end of the log:\n{}", end_of_log(home));
    let mut answered = None;
    while Instant::now() < deadline {
        if let Some(facts) = Facts::of_running(home)? {
            let health = Health::of(&client(&facts.url, Some(&token))).await;
            let since = *answered.get_or_insert_with(Instant::now);
            if health.is_reachable() && (!health.is_starting() || since.elapsed() > SETTLING) {
                return Ok(facts);
            }
        }
        if let (Backend::Process, Some(Report { last_exit: Some(exit), .. })) = (backend, Report::read(home)) {
            return Err(failed(&format!("it does not start: {exit}")));
        }
        sleep(PAUSE).await;
    }
    Err(failed("it is not ready after 60 s"))
}

/// False if the lock is still held at the end.
pub(super) async fn until_free(home: &Home, seat: Seat, limit: Duration) -> Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        if matches!(Lock::acquire(home, seat)?, Owner::Us(_)) {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(PAUSE).await;
    }
}

/// The same, and it is an error.
pub(super) async fn must_be_free(home: &Home, seat: Seat, limit: Duration) -> Result<()> {
    if !until_free(home, seat, limit).await? {
        bail!("it has not stopped after {} s; `stakpak down` ends it", limit.as_secs());
    }
    Ok(())
}

fn end_of_log(home: &Home) -> String {
    let files = ["service.log", "server.log"].map(|name| home.logs().join(name));
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok().filter(|text| !text.trim().is_empty()));
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
