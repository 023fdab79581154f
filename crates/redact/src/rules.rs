//! Finding by rules: what has the shape of a secret, or stands where one stands.
//!
//! Invariants: one pass over the text finds the keywords of all rules; an expression is compiled at its first keyword and sees
//! only the text around it, each part once. So the time is linear in the text, whatever it is.

mod check;
mod table;

use std::{
    ops::Range,
    sync::{Arc, LazyLock, OnceLock},
};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use check::{Check, entropy};
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// How far from its keyword a rule looks in a line.
const REACH: usize = 512;
/// How far a token may go on beyond that, and how far a block reaches.
const LONG_REACH: usize = 16 * 1024;

/// A rule of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomRule {
    /// Names its findings: `[a-z0-9-]{1,64}`.
    pub id: String,
    /// Any of them must be in the line, in any case; none: words of the expression cannot be found fast, so one is needed.
    pub keywords: Vec<String>,
    /// What is hidden is the group `secret`, or all of it.
    pub regex: String,
}

/// Why a rule of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The id does not fit into a placeholder.
    #[error("rule {0:?}: an id has 1 to 64 characters of a-z, 0-9 and -")]
    Id(String),
    /// Without a keyword each text would be searched twice.
    #[error("rule {0}: `keywords` needs a word of at least 2 characters that is in every match")]
    Keywords(String),
    /// The expression is none.
    #[error("rule {id}: `regex` is no expression")]
    Regex {
        /// Of the rule.
        id: String,
        /// What is wrong with it.
        source: Box<regex::Error>,
    },
    /// All of them together are too many.
    #[error("the rules have too many keywords")]
    TooMany(#[from] aho_corasick::BuildError),
    /// The values that came with them.
    #[error(transparent)]
    Known(#[from] crate::known::BuildError),
}

struct Rule {
    id: Arc<str>,
    expression: Box<str>,
    entropy: f64,
    check: Check,
    is_block: bool,
    /// None inside: not an expression, which a test excludes.
    compiled: OnceLock<Option<Regex>>,
}

/// The rules of the product and those of the configuration.
pub(crate) struct Rules {
    rules: Vec<Rule>,
    keywords: AhoCorasick,
    /// The rule of each keyword.
    owners: Vec<usize>,
}

/// A secret that a rule has found.
pub(crate) struct Found {
    pub(crate) range: Range<usize>,
    pub(crate) rule: Arc<str>,
    pub(crate) is_block: bool,
}

#[expect(clippy::expect_used, reason = "the keywords are constants, a test builds them")]
static BUILT_IN: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::new(&[]).expect("a few short keywords")));

impl Rules {
    /// Those of the product alone.
    pub(crate) fn built_in() -> Arc<Self> {
        Arc::clone(&BUILT_IN)
    }

    /// Those of the product, then `custom`.
    pub(crate) fn new(custom: &[CustomRule]) -> Result<Self, RuleError> {
        let (mut rules, mut words, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for spec in table::SPECS {
            owners.extend(std::iter::repeat_n(rules.len(), spec.keywords.len()));
            words.extend(spec.keywords.iter().map(|word| (*word).to_owned()));
            rules.push(Rule {
                id: spec.id.into(),
                expression: spec.expression.into(),
                entropy: spec.entropy,
                check: spec.check,
                is_block: spec.is_block,
                compiled: OnceLock::new(),
            });
        }
        for custom in custom {
            let rule = custom.checked()?;
            owners.extend(std::iter::repeat_n(rules.len(), custom.keywords.len()));
            words.extend(custom.keywords.iter().cloned());
            rules.push(rule);
        }
        let keywords =
            AhoCorasick::builder().ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).build(words)?;
        Ok(Self { rules, keywords, owners })
    }

    /// What rules match, in no order.
    pub(crate) fn find(&self, text: &str) -> Vec<Found> {
        let mut windows: Vec<Vec<Range<usize>>> = Vec::new();
        let bytes = text.as_bytes();
        for hit in self.keywords.find_overlapping_iter(bytes) {
            let index = self.owners[hit.pattern().as_usize()];
            let rule = &self.rules[index];
            if !rule.check.is_worth_a_look(bytes, hit.start()) {
                continue;
            }
            if windows.is_empty() {
                windows.resize_with(self.rules.len(), Vec::new);
            }
            widen(&mut windows[index], bytes, hit.range(), rule.is_block);
        }
        let mut found = Vec::new();
        for (rule, windows) in self.rules.iter().zip(&windows) {
            for window in windows {
                rule.find_in(text, window, &mut found);
            }
        }
        found
    }

