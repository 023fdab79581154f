//! `schedule clean`: old runs go, also beside a running instance.

use std::time::Duration;

use anyhow::Result;
use chrono::Utc;
use serde_json::json;
use stakpak_scheduler::Retention;

use super::load;
use crate::home::Home;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn run(home: &Home, json: bool, older_than_days: Option<u32>) -> Result<()> {
    let (set, ledger) = load(home)?;
    let retention = match older_than_days {
        Some(days) => Retention { age: DAY.saturating_mul(days), runs: None },
        None => set.retention,
    };
    let pruned = ledger.prune(retention, Utc::now()).await?;
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.clean", "ok": true, "pruned": pruned }));
    } else {
        say!("{pruned} {} no longer in the history.", if pruned == 1 { "run is" } else { "runs are" });
    }
    Ok(())
}
