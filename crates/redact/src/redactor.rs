//! Finding and replacing.
//!
//! Invariants: text without a finding is returned as it is, without a copy; a known value does not survive in any of
//! its forms; redacting twice is redacting once. For the last, known values go first: what they leave behind
//! may begin a token that was glued to them before.

use std::{borrow::Cow, fmt, ops::Range, sync::Arc};

use crate::{
    known::{BuildError, Known},
    rules,
};

/// What stands in place of a secret.
pub const REDACTED: &str = "[REDACTED]";

/// Replaces secrets in text. A clone shares everything with its original.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<Known>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

/// One pass finds all but secrets that stand end to end; a few find those.
const MOST_PASSES: usize = 16;

impl Redactor {
    /// A redactor that knows these secret values besides the rules. Values shorter than 8 characters are not
    /// searched: they would take ordinary words away.
    ///
    /// # Errors
    /// The values are too many or too long to be searched for.
    pub fn new<S: AsRef<str>>(known: impl IntoIterator<Item = S>) -> Result<Self, BuildError> {
        Ok(Self { known: Arc::new(Known::new(known)?) })
    }

    /// `text` with each secret replaced by [`REDACTED`].
    ///
    /// What stands right behind a secret may hide its end from a rule until it is replaced itself, so the search is
    /// repeated until nothing is found, a few times at most.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut redacted = Cow::Borrowed(text);
        for _ in 0..MOST_PASSES {
            match self.redact_once(&redacted) {
                Some(next) => redacted = Cow::Owned(next),
                None => break,
            }
        }
        redacted
    }

    fn redact_once(&self, text: &str) -> Option<String> {
        match replace(text, self.known.find(text)) {
            None => replace(text, rules::find(text)),
            Some(partly) => Some(replace(&partly, rules::find(&partly)).unwrap_or(partly)),
        }
    }
}

/// Replaces the union of `spans`: where secrets overlap, no part of either may stay.
fn replace(text: &str, mut spans: Vec<Range<usize>>) -> Option<String> {
    if spans.is_empty() {
        return None;
    }
    spans.sort_unstable_by_key(|span| span.start);
    let mut replaced = String::with_capacity(text.len());
    let mut copied = 0;
    let mut spans = spans.into_iter().peekable();
    while let Some(mut span) = spans.next() {
        while let Some(overlapping) = spans.next_if(|next| next.start < span.end) {
            span.end = span.end.max(overlapping.end);
        }
        replaced.push_str(&text[copied..span.start]);
        replaced.push_str(REDACTED);
        copied = span.end;
    }
    replaced.push_str(&text[copied..]);
    Some(replaced)
}
