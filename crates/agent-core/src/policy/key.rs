//! Keys of rules: `tool`, `server__*`, `tool::glob`, `scope::command::segment…`, and what their segments match.
//!
//! A pattern that does not compile counts as matching where the rule asks or denies, and never where it approves.

use globset::{GlobBuilder, GlobMatcher};
use regex::{Regex, RegexBuilder};
use stakpak_protocol::Approval;

use super::OWN_PREFIX;

/// Tools that run a command line: their rules go down to commands and arguments.
pub(super) const SCOPES: [&str; 4] =
    ["run_command", "run_command_task", "run_remote_command", "run_remote_command_task"];

/// Largest compiled pattern.
const MOST_PATTERN_BYTES: usize = 1 << 20;

/// A key that cannot be a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing before the first `::`, or between two.
    #[error("{0:?} has an empty part; write tool, server__*, or run_command::program::argument")]
    Empty(String),
    /// A pattern that does not compile.
    #[error("{key:?}: the pattern {pattern:?} is invalid: {why}")]
    Pattern {
        /// The whole key.
        key: String,
        /// The segment.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The name with its server: one without a prefix is the product's own. Of a longer key, its first part.
#[must_use]
pub fn full_name(key: &str) -> String {
    let tool = key.split("::").next().unwrap_or(key);
    if tool.contains("__") { key.to_owned() } else { format!("{OWN_PREFIX}{key}") }
}

/// Whether the key can be a rule.
///
/// # Errors
/// What is wrong with it.
pub fn check_key(key: &str) -> Result<(), KeyError> {
    let parts: Vec<&str> = key.trim().split("::").collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(KeyError::Empty(key.to_owned()));
    }
    for pattern in &parts[1..] {
        if let Segment::Invalid { why } = Segment::read(pattern) {
            return Err(KeyError::Pattern { key: key.to_owned(), pattern: (*pattern).to_owned(), why });
        }
    }
    Ok(())
}

/// One rule, ready to match.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    /// As it is written, with the server's prefix.
    pub(super) key: &'a str,
    pub(super) action: Approval,
    /// What follows the tool's name.
    pub(super) segments: Vec<Segment>,
}

impl<'a> Rule<'a> {
    /// The rule, if it is one of this tool.
    pub(super) fn of(tool: &str, key: &'a str, action: Approval) -> Option<Self> {
        let mut parts = key.split("::");
        (parts.next() == Some(tool)).then(|| Self { key, action, segments: parts.map(Segment::read).collect() })
    }

    /// Whether what cannot be decided counts as matching.
    pub(super) fn restricts(&self) -> bool {
        self.action != Approval::Auto
    }

    /// The key as people write it.
    pub(super) fn shown(&self) -> &str {
        self.key.strip_prefix(OWN_PREFIX).unwrap_or(self.key)
    }
}

/// What one argument must be.
#[derive(Debug)]
pub(super) enum Segment {
    Exact(String),
    /// `*` crosses `/`.
    Glob {
        pattern: String,
        matcher: GlobMatcher,
    },
    /// Not anchored.
    Regex(Regex),
    Invalid {
        why: String,
    },
}

impl Segment {
    fn read(text: &str) -> Self {
        if let Some(pattern) = text.strip_prefix("re:") {
            return match RegexBuilder::new(pattern).size_limit(MOST_PATTERN_BYTES).build() {
                Ok(regex) => Self::Regex(regex),
                Err(error) => Self::Invalid { why: error.to_string() },
            };
        }
        if !text.contains(['*', '?', '[']) {
            return Self::Exact(text.to_owned());
        }
        match GlobBuilder::new(text).literal_separator(false).backslash_escape(true).build() {
            Ok(glob) => Self::Glob { pattern: text.to_owned(), matcher: glob.compile_matcher() },
            Err(error) => Self::Invalid { why: error.kind().to_string() },
        }
    }

    /// Whether the text is what the segment means; one that does not compile matches what is restricted.
    pub(super) fn matches(&self, text: &str, restricts: bool) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Glob { matcher, .. } => matcher.is_match(text),
            Self::Regex(regex) => regex.is_match(text),
            Self::Invalid { .. } => restricts,
        }
    }

    /// The option it names, if it is one.
    pub(super) fn option(&self) -> Option<&str> {
        match self {
            Self::Exact(text) if text.starts_with('-') && text.len() > 1 => Some(text),
            _ => None,
        }
    }

    /// Whether it names a path.
    pub(super) fn has_slash(&self) -> bool {
        match self {
            Self::Exact(text) | Self::Glob { pattern: text, .. } => text.contains('/'),
            Self::Regex(regex) => regex.as_str().contains('/'),
            Self::Invalid { .. } => false,
        }
    }
}
