//! The shapes of well-known tokens.
//!
//! Invariants: a rule's expression runs only when its keyword is in the text, and is compiled then; every match
//! ends where a word ends, so that taking it away begins no new word. Expressions work on bytes, without
//! Unicode classes, which keeps compiling them cheap; they match whole ASCII characters only, or up to the end.

use std::{
    ops::Range,
    sync::{LazyLock, OnceLock},
};

use aho_corasick::AhoCorasick;
use regex::bytes::Regex;

struct Rule {
    keyword: &'static str,
    /// What is replaced is the group `secret`.
    expression: &'static str,
    compiled: OnceLock<Regex>,
}

const fn rule(keyword: &'static str, expression: &'static str) -> Rule {
    Rule { keyword, expression, compiled: OnceLock::new() }
}

// A token begins a word, or follows an escape such as the `\n` of a JSON string.
static RULES: [Rule; 9] = [
    rule("xox", r"(?:\b|\\[bfnrt])(?<secret>xox[abeoprs]-[A-Za-z0-9_-]{10,})"),
    rule("xapp-", r"(?:\b|\\[bfnrt])(?<secret>xapp-[A-Za-z0-9_-]{10,})"),
    // Exactly 35, as the Bot API makes them: longer ones are digests behind a number. `bot` stands right before
    // it in the URLs of the API.
    rule(":", r"(?<secret>[0-9]{8,10}:[A-Za-z0-9_-]{35})(?:[^A-Za-z0-9_-]|\z)"),
    rule("sk-", r"(?:\b|\\[bfnrt])(?<secret>sk-[A-Za-z0-9_-]{20,})"),
    rule("gh", r"(?:\b|\\[bfnrt])(?<secret>gh[pousr]_[A-Za-z0-9_]{36,})"),
    rule("github_pat_", r"(?:\b|\\[bfnrt])(?<secret>github_pat_[A-Za-z0-9_]{22,})"),
    rule("AKIA", r"(?:\b|\\[bfnrt])(?<secret>AKIA[0-9A-Z]{16})\b"),
    rule("ASIA", r"(?:\b|\\[bfnrt])(?<secret>ASIA[0-9A-Z]{16})\b"),
    // A block that was cut off hides all that follows: no part of a key may stay.
    rule(
        "PRIVATE KEY",
        r"(?s)(?<secret>-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z))",
    ),
];

#[expect(clippy::expect_used, reason = "the keywords are constants, a test builds them")]
static KEYWORDS: LazyLock<AhoCorasick> =
    LazyLock::new(|| AhoCorasick::new(RULES.iter().map(|rule| rule.keyword)).expect("a few short keywords"));

impl Rule {
    #[expect(clippy::expect_used, reason = "the expressions are constants, a test compiles each")]
    fn regex(&self) -> &Regex {
        self.compiled.get_or_init(|| {
            regex::bytes::RegexBuilder::new(self.expression).unicode(false).build().expect("a valid expression")
        })
    }
}

/// The places that rules match.
pub(crate) fn find(text: &str) -> Vec<Range<usize>> {
    let mut hit = [false; RULES.len()];
    for found in KEYWORDS.find_overlapping_iter(text) {
        hit[found.pattern().as_usize()] = true;
    }
    let hit = RULES.iter().zip(hit).filter(|(_, hit)| *hit);
    let matches = hit.flat_map(|(rule, _)| rule.regex().captures_iter(text.as_bytes()));
    matches.filter_map(|found| Some(found.name("secret")?.range())).collect()
}
