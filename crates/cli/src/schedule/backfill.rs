//! `schedule backfill`: asks the running instance; without one the runs are stored and start with it.

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use stakpak_scheduler::{Backfill, backfill};
use uuid::Uuid;

use super::{load, local, paused, table::zone_of};
use crate::{args::BackfillArgs, home::Home};

pub(super) async fn run(home: &Home, json: bool, name: &str, args: BackfillArgs) -> Result<()> {
    let (set, ledger) = load(home)?;
    let running = paused::running(home)?;
    let BackfillArgs { from, to, limit, overlap, dry_run, force } = args;
    let filled: Value = match &running {
        Some(client) => {
            let body = json!({ "dry_run": dry_run, "force": force, "from": from, "limit": limit, "overlap": overlap,
                "to": to });
            client.with_idempotency_key(Uuid::new_v4().to_string()).backfill_schedule(name, &body).await?
        }
        None => {
            let overlap = serde_json::from_value(Value::String(overlap))?;
            let asked = Backfill { from, to, limit, overlap, force, dry_run, key: None };
            serde_json::to_value(backfill(&set, &ledger, name, asked, Utc::now()).await?)?
        }
    };
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.backfill", "ok": true, "backfill": filled }));
        return Ok(());
    }
    let instants: Vec<DateTime<Utc>> =
        serde_json::from_value(filled["instants"].clone()).context("the instance does not say which instants")?;
    let zone = zone_of(&set, name);
    for (index, instant) in instants.iter().enumerate() {
        let run = filled["run_ids"][index].as_i64().map_or_else(String::new, |id| format!("run {id}  "));
        say!("{run}{}", local(*instant, zone));
    }
    let runs = if instants.len() == 1 { "1 run".to_owned() } else { format!("{} runs", instants.len()) };
    let left_out = filled["left_out"].as_u64().unwrap_or_default();
    let fate = match (dry_run, &running) {
        (true, _) => "would be made; nothing was written",
        (false, Some(_)) => "made; they start one after the other",
        (false, None) => "stored; they start at the next `stakpak up`",
    };
    say!("{runs} {fate}. {left_out} left out that have a run.");
    Ok(())
}
