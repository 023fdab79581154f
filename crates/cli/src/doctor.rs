//! `stakpak doctor`: what is wrong with this instance, its files and its machine. Nothing is changed, unless `--fix` may
//! narrow the modes of private files; nobody else is asked, unless `--online` says so.

mod access;
mod budgets;
mod files;
mod gateway;
mod instance;
mod journal;
mod machine;
mod online;
mod sandbox;
mod schedules;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    args::{DoctorArgs, Global},
    exit::Failure,
    home::Home,
};

/// What one look told.
struct Probe {
    id: &'static str,
    status: Status,
    severity: Severity,
    summary: String,
    /// What is wrong, a line each.
    details: Vec<String>,
    /// What to do about it.
    advice: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    Pass,
    Fail,
    Skip,
}

/// What a failure means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Severity {
    /// `up` cannot do its work.
    Blocking,
    /// Something that was asked for does not work.
    Warning,
    /// Good to know.
    Info,
}

impl Probe {
    fn pass(id: &'static str, summary: impl Into<String>) -> Self {
        Self::new(id, Status::Pass, Severity::Info, summary.into())
    }

    /// There is nothing to look at.
    fn skip(id: &'static str, summary: impl Into<String>) -> Self {
        Self::new(id, Status::Skip, Severity::Info, summary.into())
    }

    fn info(id: &'static str, summary: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(id, Status::Pass, Severity::Info, summary.into()).advising(Vec::new(), advice)
    }

    fn warning(id: &'static str, summary: impl Into<String>, details: Vec<String>, advice: impl Into<String>) -> Self {
        Self::new(id, Status::Fail, Severity::Warning, summary.into()).advising(details, advice)
    }

    fn blocking(id: &'static str, summary: impl Into<String>, details: Vec<String>, advice: impl Into<String>) -> Self {
        Self::new(id, Status::Fail, Severity::Blocking, summary.into()).advising(details, advice)
    }

    /// A warning about what `details` name; a pass if they name nothing.
    fn of_details(id: &'static str, good: &str, bad: &str, details: Vec<String>, advice: &str) -> Self {
        match details.is_empty() {
            true => Self::pass(id, good),
            false => Self::warning(id, bad, details, advice),
        }
    }

    fn new(id: &'static str, status: Status, severity: Severity, summary: String) -> Self {
        Self { id, status, severity, summary, details: Vec::new(), advice: String::new() }
    }

    fn advising(self, details: Vec<String>, advice: impl Into<String>) -> Self {
        Self { details, advice: advice.into(), ..self }
    }

    fn is_blocking(&self) -> bool {
        (self.status, self.severity) == (Status::Fail, Severity::Blocking)
    }

    fn mark(&self) -> &'static str {
        match (self.status, self.severity) {
            (Status::Fail, Severity::Blocking) => "FAIL",
            (Status::Fail, _) => "warn",
            (Status::Pass, _) => "ok  ",
            (Status::Skip, _) => "-   ",
        }
    }

    fn to_json(&self) -> Value {
        let status = match self.status {
            Status::Pass => "pass",
            Status::Fail => "fail",
            Status::Skip => "skip",
        };
        let severity = match self.severity {
            Severity::Blocking => "blocking",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        let details = (!self.details.is_empty()).then(|| self.details.join("\n"));
        let remediation = (!self.advice.is_empty()).then(|| json!({ "kind": "suggestion", "text": self.advice }));
        json!({
            "id": self.id, "status": status, "severity": severity, "summary": self.summary,
            "details": details, "remediation": remediation,
        })
    }
}

pub(crate) async fn run(home: &Home, global: &Global, args: &DoctorArgs) -> Result<()> {
    let fixed = if args.fix { access::fix(home)? } else { Vec::new() };
    let journal = journal::look(home).await?;
    let mut probes = vec![journal.probe(), gateway::look(home).await?];
    let files = files::Files::load(home);
    probes.extend(files.probes());
    probes.extend(access::look(home));
    probes.extend(machine::look(home));
    probes.extend(sandbox::look(home));
    probes.extend(instance::look(home, files.autopilot.as_ref().ok()).await?);
    probes.extend(schedules::look(&files));
    probes.push(budgets::look(&files, global));
    probes.push(online::credentials(&files, global));
    probes.extend(online::look(&files, global, args.online).await);
    let is_ok = !probes.iter().any(Probe::is_blocking);
    if global.json {
        let count = |status| probes.iter().filter(|probe| probe.status == status).count();
        let report = json!({
            "command": "autopilot.doctor", "ok": is_ok, "probes": probes.iter().map(Probe::to_json).collect::<Vec<_>>(),
            "counts": { "fail": count(Status::Fail), "pass": count(Status::Pass), "skip": count(Status::Skip) },
            "fixed": fixed, "journal": journal.to_json(),
        });
        say!("{report:#}");
    } else {
        fixed.iter().for_each(|line| say!("fixed  {line}"));
        probes.iter().for_each(show);
    }
    if is_ok { Ok(()) } else { Err(Failure::Silent.into()) }
}

fn show(probe: &Probe) {
    say!("{}  {}  {}", probe.mark(), probe.id, probe.summary);
    probe.details.iter().for_each(|line| say!("      {line}"));
    if !probe.advice.is_empty() {
        say!("      → {}", probe.advice);
    }
}
