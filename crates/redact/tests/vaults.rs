//! Vaults: one placeholder a value, on disk before it is used, unreadable without the key. Streams on top of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use proptest::prelude::*;
use stakpak_redact::{CustomRule, Grant, Redactor, RestoreError, Stream, Vaults, placeholders};

fn vaults(directory: &Path) -> Vaults {
    Vaults::new(directory.join("secrets"), directory.join("key"), Redactor::new(["the-process-knows"]).unwrap())
}

fn key() -> String {
    format!("gh{}{}", "p_", "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA2cD4")
}

#[test]
fn the_same_value_has_the_same_placeholder_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("{} and {0} the-process-knows", key());
    let hidden = vaults(directory.path()).hide("s", &text).into_owned();
    let names: Vec<_> = placeholders(&hidden).map(|found| found.text.to_owned()).collect();
    assert_eq!(hidden, format!("{0} and {0} [REDACTED]", names[0]));
    let again = vaults(directory.path());
    assert_eq!(again.hide("s", &text), hidden);
    assert_eq!(again.hide("s", &hidden), hidden, "placeholders stay");
    assert_eq!(again.restore("s", &hidden, Grant::All).unwrap(), text.replace("the-process-knows", "[REDACTED]"));
    assert_ne!(again.hide("t", &text), hidden, "another session");
    assert_eq!(again.restore("u", &names[0], Grant::All), Err(RestoreError::Unknown(names[0].clone())));
    let other_rule = names[0].replace("github-token", "jwt");
    assert_eq!(again.restore("s", &other_rule, Grant::All), Err(RestoreError::Unknown(other_rule.clone())));
}

/// C-P50: once it was met, it is found in other forms, and each comes back as it was.
#[test]
fn a_value_that_was_met_is_found_in_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let vaults = vaults(directory.path());
    let secret = "pä/ss w0rd&\"<x>";
    let _ = vaults.hide("s", &format!("postgres://admin:{}@h", "x/y".replace("x/y", "never-seen-2024")));
    let _ = vaults.hide("s", "password=Xy7%kk=/+z\u{e4}9Q");
    let hex: String = "never-seen-2024".bytes().map(|byte| format!("{byte:02X}")).collect();
    for form in
        ["never-seen-2024", "bmV2ZXItc2Vlbi0yMDI0", "Xy7%25kk%3D%2F%2Bz%C3%A49Q", "Xy7%25kk%3d%2f%2bz%c3%a49Q", &hex]
    {
        let text = format!("<{form}>");
        let hidden = vaults.hide("s", &text).into_owned();
        assert!(!hidden.contains(form), "{hidden}");
        assert_eq!(vaults.restore("s", &hidden, Grant::All).unwrap(), text);
    }
    assert_eq!(vaults.hide("t", "<never-seen-2024>"), "<never-seen-2024>", "another session has not met it");
    assert_eq!(vaults.hide("s", secret), secret);
}

/// C-P56.
#[test]
fn files_are_private_and_useless_without_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let hidden = vaults(directory.path()).hide("s", &key()).into_owned();
    let (vault, key_file) = (directory.path().join("secrets/s.vault"), directory.path().join("key"));
    for (path, mode) in [(&vault, 0o600), (&key_file, 0o600), (&directory.path().join("secrets"), 0o700)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
    let bytes = fs::read(&vault).unwrap();
    assert!(!bytes.windows(8).any(|window| window == &key().as_bytes()[..8]));
    fs::write(&key_file, [7; 32]).unwrap();
    let stranger = vaults(directory.path());
    assert_eq!(stranger.restore("s", &hidden, Grant::All), Err(RestoreError::Unknown(hidden.clone())));
    assert_eq!(stranger.hide("s", &key()), "[REDACTED]", "it hides all the same");
    assert_eq!(fs::read(&vault).unwrap(), bytes, "and leaves the file as it is");
}

/// What was being written when the machine stopped is cut off; an entry of another session is refused.
#[test]
fn half_an_entry_is_forgotten_and_a_moved_one_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let first = vaults(directory.path()).hide("s", &key()).into_owned();
    let vault = directory.path().join("secrets/s.vault");
    let whole = fs::read(&vault).unwrap();
    let _ = vaults(directory.path()).hide("s", "password=second-s3cret-value");
    let both = fs::read(&vault).unwrap();
    for length in [0, 3, 8, whole.len() + 2, both.len() - 1] {
        fs::write(&vault, &both[..length]).unwrap();
        let again = vaults(directory.path());
        assert_eq!(again.restore("s", &first, Grant::All).is_ok(), length > whole.len(), "{length}");
        let hidden = again.hide("s", "password=third-s3cret-value").into_owned();
        let reopened = vaults(directory.path());
        assert_eq!(reopened.restore("s", &hidden, Grant::All).unwrap(), "password=third-s3cret-value");
    }
    fs::write(directory.path().join("secrets/t.vault"), &whole).unwrap();
    assert!(vaults(directory.path()).restore("t", &first, Grant::All).is_err());
}

#[test]
fn forgetting_removes_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let vaults = vaults(directory.path());
    let hidden = vaults.hide("s", &key()).into_owned();
    vaults.forget("s").unwrap();
    vaults.forget("s").unwrap();
    assert_eq!(fs::read_dir(directory.path().join("secrets")).unwrap().count(), 0);
    assert!(vaults.restore("s", &hidden, Grant::All).is_err());
}

fn streamed(vaults: &Vaults, pieces: &[&str]) -> Vec<String> {
    let mut stream = Stream::default();
    let mut out = Vec::new();
    for piece in pieces {
        stream.push(piece);
        out.push(vaults.ready("s", &mut stream, false));
    }
    out.push(vaults.ready("s", &mut stream, true));
    out
}

