//! Finding and replacing.
//!
//! Invariants: text without a finding is returned as it is, without a copy; a known value does not survive in any of
//! its forms; redacting twice is redacting once; a placeholder that stands in the text stays as it is.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    known::{BuildError, Known},
    placeholder::placeholders,
    rules::{CustomRule, RuleError, Rules},
};

/// What stands in place of a secret.
pub const REDACTED: &str = "[REDACTED]";

/// Replaces secrets in text. A clone shares everything with its original, also what is learned later.
#[derive(Clone)]
pub struct Redactor {
    /// One for each time that values were learned; none is forgotten.
    known: Arc<RwLock<Vec<Arc<Learned>>>>,
    rules: Arc<Rules>,
    /// Those of `rules` that are no part of the product.
    custom: Arc<[CustomRule]>,
    ignored: Arc<HashSet<[u8; 32]>>,
}

/// Values that were learned at once.
struct Learned {
    known: Known,
    values: Vec<Zeroizing<String>>,
}

/// A redactor on its way to another process: it holds the secrets themselves, so it goes through a pipe and into no file.
#[derive(Default, Serialize, Deserialize)]
pub struct PortableRedactor {
    values: Vec<Zeroizing<String>>,
    custom: Vec<CustomRule>,
    ignored: Vec<[u8; 32]>,
}

impl fmt::Debug for PortableRedactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PortableRedactor")
    }
}

impl Default for Redactor {
    fn default() -> Self {
        Self { known: Arc::default(), rules: Rules::built_in(), custom: Arc::default(), ignored: Arc::default() }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

/// One pass finds all but secrets that stand end to end; a few find those.
const MOST_PASSES: usize = 16;

/// A place that must not stay.
pub(crate) struct Span {
    pub(crate) range: Range<usize>,
    pub(crate) origin: Origin,
}

/// Who says so.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The process knows the value: it never has a placeholder of its own.
    Process,
    /// The session has met this value, by its number.
    Session(usize),
    /// A rule, by its id; blocks may hold placeholders.
    Rule { id: Arc<str>, is_block: bool },
}

/// What else is known, and what stands in place of a secret.
pub(crate) trait Naming {
    /// Values that this text may hold besides those of the process.
    fn find(&self, text: &str) -> Vec<(Range<usize>, usize)>;

    /// Where such a value begins of which this text ends within.
    fn begun(&self, text: &str) -> Option<usize>;

    /// What stands in place of `secret`.
    fn name(&mut self, secret: &str, origin: &Origin) -> Cow<'static, str>;
}

/// Nothing else, and one word for all.
pub(crate) struct Nameless;

impl Naming for Nameless {
    fn find(&self, _: &str) -> Vec<(Range<usize>, usize)> {
        Vec::new()
    }

    fn begun(&self, _: &str) -> Option<usize> {
        None
    }

    fn name(&mut self, _: &str, _: &Origin) -> Cow<'static, str> {
        REDACTED.into()
    }
}

impl Redactor {
    /// A redactor that knows these secret values besides the rules. Values shorter than 8 characters are not
    /// searched: they would take ordinary words away.
    ///
    /// # Errors
    /// The values are too many or too long to be searched for.
    pub fn new<S: AsRef<str>>(known: impl IntoIterator<Item = S>) -> Result<Self, BuildError> {
        let redactor = Self::default();
        redactor.learn(known)?;
        Ok(redactor)
    }

    /// From now on it and its clones know these values too.
    ///
    /// # Errors
    /// The values are too many or too long to be searched for.
    pub fn learn<S: AsRef<str>>(&self, values: impl IntoIterator<Item = S>) -> Result<(), BuildError> {
        let found = self.known();
        let is_new = |value: &S| {
            let value = value.as_ref();
            !found.iter().any(|learned| learned.known.find(value).any(|(range, _)| range == (0..value.len())))
        };
        let new: Vec<S> = values.into_iter().filter(is_new).collect();
        if !new.is_empty() {
            let values = new.iter().map(|value| Zeroizing::new(value.as_ref().to_owned())).collect();
            let learned = Arc::new(Learned { known: Known::new(new)?, values });
            self.known.write().unwrap_or_else(PoisonError::into_inner).push(learned);
        }
        Ok(())
    }

    /// What it knows by now, for another process of the product that redacts in this one's place.
    #[must_use]
    pub fn portable(&self) -> PortableRedactor {
        PortableRedactor {
            values: self.known().iter().flat_map(|learned| learned.values.clone()).collect(),
            custom: self.custom.to_vec(),
            ignored: self.ignored.iter().copied().collect(),
        }
    }

    /// The same redactor in another process.
    ///
    /// # Errors
    /// It was no redactor.
    pub fn from_portable(portable: PortableRedactor) -> Result<Self, RuleError> {
        let PortableRedactor { values, custom, ignored } = portable;
        let redactor = Self::new(values.iter().map(|value| value.as_str()))?;
        Ok(redactor.with_rules(&custom)?.ignoring(ignored))
    }

