//! `stakpak doctor`: what is wrong with the files of this instance. Nothing is changed.

mod gateway;
mod journal;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{exit::Failure, home::Home};

/// What one look told.
struct Probe {
    id: &'static str,
    status: Status,
    summary: String,
    /// What is wrong, a line each.
    details: Vec<String>,
    /// What to do about it.
    advice: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Pass,
    Fail,
    Skip,
}

impl Probe {
    fn has_failed(&self) -> bool {
        self.status == Status::Fail
    }

    fn to_json(&self) -> Value {
        let status = match self.status {
            Status::Pass => "pass",
            Status::Fail => "fail",
            Status::Skip => "skip",
        };
        json!({
            "id": self.id, "status": status, "severity": "blocking", "summary": self.summary,
            "details": self.has_failed().then(|| self.details.join("\n")),
            "remediation": self.has_failed().then(|| json!({ "kind": "suggestion", "text": self.advice })),
        })
    }
}

pub(crate) async fn run(home: &Home, json: bool) -> Result<()> {
    let journal = journal::look(home).await?;
    let probes = [journal.probe(), gateway::look(home).await?];
    let is_ok = !probes.iter().any(Probe::has_failed);
    if json {
        let count = |status| probes.iter().filter(|probe| probe.status == status).count();
        let report = json!({
            "command": "autopilot.doctor", "ok": is_ok, "probes": probes.iter().map(Probe::to_json).collect::<Vec<_>>(),
            "counts": { "fail": count(Status::Fail), "pass": count(Status::Pass), "skip": count(Status::Skip) },
            "journal": journal.to_json(),
        });
        say!("{report:#}");
    } else {
        for probe in &probes {
            say!("{}  {}  {}", if probe.has_failed() { "FAIL" } else { "ok  " }, probe.id, probe.summary);
            probe.details.iter().for_each(|line| say!("      {line}"));
        }
    }
    if is_ok { Ok(()) } else { Err(Failure::Silent.into()) }
}
