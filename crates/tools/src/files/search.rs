//! `grep` and `glob`: searching a directory or a file.
//!
//! A search goes into hidden files, honours .gitignore, follows no links, and never opens a secret file that it was not
//! pointed at itself. It stops after [`TIME_LIMIT`].

use std::{
    path::Path,
    time::{Duration, Instant},
};

use globset::{GlobBuilder, GlobMatcher};
use ignore::WalkBuilder;
use regex::Regex;
use tokio_util::sync::CancellationToken;

use super::{
    path::is_secret,
    read::{self, Opened},
};
use crate::{
    error::ToolError,
    text::{MAX_BYTES, MAX_LINES, cut_line},
};

const TIME_LIMIT: Duration = Duration::from_secs(10);

/// What is searched for; at least one of them.
#[derive(Debug)]
pub(super) struct Patterns {
    pub(super) lines: Option<Regex>,
    names: Option<Names>,
}

#[derive(Debug)]
struct Names {
    matcher: GlobMatcher,
    /// A pattern with a slash means the path below the directory, one without a file's name.
    whole_path: bool,
}

impl Patterns {
    pub(super) fn read(grep: Option<&str>, glob: Option<&str>) -> Result<Option<Self>, ToolError> {
        let lines = grep.map(Regex::new).transpose().map_err(|error| {
            ToolError::new("INVALID_REGEX", format!("{error}. Write literal characters like ( or . with a backslash"))
        })?;
        let names = glob.map(Names::read).transpose()?;
        Ok((lines.is_some() || names.is_some()).then_some(Self { lines, names }))
    }
}

impl Names {
    fn read(pattern: &str) -> Result<Self, ToolError> {
        let glob = GlobBuilder::new(pattern)
            .literal_separator(true)
            .build()
            .map_err(|error| ToolError::new("INVALID_GLOB", format!("{error}. Write it like *.rs or src/**/*.toml")))?;
        Ok(Self { matcher: glob.compile_matcher(), whole_path: pattern.contains('/') })
    }

    fn matches(&self, below: &Path) -> bool {
        let name = if self.whole_path { Some(below.as_os_str()) } else { below.file_name() };
        name.is_some_and(|name| self.matcher.is_match(name))
    }
}

/// Goes through a directory: sorted, hidden files too, without `.git` and what is ignored.
pub(super) fn walker(directory: &Path) -> WalkBuilder {
    let mut builder = WalkBuilder::new(directory);
    builder
        .hidden(false)
        .require_git(false)
        .sort_by_file_name(std::cmp::Ord::cmp)
        .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != ".git");
    builder
}

/// Searches the files below a directory.
pub(super) fn directory(
    directory: &Path,
    patterns: &Patterns,
    cancel: &CancellationToken,
) -> Result<String, ToolError> {
    let mut found = Found::new(cancel);
    let secrets_wanted = is_secret(directory);
    for entry in
        walker(directory).build().flatten().filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
    {
        if found.is_over() {
            break;
        }
        let path = entry.path();
        let below = path.strip_prefix(directory).unwrap_or(path);
        if patterns.names.as_ref().is_some_and(|names| !names.matches(below)) {
            continue;
        }
        let Some(pattern) = &patterns.lines else {
            found.push(below.display().to_string());
            continue;
        };
        if !secrets_wanted && is_secret(path) {
            found.secrets += 1;
            continue;
        }
        // One file that cannot be read does not end a search.
        found.search(path, &format!("{}:", below.display()), pattern).ok();
    }
    Ok(found.render(directory))
}

/// Searches one file.
pub(super) fn file(path: &Path, pattern: &Regex, cancel: &CancellationToken) -> Result<String, ToolError> {
    let mut found = Found::new(cancel);
    found.search(path, "", pattern)?;
    Ok(found.render(path))
}

struct Found<'a> {
    lines: Vec<String>,
    bytes: usize,
    secrets: usize,
    full: bool,
    started: Instant,
    cancel: &'a CancellationToken,
}

impl<'a> Found<'a> {
    fn new(cancel: &'a CancellationToken) -> Self {
        Self { lines: Vec::new(), bytes: 0, secrets: 0, full: false, started: Instant::now(), cancel }
    }

    fn is_late(&self) -> bool {
        self.started.elapsed() > TIME_LIMIT
    }

    fn is_over(&self) -> bool {
        self.full || self.is_late() || self.cancel.is_cancelled()
    }

    fn push(&mut self, line: String) {
        self.full = self.lines.len() == MAX_LINES || self.bytes + line.len() > MAX_BYTES;
        if !self.full {
            self.bytes += line.len() + 1;
            self.lines.push(line);
        }
    }

    fn search(&mut self, path: &Path, prefix: &str, pattern: &Regex) -> Result<(), ToolError> {
        let Opened::Text(mut lines) = read::open(path)? else { return Ok(()) };
        let mut number = 0_u64;
        while let Some(line) = lines.next().map_err(|error| super::unreadable(path, &error))? {
            number += 1;
            if pattern.is_match(&line) {
                self.push(format!("{prefix}{number}: {}", cut_line(&line)));
            }
            if self.full || (number.is_multiple_of(1024) && self.is_over()) {
                break;
            }
        }
        Ok(())
    }

    fn render(&self, place: &Path) -> String {
        let mut text = vec![match self.lines.len() {
            0 => format!("Nothing found in {}", place.display()),
            found => format!("{found} found in {}", place.display()),
        }];
        text.extend(self.lines.iter().cloned());
        if self.full {
            text.push("[There is more: narrow the search down]".to_owned());
        } else if self.is_late() {
            text.push(format!("[Stopped after {} seconds: search a smaller directory]", TIME_LIMIT.as_secs()));
        }
        if self.secrets > 0 {
            text.push(format!(
                "[{} files that may hold secrets were not searched: name one as the path to search it]",
                self.secrets
            ));
        }
        text.join("\n")
    }
}
