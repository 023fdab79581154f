//! Who called what: a line for each call before it runs, and one for how it ended. What runs are to the journal, these calls
//! are to this file.
//!
//! Lines are appended whole, so that several processes may write; when the file has its size it becomes `.1`.

use std::{
    fs::{File, OpenOptions, rename},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value};
use stakpak_redact::Redactor;
use tokio::task::spawn_blocking;

const NAME: &str = "mcp-calls.jsonl";
/// Of a file; the one before it is kept.
const MAX_FILE: u64 = 16 * 1024 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Book {
    path: PathBuf,
    redactor: Redactor,
}

impl Book {
    pub(super) fn new(state: &Path, redactor: Redactor) -> Self {
        Self { path: state.join(NAME), redactor }
    }

    /// Writes one line; it is on the disk then.
    pub(super) async fn write(&self, entry: Value) -> io::Result<()> {
        let book = self.clone();
        spawn_blocking(move || book.append(entry)).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    fn append(&self, entry: Value) -> io::Result<()> {
        let mut line = Map::new();
        line.insert("at".to_owned(), Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true).into());
        if let Value::Object(entry) = self.redacted(entry) {
            line.extend(entry);
        }
        let mut file = self.open()?;
        if file.metadata()?.len() >= MAX_FILE {
            rename(&self.path, self.path.with_extension("jsonl.1"))?;
            file = self.open()?;
        }
        file.write_all(format!("{}\n", Value::Object(line)).as_bytes())?;
        file.sync_data()
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)
    }

    fn redacted(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.redactor.redact(&text).into_owned().into(),
            Value::Array(items) => items.into_iter().map(|item| self.redacted(item)).collect(),
            Value::Object(entries) => {
                let name = |name: String| self.redactor.redact(&name).into_owned();
                entries.into_iter().map(|(key, value)| (name(key), self.redacted(value))).collect()
            }
            other => other,
        }
    }
}
