//! One entry of a log, as it is written: a line and what hangs on it.

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::args::{Component, Level, LogsArgs};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) part: Component,
    pub(super) time: DateTime<Utc>,
    level: Option<Level>,
    pub(super) text: String,
}

impl Entry {
    /// None for a line that begins no entry.
    pub(super) fn begin(part: Component, line: &str) -> Option<Self> {
        let (time, level) = if line.starts_with('{') {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["timestamp"].as_str()?.to_owned(), line["level"].as_str().map(str::to_owned))
        } else {
            let (time, rest) = line.split_once(char::is_whitespace)?;
            (time.to_owned(), rest.split_whitespace().next().map(str::to_owned))
        };
        let time = DateTime::parse_from_rfc3339(&time).ok()?.to_utc();
        let level = level.and_then(|level| Level::from_str(&level, true).ok());
        Some(Self { part, time, level, text: line.to_owned() })
    }

    /// A line that belongs to it.
    pub(super) fn add(&mut self, line: &str) {
        self.text.push('\n');
        self.text.push_str(line);
    }

    pub(super) fn json(&self) -> Value {
        json!({ "component": self.part, "level": self.level, "text": self.text, "time": self.time })
    }

    /// Of what should be looked at.
    pub(super) fn colour(&self) -> Option<&'static str> {
        match self.level? {
            Level::Error => Some("\x1b[31m"),
            Level::Warn => Some("\x1b[33m"),
            _ => Some(""),
        }
    }
}

/// Which entries are asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    since: Option<DateTime<Utc>>,
    level: Option<Level>,
    ids: Vec<String>,
}

impl Wanted {
    pub(super) fn new(args: &LogsArgs) -> Self {
        let ids = [&args.run, &args.session].into_iter().flatten().cloned().collect();
        Self { since: args.since, level: args.level, ids }
    }

    pub(super) fn has(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| entry.time >= since)
            && self.level.is_none_or(|least| entry.level.is_none_or(|level| level >= least))
            && self.ids.iter().all(|id| entry.text.contains(id.as_str()))
    }
}
