//! The chat gateway's store: its pages, and that nobody rewrote its audit log.

use anyhow::Result;
use stakpak_gateway::{GatewayStore, StoreReport};

use super::{Probe, Status};
use crate::{home::Home, place::Place};

pub(super) async fn look(home: &Home) -> Result<Probe> {
    // A file that says nothing usable says nothing about the store either.
    let path =
        Place::of_up(home).load().map_or_else(|_| home.autopilot("gateway.db"), |config| config.gateway.store_path);
    let shown = Home::show(&path);
    if !path.exists() {
        return Ok(probe(Status::Skip, format!("there is no chat gateway's store yet: {shown}"), Vec::new()));
    }
    let looked = tokio::task::spawn_blocking(move || GatewayStore::inspect(&path)).await?;
    Ok(match looked.map_err(anyhow::Error::from) {
        Ok(report) if report.is_whole() => probe(Status::Pass, whole(&shown, &report), Vec::new()),
        Ok(StoreReport { findings, audit_damage: Some(entry), .. }) => {
            let line = format!("entry {entry} of the audit log is not as it was written, or the one before it is gone");
            probe(Status::Fail, format!("{shown}: the audit log was changed"), [vec![line], findings].concat())
        }
        Ok(StoreReport { findings, .. }) => probe(Status::Fail, format!("{shown} is damaged"), findings),
        Err(error) => probe(Status::Fail, format!("{shown} cannot be read"), vec![format!("{error:#}")]),
    })
}

fn whole(path: &str, report: &StoreReport) -> String {
    let StoreReport { audit_entries, dead_letters, is_older, .. } = report;
    if *is_older {
        return format!("{path} is whole, and of an earlier version");
    }
    let dead = match dead_letters {
        0 => String::new(),
        count => format!(", {count} events that were not understood"),
    };
    format!("{path} is whole: {audit_entries} audited deeds{dead}")
}

fn probe(status: Status, summary: String, details: Vec<String>) -> Probe {
    let id = "gateway_database";
    let advice =
        "keep a copy of gateway.db aside and find out who changed it; of a damaged file, put a backup in its place";
    match status {
        Status::Pass => Probe::pass(id, summary),
        Status::Skip => Probe::skip(id, summary),
        Status::Fail => Probe::blocking(id, summary, details, advice),
    }
}