    fn known(&self) -> Vec<Arc<Learned>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same with further rules.
    ///
    /// # Errors
    /// A rule cannot be used; it is named.
    pub fn with_rules(self, rules: &[CustomRule]) -> Result<Self, RuleError> {
        if rules.is_empty() {
            return Ok(self);
        }
        Ok(Self { rules: Arc::new(Rules::new(rules)?), custom: rules.into(), ..self })
    }

    /// The same, but what rules find and has one of these SHA-256 digests is no secret. Known values stay secret.
    #[must_use]
    pub fn ignoring(self, digests: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self { ignored: Arc::new(digests.into_iter().collect()), ..self }
    }

    /// `text` with each secret replaced by [`REDACTED`].
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.replace(text, &mut Nameless)
    }

    /// Whether there is anything to replace.
    pub(crate) fn is_clean(&self, text: &str, naming: &dyn Naming) -> bool {
        self.spans(text, naming).is_empty()
    }

    /// Where a known value begins of which this text ends within.
    pub(crate) fn begun(&self, text: &str, naming: &dyn Naming) -> Option<usize> {
        let known = self.known();
        known.iter().filter_map(|learned| learned.known.begun(text)).chain(naming.begun(text)).min()
    }

    /// Whether a rule may find something in what follows this text.
    pub(crate) fn has_keyword(&self, text: &str) -> bool {
        self.rules.has_keyword(text)
    }

    /// What stands right behind a secret may hide its end from a rule until it is replaced itself, so the search is
    /// repeated until nothing is found, a few times at most.
    pub(crate) fn replace<'t>(&self, text: &'t str, naming: &mut dyn Naming) -> Cow<'t, str> {
        let mut redacted = Cow::Borrowed(text);
        for _ in 0..MOST_PASSES {
            let spans = self.spans(&redacted, naming);
            if spans.is_empty() {
                break;
            }
            redacted = Cow::Owned(replace(&redacted, &spans, naming));
        }
        redacted
    }

    /// What must not stay, in order, without overlaps: where secrets overlap, no part of either may stay, and the longest
    /// one names both.
    pub(crate) fn spans(&self, text: &str, naming: &dyn Naming) -> Vec<Span> {
        let known = self.known();
        let of_process = known.iter().flat_map(|learned| learned.known.find(text));
        let of_process = of_process.map(|(range, _)| Span { range, origin: Origin::Process });
        let of_session =
            naming.find(text).into_iter().map(|(range, number)| Span { range, origin: Origin::Session(number) });
        let of_rules = self.rules.find(text).into_iter().filter(|found| !self.is_ignored(&text[found.range.clone()]));
        let of_rules = of_rules.map(|found| Span {
            range: found.range,
            origin: Origin::Rule { id: found.rule, is_block: found.is_block },
        });
        let mut spans: Vec<Span> = of_process.chain(of_session).chain(of_rules).collect();
        if spans.is_empty() {
            return spans;
        }
        without_placeholders(text, &mut spans);
        // Stable: of equal ones the first rule's stays first.
        spans.sort_by_key(|span| span.range.start);
        merge(spans)
    }

    fn is_ignored(&self, secret: &str) -> bool {
        !self.ignored.is_empty() && self.ignored.contains::<[u8; 32]>(&Sha256::digest(secret).into())
    }
}

/// What is in a placeholder, or would tear one, stays; a block around one does not.
fn without_placeholders(text: &str, spans: &mut Vec<Span>) {
    let marks = text.match_indices(REDACTED).map(|(start, mark)| start..start + mark.len());
    let mut taken: Vec<Range<usize>> = placeholders(text).map(|placeholder| placeholder.range).chain(marks).collect();
    if taken.is_empty() {
        return;
    }
    taken.sort_unstable_by_key(|range| range.start);
    spans.retain(|span| {
        let first = taken.partition_point(|range| range.end <= span.range.start);
        let Some(range) = taken.get(first).filter(|range| range.start < span.range.end) else { return true };
        let is_block = matches!(span.origin, Origin::Rule { is_block: true, .. });
        is_block && span.range.start < range.start
    });
}

fn merge(spans: Vec<Span>) -> Vec<Span> {
    let mut merged: Vec<(Span, usize)> = Vec::with_capacity(spans.len());
    for span in spans {
        let length = span.range.len();
        match merged.last_mut().filter(|(last, _)| span.range.start < last.range.end) {
            None => merged.push((span, length)),
            Some((last, longest)) => {
                last.range.end = last.range.end.max(span.range.end);
                // What the process knows is never kept, not even as a part of something else.
                if last.origin != Origin::Process && (length > *longest || span.origin == Origin::Process) {
                    (last.origin, *longest) = (span.origin, length);
                }
            }
        }
    }
    merged.into_iter().map(|(span, _)| span).collect()
}

fn replace(text: &str, spans: &[Span], naming: &mut dyn Naming) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut copied = 0;
    for span in spans {
        replaced.push_str(&text[copied..span.range.start]);
        replaced.push_str(&naming.name(&text[span.range.clone()], &span.origin));
        copied = span.range.end;
    }
    replaced.push_str(&text[copied..]);
    replaced
}
