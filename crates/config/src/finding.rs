//! What is wrong with a file, and where.
//!
//! Invariants: a line and a column count from 1, a column counts characters; a message never holds the
//! value of a secret.

use std::{fmt, ops::Range};

use serde::Serialize;

/// A place in a file. Line and column count from 1, columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Where each line of a text begins.
#[derive(Clone, Debug)]
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(source: &str) -> Self {
        let after_breaks = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(after_breaks).collect())
    }

    /// The place of a byte of the same text.
    pub(crate) fn locate(&self, source: &str, offset: usize) -> Location {
        let line = self.0.partition_point(|start| *start <= offset).max(1);
        let before = source.get(self.0[line - 1]..offset).unwrap_or_default();
        Location { line, column: before.chars().count() + 1 }
    }
}

/// How much a finding stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// What the code says is not loaded: the file, a table, or one entry.
    Error,
    /// Nothing.
    Warning,
}

/// One finding. `Display` gives
/// `autopilot.toml:42:8: error[E102] schedules.nightly.cron: hour 25 is outside 0-23`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the file, without its directory.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Stable code, such as `E102`.
    pub code: &'static str,
    /// Whether it stops what it is about.
    pub severity: Severity,
    /// Dotted key path; empty when the finding is about the whole file.
    pub path: String,
    /// What is wrong, in words.
    pub message: String,
}

impl Finding {
    /// The finding for text that is not TOML (`E001`).
    pub(crate) fn syntax(file: &str, source: &str, span: Option<Range<usize>>, message: &str) -> Self {
        let Location { line, column } = Lines::of(source).locate(source, span.as_ref().map_or(0, |span| span.start));
        let message = match span.and_then(|span| source.get(span)).filter(|_| message == "duplicate key") {
            Some(key) => format!("`{key}` is there already, above; keep one of the two"),
            None => message.to_owned(),
        };
        Self {
            file: file.to_owned(),
            line,
            column,
            code: "E001",
            severity: Severity::Error,
            path: String::new(),
            message,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}[{}] ", self.file, self.line, self.column, self.code)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Finding {}