    /// Whether a keyword is in the text.
    pub(crate) fn has_keyword(&self, text: &str) -> bool {
        let mut hits = self.keywords.find_overlapping_iter(text);
        hits.any(|hit| {
            let check = self.rules[self.owners[hit.pattern().as_usize()]].check;
            !matches!(check, Check::Hit(_)) && check.is_worth_a_look(text.as_bytes(), hit.start())
        })
    }
}

/// Adds the surroundings of a keyword; those that touch are one.
fn widen(windows: &mut Vec<Range<usize>>, text: &[u8], hit: Range<usize>, is_block: bool) {
    let last = windows.last().map_or(0, |last| last.end);
    let reach = if is_block { LONG_REACH } else { REACH };
    let mut start = hit.start.saturating_sub(REACH).max(last.min(hit.start));
    let mut end = hit.end.max(last).max((hit.end + reach).min(text.len()));
    if !is_block {
        start += text[start..hit.start].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if hit.end >= last {
            end = text[hit.end..end].iter().position(|byte| *byte == b'\n').map_or(end, |at| hit.end + at);
        } else {
            end = text[last..end].iter().position(|byte| *byte == b'\n').map_or(end, |at| last + at);
        }
    }
    // A token is never cut: it ends where its characters end.
    let rest = text[end..].iter().take(LONG_REACH);
    end += rest.take_while(|byte| is_part_of_token(**byte)).count();
    match windows.last_mut() {
        Some(last) if start <= last.end => last.end = last.end.max(end),
        _ => windows.push(start..end),
    }
}

/// The characters that tokens and their encodings are made of.
pub(crate) fn is_part_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'_' | b'=' | b'.' | b':' | b'-')
}

impl Rule {
    fn regex(&self) -> Option<&Regex> {
        let compile = || RegexBuilder::new(&self.expression).unicode(false).build().ok();
        self.compiled.get_or_init(compile).as_ref()
    }

    fn find_in(&self, whole_text: &str, window: &Range<usize>, found: &mut Vec<Found>) {
        let Some(regex) = self.regex() else { return };
        let text = &whole_text.as_bytes()[..window.end];
        let mut at = window.start;
        while let Some(captures) = regex.captures_at(text, at) {
            let Some(whole) = captures.get(0) else { return };
            at = whole.end().max(at + 1);
            let secret = captures.name("secret").unwrap_or(whole);
            let value = secret.as_bytes();
            if !value.is_empty() && self.check.is_secret(value) && entropy(value) >= self.entropy {
                // A window may end inside a character.
                let start = whole_text.floor_char_boundary(secret.start());
                let range = start..whole_text.ceil_char_boundary(secret.end());
                found.push(Found { range, rule: Arc::clone(&self.id), is_block: self.is_block });
            }
            if at >= text.len() {
                return;
            }
        }
    }
}

impl CustomRule {
    fn checked(&self) -> Result<Rule, RuleError> {
        if !crate::placeholder::is_rule_id(&self.id) {
            return Err(RuleError::Id(self.id.clone()));
        }
        if self.keywords.is_empty() || self.keywords.iter().any(|word| word.len() < 2) {
            return Err(RuleError::Keywords(self.id.clone()));
        }
        let regex = RegexBuilder::new(&self.regex).unicode(false).build();
        let regex = regex.map_err(|source| RuleError::Regex { id: self.id.clone(), source: Box::new(source) })?;
        Ok(Rule {
            id: self.id.as_str().into(),
            expression: self.regex.as_str().into(),
            entropy: 0.0,
            check: Check::None,
            is_block: false,
            compiled: OnceLock::from(Some(regex)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_rule_compiles_and_can_be_named_in_a_placeholder() {
        let rules = Rules::new(&[]).expect("the keywords");
        let ids: HashSet<_> = rules.rules.iter().map(|rule| Arc::clone(&rule.id)).collect();
        assert_eq!(ids.len(), rules.rules.len());
        for rule in &rules.rules {
            let regex = rule.regex().unwrap_or_else(|| panic!("{}", rule.id));
            assert!(regex.capture_names().any(|name| name == Some("secret")), "{}", rule.id);
            assert!(crate::placeholder::is_rule_id(&rule.id), "{}", rule.id);
        }
    }

    #[test]
    fn windows_are_lines_and_touch_no_byte_twice() {
        let text = format!("{}\n{}\nkey\n", "key ".repeat(1000), "x".repeat(2000));
        let mut windows = Vec::new();
        for (at, word) in text.match_indices("key") {
            widen(&mut windows, text.as_bytes(), at..at + word.len(), false);
        }
        let last = text.len() - 4..text.len() - 1;
        assert_eq!(windows, [0..4000, last]);
    }
}