/// C-P51: wherever it is split.
#[test]
fn a_secret_split_over_two_pieces_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let vaults = vaults(directory.path());
    let block = format!("-----BEGIN {0}-----\nMIIE+/=\nab\n-----END {0}-----", "PRIVATE KEY");
    for text in [
        format!("the key is {} and so on", key()),
        "set password: p@ss!w0rd#12 now".to_owned(),
        "postgres://admin:p!ss,w0rd@db:5432/x".to_owned(),
        format!("a\n{block}\nb"),
        "it is the-process-knows .".to_owned(),
    ] {
        let whole = vaults.hide("s", &text).into_owned();
        assert_ne!(whole, text);
        for at in 1..text.len() {
            assert_eq!(streamed(&vaults, &[&text[..at], &text[at..]]).concat(), whole, "{}", &text[..at]);
        }
        let bytes: Vec<&str> = text.split_inclusive("").collect();
        assert_eq!(streamed(&vaults, &bytes).concat(), whole);
    }
}

/// C-P51: a known value need not look like a token.
#[test]
fn a_known_value_with_blanks_that_is_split_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let redactor = Redactor::new(["pass w\u{f6}rd \"x\"", "#1 & only, p@ss"]).unwrap();
    let vaults = Vaults::new(directory.path().join("secrets"), directory.path().join("key"), redactor);
    for text in ["it is pass w\u{f6}rd \"x\" here", "so: #1 & only, p@ss!", "#1 &amp; only, p@ss", "#1 & only, pass"] {
        let whole = vaults.hide("s", text).into_owned();
        for at in (1..text.len()).filter(|at| text.is_char_boundary(*at)) {
            assert_eq!(streamed(&vaults, &[&text[..at], &text[at..]]).concat(), whole, "{}", &text[..at]);
        }
        let pieces: Vec<&str> = text.split_inclusive("").collect();
        assert_eq!(streamed(&vaults, &pieces).concat(), whole);
    }
}

/// C-P51: what a model repeats of the session's secrets can still be restored.
#[test]
fn a_placeholder_that_is_split_stays() {
    let directory = tempfile::tempdir().unwrap();
    let vaults = vaults(directory.path());
    for text in ["use [REDACTED_SECRET:jwt:abc123] and [REDACTED]", "secret: [REDACTED_SECRET:generic-secret:zz9a0b]."]
    {
        for size in 1..9 {
            let bytes: Vec<&str> =
                text.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
            assert_eq!(streamed(&vaults, &bytes).concat(), text, "pieces of {size}");
        }
    }
}

#[test]
fn only_the_end_of_a_word_waits() {
    let directory = tempfile::tempdir().unwrap();
    let vaults = vaults(directory.path());
    assert_eq!(
        streamed(&vaults, &["Hello, wor", "ld! Ünï", "cödé\n", "."]),
        ["Hello, ", "world! Ünï", "cödé\n", "", "."]
    );
    let long = "x".repeat(5000);
    assert_eq!(streamed(&vaults, &[&long])[0].len(), 5000, "not longer than a token");
    let certificate = "-----BEGIN CERTIFICATE-----\nMIIB \n";
    assert_eq!(streamed(&vaults, &[certificate])[0], certificate);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_stream_loses_nothing(pieces in prop::collection::vec("[a-z \n.ü]{0,20}|-----BEGIN |://|x{3000}", 0..20)) {
        let directory = tempfile::tempdir().unwrap();
        let vaults = vaults(directory.path());
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let text = pieces.concat();
        prop_assume!(vaults.is_clean("s", &text));
        prop_assert_eq!(streamed(&vaults, &pieces).concat(), text);
    }
}

/// The server and the shims of its tasks hide in the same session.
#[test]
fn two_processes_share_one_vault() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (vaults(directory.path()), vaults(directory.path()));
    assert_eq!((one.hide("s", "nothing"), other.hide("s", "nothing")), ("nothing".into(), "nothing".into()));
    for round in 0..20 {
        let (mine, theirs) = (format!("password=Mine{round}kk9Qx7"), format!("password=Theirs{round}Zz8Wv"));
        let (by_one, by_other) = (one.hide("s", &mine).into_owned(), other.hide("s", &theirs).into_owned());
        assert_eq!(other.restore("s", &by_one, Grant::All).unwrap(), mine);
        assert_eq!(one.restore("s", &by_other, Grant::All).unwrap(), theirs);
        assert_eq!(one.hide("s", &format!("<Theirs{round}Zz8Wv>")), by_other.replace("password=", "<") + ">");
    }
    assert_eq!(vaults(directory.path()).hide("s", "password=Mine0kk9Qx7"), one.hide("s", "password=Mine0kk9Qx7"));
}

#[test]
fn a_redactor_knows_the_same_in_another_process() {
    let rule = CustomRule { id: "mine".into(), keywords: vec!["zz-".into()], regex: "zz-[0-9]{6}".into() };
    let one = Redactor::new(["the-process-knows"]).unwrap().with_rules(&[rule]).unwrap();
    one.learn(["learned-later"]).unwrap();
    let sent = serde_json::to_string(&one.portable()).unwrap();
    let other = Redactor::from_portable(serde_json::from_str(&sent).unwrap()).unwrap();
    let text = "the-process-knows learned-later zz-123456";
    assert_eq!(one.redact(text), "[REDACTED] [REDACTED] [REDACTED]");
    assert_eq!(other.redact(text), one.redact(text));
}
