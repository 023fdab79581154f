//! The journal: every page and every row of it.

use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use serde_json::{Value, json};
use stakpak_store::{Health, JournalFile};

use super::Probe;
use crate::home::Home;

/// The journal and what became of the look at it.
pub(super) struct Journal {
    path: PathBuf,
    found: Found,
}

enum Found {
    Nothing,
    Whole(Health),
    Damaged(Health),
    Unreadable(String),
}

pub(super) async fn look(home: &Home) -> Result<Journal> {
    let path = home.autopilot("journal.db");
    if !path.exists() && !home.autopilot("journal.db-wal").exists() {
        return Ok(Journal { path, found: Found::Nothing });
    }
    let file = path.clone();
    let look = move || JournalFile::open_read_only(&file).map(|file| file.check());
    let found = match tokio::task::spawn_blocking(look).await?.map_err(anyhow::Error::from) {
        Ok(health) if health.is_whole() => Found::Whole(health),
        Ok(health) => Found::Damaged(health),
        Err(error) => Found::Unreadable(format!("{error:#}")),
    };
    Ok(Journal { path, found })
}

impl Journal {
    pub(super) fn probe(&self) -> Probe {
        let (id, summary) = ("database_integrity", self.summary());
        match &self.found {
            Found::Nothing => Probe::skip(id, summary),
            Found::Whole(_) => Probe::pass(id, summary),
            Found::Damaged(_) | Found::Unreadable(_) => {
                let advice = "stop `stakpak up`, keep the damaged journal.db aside, and put a backup in its place";
                Probe::blocking(id, summary, self.details(), advice)
            }
        }
    }

    fn summary(&self) -> String {
        let path = Home::show(&self.path);
        match &self.found {
            Found::Nothing => format!("there is no journal yet: {path} is made by the first `stakpak up`"),
            Found::Whole(health) => format!(
                "{path} is whole: {} sessions, {} runs, {} rows, {}",
                health.sessions,
                health.runs,
                health.rows,
                ByteSize(health.bytes)
            ),
            Found::Damaged(health) => {
                format!("{path} is damaged in {} places", health.findings.len() as u64 + health.more)
            }
            Found::Unreadable(_) => format!("{path} cannot be read"),
        }
    }

    fn details(&self) -> Vec<String> {
        match &self.found {
            Found::Nothing | Found::Whole(_) => Vec::new(),
            Found::Damaged(health) => {
                let more = (health.more > 0).then(|| format!("and {} more", health.more));
                health.findings.iter().map(ToString::to_string).chain(more).collect()
            }
            Found::Unreadable(reason) => vec![reason.clone()],
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let path = &self.path;
        let (Found::Whole(health) | Found::Damaged(health)) = &self.found else { return json!({ "path": path }) };
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
