//! `str_replace`: one text for another in a file.
//!
//! An exact match first. Without one, characters that models tend to write for typographic quotes, dashes and blanks are
//! taken for them. More than one match is refused unless all are meant. The old version is kept before the new one is there.

use std::{
    fs::{self, Metadata},
    io, iter,
    ops::Range,
    path::{Path, PathBuf},
};

use regex::Regex;

use super::{
    diff,
    nearest::nearest,
    remove::{Bin, keep},
    unreadable, write,
};
use crate::{arguments::StrReplace, error::ToolError};

/// Larger files are no matter for a text editor.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// So many places are named.
const MAX_PLACES: usize = 20;

/// What stands for each other.
const LOOKALIKES: [&str; 4] =
    ["'‘’‚‛′", "\"“”„‟″", "-‐‑‒–—―−", " \u{a0}\u{2002}\u{2003}\u{2007}\u{2009}\u{200a}\u{202f}\u{3000}"];

/// What a call comes to, before anything is written.
pub(super) struct Plan {
    target: PathBuf,
    metadata: Metadata,
    text: String,
    /// What the file will hold.
    pub(super) changed: String,
    places: usize,
    exact: bool,
}

pub(crate) fn str_replace(arguments: &StrReplace, path: &Path, bin: &Bin) -> Result<String, ToolError> {
    let Plan { target, metadata, text, changed, places, exact } = plan(arguments, path)?;
    keep(&target, &text, bin).map_err(|error| {
        ToolError::new("BACKUP_ERROR", format!("{} was not changed: its old version: {error}", path.display()))
    })?;
    write::replace(&target, changed.as_bytes(), &metadata)
        .map_err(|error| ToolError::new("WRITE_ERROR", format!("{} was not changed: {error}", path.display())))?;
    let how = if exact { "" } else { " (typographic characters taken for plain ones)" };
    let places = if places == 1 { "1 place".to_owned() } else { format!("{places} places") };
    Ok(format!("Changed {} in {places}{how}\n{}", path.display(), diff::unified(path, &text, &changed)))
}

pub(super) fn plan(arguments: &StrReplace, path: &Path) -> Result<Plan, ToolError> {
    if arguments.old_str == arguments.new_str {
        let message = "old_str and new_str are the same: nothing would change";
        return Err(ToolError::new("OLD_STR_NEW_STR_IDENTICAL", message));
    }
    let failed = |error: io::Error| unreadable(path, &error);
    // The file behind a link is changed, the link stays.
    let target = path.canonicalize().map_err(failed)?;
    let metadata = target.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        let message = format!("{} is no regular file of at most {MAX_FILE} bytes", path.display());
        return Err(ToolError::new("READ_ERROR", message));
    }
    let text = String::from_utf8(fs::read(&target).map_err(failed)?)
        .map_err(|_| ToolError::new("READ_ERROR", format!("{} is not UTF-8 text", path.display())))?;

    let (old, new) = with_line_ends_of(&text, &arguments.old_str, &arguments.new_str);
    let all = arguments.replace_all.unwrap_or(false);
    let (matches, exact) = matches(&text, &old, !all);
    if matches.is_empty() {
        return Err(not_found(path, &text, &old));
    }
    if matches.len() > 1 && !all {
        return Err(not_unique(path, &text, &matches));
    }
    let changed = replaced(&text, &matches, &new);
    Ok(Plan { target, metadata, text, changed, places: matches.len(), exact })
}

/// Models write `\n`; a file with `\r\n` keeps that.
fn with_line_ends_of(text: &str, old: &str, new: &str) -> (String, String) {
    if text.contains("\r\n") && !old.contains('\r') && !text.contains(old) {
        return (old.replace('\n', "\r\n"), new.replace("\r\n", "\n").replace('\n', "\r\n"));
    }
    (old.to_owned(), new.to_owned())
}

/// Where the text is, and whether exactly so. With `overlapping`, a place inside another counts: it is as likely meant.
fn matches(text: &str, old: &str, overlapping: bool) -> (Vec<Range<usize>>, bool) {
    let step = if overlapping { old.chars().next().map_or(1, char::len_utf8) } else { old.len() };
    let next = |from: usize| text[from..].find(old).map(|at| from + at);
    let exact: Vec<_> = iter::successors(next(0), |at| next(at + step)).map(|at| at..at + old.len()).collect();
    if !exact.is_empty() {
        return (exact, true);
    }
    // A text too long for a pattern has no lookalikes.
    let lookalikes = lookalikes(old).map(|pattern| pattern.find_iter(text).map(|found| found.range()).collect());
    (lookalikes.unwrap_or_default(), false)
}

fn lookalikes(old: &str) -> Option<Regex> {
    let pattern: String = old
        .chars()
        .map(|c| match LOOKALIKES.into_iter().find(|class| class.contains(c)) {
            Some(class) => format!("[{}]", regex::escape(class)),
            None => regex::escape(c.encode_utf8(&mut [0; 4])),
        })
        .collect();
    Regex::new(&pattern).ok()
}

fn replaced(text: &str, matches: &[Range<usize>], new: &str) -> String {
    let mut changed = String::with_capacity(text.len());
    let mut from = 0;
    for place in matches {
        changed.push_str(&text[from..place.start]);
        changed.push_str(new);
        from = place.end;
    }
    changed.push_str(&text[from..]);
    changed
}

fn not_found(path: &Path, text: &str, old: &str) -> ToolError {
    let hint = match nearest(text, old) {
        Some(lines) => format!("The nearest place is\n{lines}\nCopy the text exactly, without line numbers"),
        None => "Nothing in it is like it: view the file first".to_owned(),
    };
    ToolError::new("STRING_NOT_FOUND", format!("old_str is not in {}. {hint}", path.display()))
}

fn not_unique(path: &Path, text: &str, matches: &[Range<usize>]) -> ToolError {
    let line = |place: &Range<usize>| (text[..place.start].matches('\n').count() + 1).to_string();
    let lines: Vec<String> = matches.iter().take(MAX_PLACES).map(line).collect();
    let more = if matches.len() > MAX_PLACES { " and more" } else { "" };
    let message = format!(
        "old_str is {} times in {}, at lines {}{more}. Nothing was changed: give more lines around the one that is meant, or set replace_all",
        matches.len(),
        path.display(),
        lines.join(", ")
    );
    ToolError::new("STRING_NOT_UNIQUE", message)
}
