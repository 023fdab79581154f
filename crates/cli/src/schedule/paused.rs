//! Decides about paused runs, and ends runs: asks the running instance, else writes it down for the next one.

use anyhow::{Context, Result, bail};
use chrono::Utc;
use serde_json::{Value, json};
use stakpak_client::StakpakClient;
use stakpak_scheduler::{Decide, Ledger, RunNumber, RunRecord, RunStatus};
use uuid::Uuid;

use super::{act, load, table};
use crate::{
    agent_server::client, args::DecisionArgs, autopilot_file::AutopilotFile, exit::Failure, home::Home, instance::Facts,
};

/// Who decides here, as the ledger has it.
const BY: &str = "cli";

pub(super) fn running(home: &Home) -> Result<Option<StakpakClient>> {
    let Some(facts) = Facts::of_running(home)?.filter(|facts| facts.mode == "up") else { return Ok(None) };
    Ok(Some(client(&facts.url, Some(&AutopilotFile::load(home)?.token(home)?))))
}

pub(super) async fn resume(home: &Home, json: bool, id: RunNumber, decisions: DecisionArgs, wait: bool) -> Result<()> {
    if !decisions.decides() {
        bail!(Failure::Usage(format!(
            "say what to do about the calls: stakpak schedule resume run:{id} --approve-all, or --approve CALL, \
             --reject CALL, --reject-all; what they are: stakpak schedule show run:{id}"
        )));
    }
    let running = running(home)?;
    if wait && running.is_none() {
        bail!("nothing runs that could be waited for; start it with: stakpak up");
    }
    let (_, ledger) = load(home)?;
    match &running {
        Some(client) => {
            let client = client.with_idempotency_key(Uuid::new_v4().to_string());
            client.resume_schedule_run(id.0, &body(&decisions)).await?;
        }
        None => {
            let DecisionArgs { approve, reject, approve_all, reject_all, message } = decisions;
            let by = BY.to_owned();
            let decide = Decide { approve, reject, approve_all, reject_all, message, by, key: None };
            ledger.decide(id, decide, Utc::now()).await?;
        }
    }
    if wait {
        let run = act::ended(&ledger, id).await?;
        tell(home, json, "resume", &run, "has ended")?;
        return act::outcome(&run);
    }
    let goes_on = if running.is_some() { "goes on" } else { "goes on at the next `stakpak up`" };
    tell(home, json, "resume", &found(&ledger, id).await?, goes_on)
}

fn body(decisions: &DecisionArgs) -> Value {
    let DecisionArgs { approve, reject, approve_all, reject_all, message } = decisions;
    json!({ "approve": approve, "approve_all": approve_all, "by": BY, "message": message, "reject": reject,
            "reject_all": reject_all })
}

pub(super) async fn cancel(home: &Home, json: bool, id: RunNumber) -> Result<()> {
    let (_, ledger) = load(home)?;
    match running(home)? {
        Some(client) => {
            client.cancel_schedule_run(id.0).await?;
            let run = confirmed(&ledger, id).await?;
            tell(home, json, "cancel", &run, "has ended")?;
            if run.status == RunStatus::Unknown {
                bail!("the server has not confirmed the end of run {id}")
            } else {
                Ok(())
            }
        }
        None => {
            let run = ledger.cancel(id, None, Utc::now()).await?;
            let ends =
                if run.status == RunStatus::Cancelled { "is cancelled" } else { "ends at the next `stakpak up`" };
            tell(home, json, "cancel", &run, ends)
        }
    }
}

/// The run once it is known to have ended.
async fn confirmed(ledger: &Ledger, id: RunNumber) -> Result<RunRecord> {
    loop {
        let run = act::ended(ledger, id).await?;
        if run.status != RunStatus::Paused {
            return Ok(run);
        }
        tokio::time::sleep(act::INTERVAL).await;
    }
}

async fn found(ledger: &Ledger, id: RunNumber) -> Result<RunRecord> {
    ledger.run(id).await?.with_context(|| format!("run {id} is gone"))
}

fn tell(home: &Home, json: bool, command: &str, run: &RunRecord, what: &str) -> Result<()> {
    if json {
        say!("{}", json!({ "command": format!("autopilot.schedule.{command}"), "ok": true, "run": run }));
    } else {
        say!("Run {} of {} {what}.\n{}", run.id, run.schedule, table::runs(std::slice::from_ref(run), &load(home)?.0));
    }
    Ok(())
}
