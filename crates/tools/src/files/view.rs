//! `view`: a file's lines, a directory's entries, or a search in either.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::{
    list, read,
    read::{Lines, Opened},
    search::{self, Patterns},
    unreadable,
};
use crate::{
    arguments::View,
    error::ToolError,
    text::{MAX_BYTES, MAX_LINES, cut_line},
};

/// A cancelled look ends after this many lines.
const LINES_BETWEEN_CHECKS: u64 = 4096;

/// Looks. Stops early when cancelled; the result is not wanted then.
pub(crate) fn view(arguments: &View, path: &Path, cancel: &CancellationToken) -> Result<String, ToolError> {
    let patterns = Patterns::read(arguments.grep.as_deref(), arguments.glob.as_deref())?;
    let metadata = path.metadata().map_err(|error| unreadable(path, &error))?;
    match (metadata.is_dir(), patterns) {
        (true, Some(patterns)) => search::directory(path, &patterns, cancel),
        (true, None) if arguments.tree == Some(true) => list::tree(path),
        (true, None) => list::entries(path),
        (false, Some(Patterns { lines: Some(pattern), .. })) => search::file(path, &pattern, cancel),
        (false, _) => file(path, Range::read(arguments.view_range)?, cancel),
    }
}

/// Lines, counted from 1.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: u64,
    last: Option<u64>,
}

impl Range {
    fn read(range: Option<[i64; 2]>) -> Result<Self, ToolError> {
        let Some([first, last]) = range else { return Ok(Self { first: 1, last: None }) };
        let wrong = |what: &str| {
            let hint =
                "view_range is [first line, last line], counted from 1, and -1 as the last line is the end of the file";
            ToolError::new("INVALID_RANGE", format!("[{first}, {last}]: {what}; {hint}"))
        };
        let from = u64::try_from(first).ok().filter(|first| *first > 0).ok_or_else(|| wrong("no such first line"))?;
        if last == -1 {
            return Ok(Self { first: from, last: None });
        }
        let to = u64::try_from(last).ok().filter(|last| *last > 0).ok_or_else(|| wrong("no such last line"))?;
        if to < from {
            Err(wrong("the last line is before the first"))
        } else {
            Ok(Self { first: from, last: Some(to) })
        }
    }
}

fn file(path: &Path, range: Range, cancel: &CancellationToken) -> Result<String, ToolError> {
    let mut lines = match read::open(path)? {
        Opened::Text(lines) => lines,
        Opened::Binary(kind, size) => {
            return Ok(format!("File: {} is binary ({kind}, {size} bytes) and not shown", path.display()));
        }
    };
    let failed = |error: std::io::Error| unreadable(path, &error);
    let beyond = |lines: u64| {
        let message = format!("{} has {lines} lines, and line {} was asked for", path.display(), range.first);
        ToolError::new("INVALID_RANGE", message)
    };
    for passed in 0..range.first - 1 {
        if passed.is_multiple_of(LINES_BETWEEN_CHECKS) && cancel.is_cancelled() {
            return Ok(String::new());
        }
        if !lines.skip().map_err(failed)? {
            return Err(beyond(passed));
        }
    }
    let shown = Shown::read(&mut lines, range).map_err(failed)?;
    if shown.lines.is_empty() && range.first > 1 {
        return Err(beyond(range.first - 1));
    }
    Ok(shown.render(path, range))
}

struct Shown {
    lines: Vec<String>,
    /// There is more in the range.
    more: bool,
}

impl Shown {
    fn read(lines: &mut Lines, range: Range) -> std::io::Result<Self> {
        let mut shown = Self { lines: Vec::new(), more: false };
        let mut bytes = 0;
        let wanted = range.last.map_or(u64::MAX, |last| last - range.first + 1);
        let mut number = range.first;
        while shown.lines.len() < MAX_LINES && (shown.lines.len() as u64) < wanted {
            let Some(line) = lines.next()? else { return Ok(shown) };
            let line = format!("{number:3}: {}", cut_line(&line));
            bytes += line.len() + 1;
            if bytes > MAX_BYTES {
                shown.more = true;
                return Ok(shown);
            }
            shown.lines.push(line);
            number += 1;
        }
        shown.more = (shown.lines.len() as u64) < wanted && lines.skip()?;
        Ok(shown)
    }

    fn render(&self, path: &Path, range: Range) -> String {
        let path = path.display();
        if self.lines.is_empty() {
            return format!("File: {path} is empty");
        }
        let last = range.first + self.lines.len() as u64 - 1;
        let more = match range.last {
            _ if !self.more => String::new(),
            Some(end) => format!("; go on with view_range [{}, {end}]", last + 1),
            None => format!("; there is more: go on with view_range [{}, -1]", last + 1),
        };
        format!("File: {path} (lines {} to {last}{more})\n{}", range.first, self.lines.join("\n"))
    }
}
