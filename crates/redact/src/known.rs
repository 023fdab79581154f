//! The secret values this process knows, in every form in which text may carry them.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};

use crate::redactor::REDACTED;

/// A shorter value is found in ordinary words.
const MIN_CHARS: usize = 8;

/// The known values cannot be searched for.
#[derive(Debug, thiserror::Error)]
#[error("the known secrets are too many or too long")]
pub struct BuildError(#[from] aho_corasick::BuildError);

/// One automaton over all forms of all values.
#[derive(Default)]
pub(crate) struct Known(Option<AhoCorasick>);

impl Known {
    pub(crate) fn new<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> Result<Self, BuildError> {
        let mut patterns = Vec::new();
        for value in values {
            let value = value.as_ref();
            // A part of the placeholder could never go away.
            if value.chars().count() >= MIN_CHARS && !REDACTED.contains(value) {
                patterns.extend(forms(value));
            }
        }
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        Ok(Self(Some(AhoCorasick::new(patterns)?)))
    }

    /// All places, also overlapping ones.
    pub(crate) fn find(&self, text: &str) -> Vec<Range<usize>> {
        let Some(automaton) = &self.0 else { return Vec::new() };
        automaton.find_overlapping_iter(text).map(|found| found.range()).collect()
    }
}

/// As it is, inside a JSON string, and inside base64.
fn forms(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned()];
    let json = serde_json::Value::from(value).to_string();
    forms.push(json[1..json.len() - 1].to_owned());
    for engine in [BASE64_STANDARD, BASE64_URL_SAFE] {
        forms.push(engine.encode(value));
        forms.extend((0..3).map(|before| inside_base64(&engine, value, before)));
    }
    forms.sort_unstable();
    forms.dedup();
    forms
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
