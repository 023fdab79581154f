//! Secret values that are known, in every form in which text may carry them.

use std::ops::Range;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};

use crate::{redactor::REDACTED, rules::is_part_of_token};

/// A shorter value is found in ordinary words.
pub(crate) const MIN_CHARS: usize = 8;
/// Of a longer value, such as a key block, only the forms of the text itself are searched.
const LONGEST_ENCODED: usize = 1024;

/// Bytes of all forms; more would be no secrets but files.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// The known values cannot be searched for.
#[derive(Debug, thiserror::Error)]
#[error("the known secrets are too many or too long")]
pub struct BuildError;

/// All forms of all values.
///
/// Nearly all places of a text are passed by a look at one bit, and what the values are does not matter for the time.
#[derive(Default)]
pub(crate) struct Known {
    /// In order.
    forms: Vec<Form>,
    beginnings: Beginnings,
    /// In order, the forms that hold what is no part of a token, such as a blank: a stream does not wait for their end by itself.
    loose: Vec<String>,
    /// The longest of those.
    longest: usize,
}

struct Form {
    text: String,
    /// The number of the value that it is a form of.
    owner: usize,
    /// The longest other form with which this one begins.
    within: Option<usize>,
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
        let mut found: Vec<(String, usize)> = Vec::new();
        for (number, value, extent) in values {
            let value = value.as_ref();
            // A part of the placeholder could never go away.
            if value.chars().count() < MIN_CHARS || REDACTED.contains(value) || "[REDACTED_SECRET:".contains(value) {
                continue;
            }
            match extent {
                Extent::Exact => found.push((value.to_owned(), number)),
                Extent::Every => found.extend(forms(value).into_iter().map(|form| (form, number))),
            }
        }
        if found.iter().map(|(form, _)| form.len()).sum::<usize>() > MOST_BYTES {
            return Err(BuildError);
        }
        found.sort_unstable();
        let is_loose = |form: &&(String, usize)| !form.0.bytes().all(is_part_of_token);
        let loose: Vec<String> = found.iter().filter(is_loose).map(|(form, _)| form.clone()).collect();
        let longest = loose.iter().map(String::len).max().unwrap_or_default();
        let beginnings = Beginnings::of(found.iter().map(|(form, _)| form.as_str()));
        Ok(Self { forms: nested(found), beginnings, loose, longest })
    }

    /// All places, also overlapping ones, with the number of the value.
    pub(crate) fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (Range<usize>, usize)> + 't {
        self.beginnings.places(text.as_bytes()).flat_map(move |at| {
            let rest = &text.as_bytes()[at..];
            let behind = self.forms.partition_point(|form| form.text.as_bytes() <= rest);
            // What `rest` begins with is either the form before it in the order, or one that this form begins with.
            let nearest = behind.checked_sub(1);
            let nested = std::iter::successors(nearest, |number| self.forms[*number].within);
            let begins = nested.map(|number| &self.forms[number]).filter(|form| rest.starts_with(form.text.as_bytes()));
            begins.map(move |form| (at..at + form.text.len(), form.owner))
        })
    }

    /// Where a loose form begins of which `text` ends within.
    pub(crate) fn begun(&self, text: &str) -> Option<usize> {
        let text = text.as_bytes();
        (text.len().saturating_sub(self.longest)..text.len()).find(|at| {
            let end = &text[*at..];
            let first = self.loose.partition_point(|form| form.as_bytes() < end);
            self.loose.get(first).is_some_and(|form| form.as_bytes().starts_with(end))
        })
    }
}

fn nested(sorted: Vec<(String, usize)>) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::with_capacity(sorted.len());
    for (text, owner) in sorted {
        let before = forms.len().checked_sub(1);
        let mut around = std::iter::successors(before, |number| forms[*number].within);
        let within = around.find(|number| text.starts_with(&forms[*number].text));
        forms.push(Form { text, owner, within });
    }
    forms
}

/// Which bytes forms begin with, as two bits of a word for each (a blocked Bloom filter): no form is missed, and few places
/// are looked at for nothing.
#[derive(Default)]
struct Beginnings(Vec<u64>);

/// No form is shorter.
const BEGINNING: usize = MIN_CHARS;

impl Beginnings {
    fn of<'f>(forms: impl ExactSizeIterator<Item = &'f str>) -> Self {
        if forms.len() == 0 {
            return Self::default();
        }
        let mut beginnings = Self(vec![0; (forms.len() * 2).next_power_of_two()]);
        for beginning in forms.filter_map(|form| form.as_bytes().first_chunk()) {
            let (word, bits) = beginnings.place(*beginning);
            beginnings.0[word] |= bits;
        }
        beginnings
    }

    /// Where forms may begin.
    fn places(&self, text: &[u8]) -> impl Iterator<Item = usize> {
        let text = if self.0.is_empty() { &[] } else { text };
        let windows = text.windows(BEGINNING).enumerate();
        windows.filter_map(|(at, window)| {
            let (word, bits) = self.place(*window.first_chunk()?);
            (self.0[word] & bits == bits).then_some(at)
        })
    }

    /// The upper bits of a product depend on all of its factor (Fibonacci hashing).
    fn place(&self, beginning: [u8; BEGINNING]) -> (usize, u64) {
        let product = u64::from_le_bytes(beginning).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = product ^ (product >> 32);
        let bits = (1 << (hash & 63)) | (1 << ((product >> 58) & 63));
        let word = (hash >> 6) as usize & (self.0.len() - 1);
        (word, bits)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_within_values_are_all_found() {
        let values = ["abcdefgh", "abcdefghij", "abcdefghijkl!", "abcdefghzz", "bcdefghij"];
        let known =
            Known::numbered(values.iter().enumerate().map(|(number, value)| (number, value, Extent::Exact))).unwrap();
        let find = |text: &str| {
            let mut found: Vec<_> = known.find(text).map(|(range, number)| (range.start, values[number])).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(find("xabcdefghijkl"), [(1, "abcdefgh"), (1, "abcdefghij"), (2, "bcdefghij")]);
        assert_eq!(find("abcdefghzz"), [(0, "abcdefgh"), (0, "abcdefghzz")]);
        assert_eq!(find("abcdefghijkl!"), [(0, "abcdefgh"), (0, "abcdefghij"), (0, "abcdefghijkl!"), (1, "bcdefghij")]);
        assert_eq!(find("abcdefg abcdefi"), []);
        assert_eq!(Known::default().find("abcdefgh").count(), 0);
    }
}
