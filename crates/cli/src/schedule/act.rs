//! Starts, pauses and resumes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use stakpak_client::StakpakClient;
use stakpak_scheduler::{HeldBy, Hold, Ledger, RunNumber, RunRecord, RunStatus, TriggerOptions, trigger};

use super::{load, table};
use crate::{agent_server::client, autopilot_file::AutopilotFile, exit::Failure, home::Home, instance::Facts};

/// How often a run that is waited for is looked at.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// A schedule that was added just now is not known to the running instance yet.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(3);

/// Asks the running instance; without one the run is stored and starts with it.
pub(super) async fn start(home: &Home, json: bool, name: &str, wait: bool, options: TriggerOptions) -> Result<()> {
    let running = Facts::of_running(home)?.filter(|facts| facts.mode == "up");
    if wait && running.is_none() {
        bail!("nothing runs that could be waited for; start it with: stakpak up");
    }
    let (set, ledger) = load(home)?;
    let run = match &running {
        Some(facts) => {
            let client = client(&facts.url, Some(&AutopilotFile::load(home)?.token(home)?));
            ask(&client, name, &options, set.get(name).is_some()).await?
        }
        None => serde_json::to_value(trigger(&set, &ledger, name, options, Utc::now()).await?)?,
    };
    if run["status"] == "skipped" {
        let active = run["blocking_run"].as_i64().map_or_else(String::new, |run| format!(": run {run} is active"));
        bail!("run {} of {name} was skipped ({}){active}", run["id"], run["reason"].as_str().unwrap_or("-"));
    }
    if wait {
        let id = run["id"].as_i64().map(RunNumber).context("the instance does not say which run it started")?;
        let run = ended(&ledger, id).await?;
        if json {
            say!("{}", json!({ "command": "autopilot.schedule.trigger", "ok": true, "run": run }));
        } else {
            say!("{}", table::runs(std::slice::from_ref(&run), &set));
        }
        return outcome(&run);
    }
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.trigger", "ok": true, "run": run }));
    } else if running.is_some() {
        say!("Run {} of {name} has started; see what came of it: stakpak schedule history {name}", run["id"]);
    } else {
        say!("Run {} of {name} is stored and starts at the next `stakpak up`.", run["id"]);
    }
    Ok(())
}

/// The run that the running instance has started. It takes up what is in the file within a second.
async fn ask(client: &StakpakClient, name: &str, options: &TriggerOptions, is_in_file: bool) -> Result<Value> {
    let deadline = Instant::now() + TAKEN_UP_WITHIN;
    loop {
        match client.trigger_schedule_with(name, options.force, options.no_check).await {
            Err(error) if error.is_not_found() && is_in_file && Instant::now() < deadline => {
                tokio::time::sleep(INTERVAL).await;
            }
            run => return Ok(run?),
        }
    }
}

/// The run once it has ended, or waits for a person.
pub(super) async fn ended(ledger: &Ledger, id: RunNumber) -> Result<RunRecord> {
    loop {
        let run = ledger.run(id).await?.with_context(|| format!("run {id} is gone"))?;
        if !matches!(run.status, RunStatus::Pending | RunStatus::Running) {
            return Ok(run);
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => bail!(Failure::Interrupted),
        }
    }
}

pub(super) fn outcome(run: &RunRecord) -> Result<()> {
    match run.status {
        RunStatus::Completed => Ok(()),
        // The check saw nothing to do.
        RunStatus::Skipped if run.reason.is_some_and(|reason| reason.as_str() == "check") => Ok(()),
        RunStatus::Paused => bail!(Failure::Paused),
        RunStatus::TimedOut => bail!(Failure::TimedOut),
        _ => bail!(Failure::Silent),
    }
}

/// Held in the ledger, where a running instance looks before each start.
pub(super) async fn pause(
    home: &Home,
    json: bool,
    name: &str,
    duration: Option<Duration>,
    note: Option<String>,
) -> Result<()> {
    let (set, ledger) = load(home)?;
    if set.get(name).is_none() {
        bail!("there is no schedule named {name}");
    }
    let since = Utc::now();
    let until = duration.map(|duration| anyhow::Ok(since + TimeDelta::from_std(duration)?)).transpose()?;
    ledger.hold(name, Hold { since, until, by: HeldBy::User, note }, None).await?;
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.pause", "ok": true, "name": name, "until": until }));
    } else {
        say!("Schedule {name} is paused. Let it go on with: stakpak schedule resume {name}");
    }
    Ok(())
}

pub(super) async fn resume(home: &Home, json: bool, name: &str) -> Result<()> {
    let (set, ledger) = load(home)?;
    if !ledger.release(name, Utc::now(), None).await? {
        match set.get(name) {
            Some(_) => bail!("schedule {name} is not paused"),
            None => bail!("there is no schedule named {name}"),
        }
    }
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.resume", "ok": true, "name": name, "until": Value::Null }));
    } else {
        say!("Schedule {name} fires again, from now on.");
    }
    Ok(())
}
