//! `stakpak doctor`: what is wrong with the files of this instance. Nothing is changed.

use anyhow::Result;
use bytesize::ByteSize;
use serde_json::{Value, json};
use stakpak_store::{Health, JournalFile};

use crate::{exit::Failure, home::Home};

/// The journal's own probe.
const PROBE: &str = "database_integrity";

pub(crate) async fn run(home: &Home, json: bool) -> Result<()> {
    let journal = home.autopilot("journal.db");
    let found = if journal.exists() || home.autopilot("journal.db-wal").exists() {
        let path = journal.clone();
        let look = move || JournalFile::open_read_only(&path).map(|file| file.check());
        Found::of(tokio::task::spawn_blocking(look).await?.map_err(anyhow::Error::from))
    } else {
        Found::Nothing
    };
    if json {
        let report = json!({
            "command": "autopilot.doctor", "ok": found.is_ok(), "probes": [found.probe(&Home::show(&journal))],
            "counts": { "fail": u8::from(!found.is_ok()), "pass": u8::from(matches!(found, Found::Whole(_))),
                "skip": u8::from(matches!(found, Found::Nothing)) },
            "journal": found.journal(&journal),
        });
        say!("{report:#}");
    } else {
        say!("{}  {PROBE}  {}", if found.is_ok() { "ok  " } else { "FAIL" }, found.summary(&Home::show(&journal)));
        found.details().iter().for_each(|line| say!("      {line}"));
    }
    if found.is_ok() { Ok(()) } else { Err(Failure::Silent.into()) }
}

/// What became of the look at the journal.
enum Found {
    Nothing,
    Whole(Health),
    Damaged(Health),
    Unreadable(String),
}

impl Found {
    fn of(looked: Result<Health>) -> Self {
        match looked {
            Ok(health) if health.is_whole() => Self::Whole(health),
            Ok(health) => Self::Damaged(health),
            Err(error) => Self::Unreadable(format!("{error:#}")),
        }
    }

    fn is_ok(&self) -> bool {
        matches!(self, Self::Nothing | Self::Whole(_))
    }

    fn summary(&self, path: &str) -> String {
        match self {
            Self::Nothing => format!("there is no journal yet: {path} is made by the first `stakpak up`"),
            Self::Whole(health) => format!(
                "{path} is whole: {} sessions, {} runs, {} rows, {}",
                health.sessions,
                health.runs,
                health.rows,
                ByteSize(health.bytes)
            ),
            Self::Damaged(health) => {
                format!("{path} is damaged in {} places", health.findings.len() as u64 + health.more)
            }
            Self::Unreadable(_) => format!("{path} cannot be read"),
        }
    }

    fn details(&self) -> Vec<String> {
        match self {
            Self::Nothing | Self::Whole(_) => Vec::new(),
            Self::Damaged(health) => {
                let more = (health.more > 0).then(|| format!("and {} more", health.more));
                health.findings.iter().map(ToString::to_string).chain(more).collect()
            }
            Self::Unreadable(reason) => vec![reason.clone()],
        }
    }

    fn probe(&self, path: &str) -> Value {
        let status = match self {
            Self::Nothing => "skip",
            Self::Whole(_) => "pass",
            Self::Damaged(_) | Self::Unreadable(_) => "fail",
        };
        let text = "Stop `stakpak up`, keep the damaged journal.db aside, and put a backup in its place.";
        json!({
            "id": PROBE, "status": status, "severity": "blocking", "summary": self.summary(path),
            "details": (!self.is_ok()).then(|| self.details().join("\n")),
            "remediation": (!self.is_ok()).then(|| json!({ "kind": "suggestion", "text": text })),
        })
    }

    fn journal(&self, path: &std::path::Path) -> Value {
        let (Self::Whole(health) | Self::Damaged(health)) = self else { return json!({ "path": path }) };
        let findings = health
            .findings
            .iter()
            .map(|finding| json!({ "session": finding.session, "seq": finding.seq, "reason": finding.reason }));
        json!({
            "path": path, "bytes": health.bytes, "sessions": health.sessions, "runs": health.runs, "rows": health.rows,
            "findings": findings.collect::<Vec<_>>(), "more": health.more,
        })
    }
}
