//! What goes, what stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::borrow::Cow;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use proptest::prelude::*;
use stakpak_redact::{REDACTED, Redactor};

/// A token for each rule, put together here so that no scanner takes this file for a leak.
fn tokens() -> Vec<String> {
    let body = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA2cD4";
    vec![
        format!("xox{}-12345678-{body}", "b"),
        format!("xox{}-12345678-{body}", "p"),
        format!("xapp-1-A0-{body}"),
        format!("123456789:{}", &body[..35]),
        format!("sk-proj-{body}_-x"),
        format!("ghp_{body}"),
        format!("github_pat_{body}"),
        format!("AKIA{}", "ABCDEFGHIJ234567"),
        format!("ASIA{}", "ABCDEFGHIJ234567"),
        format!("-----BEGIN RSA {0}-----\nMIIE+/=\nab\n-----END RSA {0}-----", "PRIVATE KEY"),
    ]
}

#[test]
fn each_rule_takes_its_token_wherever_it_stands() {
    let redactor = Redactor::default();
    for token in tokens() {
        for (before, after) in
            [("", ""), ("key=", " end"), ("{\"k\":\"", "\"}"), ("(", ")"), ("ü", "ß"), ("a\\n", "\\nb")]
        {
            let redacted = redactor.redact(&format!("{before}{token}{after}")).into_owned();
            assert!(!redacted.contains(&token[..token.len() - 1]), "{token}");
            assert_eq!(redacted, format!("{before}{REDACTED}{after}"), "{token}");
        }
        let two = redactor.redact(&format!("{token} {token}")).into_owned();
        assert_eq!(two, format!("{REDACTED} {REDACTED}"));
    }
}

#[test]
fn a_bot_token_goes_from_the_url_it_is_part_of() {
    let token = &tokens()[3];
    let redacted = Redactor::default();
    let url = format!("https://api.telegram.org/bot{token}/sendMessage");
    assert_eq!(redacted.redact(&url), format!("https://api.telegram.org/bot{REDACTED}/sendMessage"));
}

#[test]
fn a_key_block_that_was_cut_off_hides_the_rest() {
    let block = tokens().pop().unwrap();
    let cut = &block[..block.len() - 30];
    assert_eq!(Redactor::default().redact(&format!("a {cut}")), format!("a {REDACTED}"));
}

#[test]
fn what_only_looks_like_a_secret_stays() {
    for text in [
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "12345678:da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "a risk-assessment-of-something-with-a-long-name",
        "AKIA is a prefix, AKIAABCDEFGHIJ2345678 is too long",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "https://host.example:8080/xox?sk-short=1",
        "[REDACTED]",
    ] {
        assert!(matches!(Redactor::default().redact(text), Cow::Borrowed(_)), "{text}");
    }
}

#[test]
fn values_that_are_short_or_part_of_the_placeholder_are_not_searched() {
    let redactor = Redactor::new(["short12", "REDACTED", ""]).unwrap();
    let text = "short12 REDACTED";
    assert!(matches!(redactor.redact(text), Cow::Borrowed(_)));
    assert_eq!(Redactor::new(["short123"]).unwrap().redact("<short123>"), "<[REDACTED]>");
}

#[test]
fn of_secrets_that_overlap_no_part_stays() {
    let redactor = Redactor::new(["abcdefgh", "efghijkl", "cdefghijk"]).unwrap();
    assert_eq!(redactor.redact("-abcdefghijkl-"), "-[REDACTED]-");
    assert_eq!(redactor.redact("abcdefghabcdefgh"), "[REDACTED][REDACTED]");
}

#[test]
fn debug_does_not_show_the_known_values() {
    let redactor = Redactor::new(["hunter2-hunter2"]).unwrap();
    assert_eq!(format!("{redactor:?}"), "Redactor");
}

fn secret() -> impl Strategy<Value = String> {
    prop_oneof!["[!-~]{8,40}", "[a-z\"\\\\\n\t]{8,20}", "[a-zß-ü]{8,12}"]
        .prop_filter("a part of the placeholder", |secret| !REDACTED.contains(secret.as_str()))
}

/// One of the forms in which text carries a secret.
fn carried(secret: &str, form: usize, before: &str, after: &str) -> String {
    match form {
        0 => secret.to_owned(),
        1 => serde_json::to_string(secret).unwrap(),
        2 => BASE64_STANDARD.encode(format!("{before}{secret}{after}")),
        _ => BASE64_URL_SAFE_NO_PAD.encode(format!("{before}{secret}{after}")),
    }
}

/// Whether decoding any part of `text` gives the secret: knows nothing of how the redactor searches.
fn decodes_to(text: &str, secret: &str) -> bool {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&alphabet::STANDARD, lenient);
    let text = text.replace('-', "+").replace('_', "/");
    let runs = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '+' || c == '/'));
    runs.flat_map(|run| (0..4).filter_map(move |skip| run.get(skip..))).any(|run| {
        let whole = if run.len() % 4 == 1 { &run[..run.len() - 1] } else { run };
        let bytes = engine.decode(whole).unwrap_or_default();
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    })
}

proptest! {
    #[test]
    fn text_without_a_match_is_returned_as_it_is(text in "[ a-zA-Z0-9.,/\n\u{e4}]{0,300}", secret in secret()) {
        prop_assume!(!text.contains(&secret));
        let redactor = Redactor::new([&secret]).unwrap();
        let redacted = redactor.redact(&text);
        prop_assert!(matches!(redacted, Cow::Borrowed(_)));
        prop_assert_eq!(redacted, text.as_str());
    }

    #[test]
    fn a_known_secret_survives_in_no_form(
        secret in secret(),
        other in secret(),
        form in 0..4_usize,
        (before, after) in ("[a-z]{0,7}", "[a-z]{0,7}"),
        (left, right) in ("\\PC{0,20}", "\\PC{0,20}"),
    ) {
        let redactor = Redactor::new([&secret, &other]).unwrap();
        let text = format!("{left}{}{other}{right}", carried(&secret, form, &before, &after));
        let redacted = redactor.redact(&text).into_owned();
        let json = serde_json::to_string(&secret).unwrap();
        prop_assert!(!redacted.contains(&secret), "{}", redacted);
        prop_assert!(!redacted.contains(&json[1..json.len() - 1]), "{}", redacted);
        prop_assert!(!decodes_to(&redacted, &secret), "{}", redacted);
        prop_assert!(!redacted.contains(&other), "{}", redacted);
        prop_assert!(redacted.contains(REDACTED));
    }

    #[test]
    fn redacting_twice_is_redacting_once(
        secret in secret(),
        parts in prop::collection::vec((0..12_usize, "[ -~\n]{0,12}"), 0..8),
    ) {
        let redactor = Redactor::new([&secret]).unwrap();
        let tokens = tokens();
        let text: String = parts
            .iter()
            .flat_map(|(index, filler)| [tokens.get(*index).unwrap_or(&secret).as_str(), filler])
            .collect();
        let once = redactor.redact(&text).into_owned();
        let twice = redactor.redact(&once).into_owned();
        prop_assert_eq!(twice, once);
    }
}

/// A key that is configured later is hidden by everybody who hides those of the start.
#[test]
fn what_is_learned_later_is_hidden_by_every_clone() {
    let redactor = Redactor::new(["first-of-the-values"]).unwrap();
    let clone = redactor.clone();
    let text = "first-of-the-values and second-of-the-values";
    assert!(clone.redact(text).contains("second"));
    redactor.learn(["second-of-the-values", "first-of-the-values"]).unwrap();
    assert_eq!(clone.redact(text), "[REDACTED] and [REDACTED]");
}
