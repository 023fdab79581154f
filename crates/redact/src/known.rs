//! Secret values that are known, in every form in which text may carry them.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};

use crate::{redactor::REDACTED, rules::is_part_of_token};

/// A shorter value is found in ordinary words.
pub(crate) const MIN_CHARS: usize = 8;
/// Of a longer value, such as a key block, only the forms of the text itself are searched.
const LONGEST_ENCODED: usize = 1024;

/// The known values cannot be searched for.
#[derive(Debug, thiserror::Error)]
#[error("the known secrets are too many or too long")]
pub struct BuildError(#[from] pub(crate) aho_corasick::BuildError);

/// One automaton over all forms of all values.
#[derive(Default)]
pub(crate) struct Known(Option<Forms>);

struct Forms {
    automaton: AhoCorasick,
    /// The number of the value that each form is one of.
    owners: Vec<usize>,
    /// In order, the forms that hold what is no part of a token, such as a blank: a stream does not wait for their end by itself.
    loose: Vec<String>,
    /// The longest of those.
    longest: usize,
}

/// How many forms of a value are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The value alone.
    Exact,
    /// All forms.
    Every,
}

impl Known {
    pub(crate) fn new<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> Result<Self, BuildError> {
        Self::numbered(values.into_iter().enumerate().map(|(number, value)| (number, value, Extent::Every)))
    }

    pub(crate) fn numbered<S: AsRef<str>>(
        values: impl IntoIterator<Item = (usize, S, Extent)>,
    ) -> Result<Self, BuildError> {
        let (mut patterns, mut owners) = (Vec::new(), Vec::new());
        for (number, value, extent) in values {
            let value = value.as_ref();
            // A part of the placeholder could never go away.
            if value.chars().count() < MIN_CHARS || REDACTED.contains(value) || "[REDACTED_SECRET:".contains(value) {
                continue;
            }
            match extent {
                Extent::Exact => patterns.push(value.to_owned()),
                Extent::Every => patterns.extend(forms(value)),
            }
            owners.resize(patterns.len(), number);
        }
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        let automaton = AhoCorasick::new(&patterns)?;
        patterns.retain(|form| !form.bytes().all(is_part_of_token));
        patterns.sort_unstable();
        let longest = patterns.iter().map(String::len).max().unwrap_or_default();
        Ok(Self(Some(Forms { automaton, owners, loose: patterns, longest })))
    }

    /// All places, also overlapping ones, with the number of the value.
    pub(crate) fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (Range<usize>, usize)> + 't {
        let forms = self.0.iter();
        forms.flat_map(move |Forms { automaton, owners, .. }| {
            automaton.find_overlapping_iter(text).map(|found| (found.range(), owners[found.pattern().as_usize()]))
        })
    }

    /// Where a loose form begins of which `text` ends within.
    pub(crate) fn begun(&self, text: &str) -> Option<usize> {
        let Forms { loose, longest, .. } = self.0.as_ref()?;
        let text = text.as_bytes();
        (text.len().saturating_sub(*longest)..text.len()).find(|at| {
            let end = &text[*at..];
            let first = loose.partition_point(|form| form.as_bytes() < end);
            loose.get(first).is_some_and(|form| form.as_bytes().starts_with(end))
        })
    }
}

/// As it is; inside JSON, HTML and a URL; in base64 and in hexadecimal digits.
fn forms(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned()];
    let json = serde_json::Value::from(value).to_string();
    let json = json[1..json.len() - 1].to_owned();
    // Some writers escape what HTML knows, too.
    forms.push(json.replace('/', "\\/"));
    forms.push(json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e"));
    forms.push(json);
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    forms.push(html.replace('"', "&quot;"));
    forms.push(html);
    if value.len() <= LONGEST_ENCODED {
        for stays in ["-_.~", "-_.!~*'()", "-_.*"] {
            let url = percent_encoded(value, stays);
            forms.push(url.replace("%20", "+"));
            forms.push(lower_escapes(&url));
            forms.push(url);
        }
        for engine in [BASE64_STANDARD, BASE64_URL_SAFE] {
            forms.push(engine.encode(value));
            forms.extend((0..3).map(|before| inside_base64(&engine, value, before)));
        }
        forms.push(value.bytes().map(|byte| format!("{byte:02x}")).collect());
        forms.push(value.bytes().map(|byte| format!("{byte:02X}")).collect());
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// Letters, digits and `stays` as they are, everything else as `%XX`.
fn percent_encoded(value: &str, stays: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || stays.contains(c) {
            encoded.push(c);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn lower_escapes(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        lower.push('%');
        lower.push_str(&digits.to_ascii_lowercase());
        lower.push_str(rest);
    }
    lower
}

/// The characters that stand for `value` alone when it is encoded after `before` other bytes (modulo 3) and
/// before any others: those that share bits with a neighbour are left out.
fn inside_base64(engine: &base64::engine::GeneralPurpose, value: &str, before: usize) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(value.as_bytes());
    let first = (before * 8).div_ceil(6);
    let end = bytes.len() * 8 / 6;
    engine.encode(bytes)[first..end].to_owned()
}
