//! `gateway outbox`: messages that are not sent, or perhaps not.

use anyhow::{Result, bail};
use comfy_table::{Table, presets};
use serde_json::json;
use stakpak_gateway::GatewayStore;

use crate::{
    args::OutboxCommand,
    channel::Desk,
    running::{RunningGateway, Unanswered},
};

pub(super) async fn run(desk: &Desk<'_>, command: OutboxCommand) -> Result<()> {
    let path = desk.place.load()?.gateway.store_path;
    let store = tokio::task::spawn_blocking(move || GatewayStore::open(&path)).await??;
    match command {
        OutboxCommand::List => list(desk, &store).await,
        OutboxCommand::Retry { id } => {
            if !retry(desk, &store, id).await? {
                bail!("{NOT_PARKED}");
            }
            settled(desk, "retry", id, "it is sent again");
            Ok(())
        }
        OutboxCommand::Drop { id } => {
            if !store.drop_undelivered(id).await? {
                bail!("{NOT_PARKED}");
            }
            settled(desk, "drop", id, "it is given up");
            Ok(())
        }
    }
}

const NOT_PARKED: &str = "no such message is parked; see: stakpak gateway outbox list";

/// By the gateway that runs, which sends it at once; else at the next start.
async fn retry(desk: &Desk<'_>, store: &GatewayStore, id: i64) -> Result<bool> {
    if let Some(running) = RunningGateway::find(desk.home)? {
        match running.post(&format!("outbox/{id}/retry"), &json!({})).await {
            Ok(_) => return Ok(true),
            Err(Unanswered::Absent(_)) => {}
            Err(Unanswered::Refused { code, .. }) if code == "not_found" => return Ok(false),
            Err(refused) => return Err(refused.into()),
        }
    }
    Ok(store.retry_undelivered(id).await?.is_some())
}

async fn list(desk: &Desk<'_>, store: &GatewayStore) -> Result<()> {
    let undelivered = store.undelivered().await?;
    if desk.json {
        say!("{}", json!({ "command": "gateway.outbox.list", "ok": true, "messages": undelivered }));
        return Ok(());
    }
    if undelivered.is_empty() {
        say!("Everything is sent.");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["ID", "TO", "KIND", "STATE", "ATTEMPTS", "ERROR"]);
    for message in &undelivered {
        let (id, attempts) = (message.id.to_string(), message.attempts.to_string());
        let error = message.error.as_deref().unwrap_or_default();
        table.add_row([&id, &message.target_key, &message.kind, &message.state, &attempts, error]);
    }
    say!("{table}");
    Ok(())
}

fn settled(desk: &Desk<'_>, verb: &str, id: i64, text: &str) {
    if desk.json {
        say!("{}", json!({ "command": format!("gateway.outbox.{verb}"), "ok": true, "id": id }));
    } else {
        say!("Message {id}: {text}.");
    }
}
