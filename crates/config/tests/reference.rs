//! References: every form, what fails, and with which name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{error::Error as _, fs};

use stakpak_config::{ReferenceError, resolve, resolve_secret};

fn environment(name: &str) -> Option<String> {
    match name {
        "A" => Some("one".to_owned()),
        "EMPTY" => Some(String::new()),
        "NESTED" => Some("${A}".to_owned()),
        _ => None,
    }
}

#[test]
fn every_form_is_resolved_once() {
    let cases = [
        ("plain $A {A} $$", "plain $A {A} $$"),
        ("${A}", "one"),
        ("<${A}${A}>", "<oneone>"),
        ("${NONE:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${EMPTY}", ""),
        ("${A:-two}", "one"),
        ("${NONE:-}", ""),
        ("$${A} ${A}", "${A} one"),
        ("${NESTED}", "${A}"),
        ("${NONE:-ü:-ß}", "ü:-ß"),
    ];
    for (text, expected) in cases {
        assert_eq!(resolve(text, &environment).unwrap(), expected, "{text}");
    }
}

#[test]
fn an_error_names_the_variable_or_the_file() {
    let unset = resolve("x ${NONE} y", &environment).unwrap_err();
    assert_eq!(unset.to_string(), "variable NONE is not set");

    let absent = resolve("${file:/nonexistent/key}", &environment).unwrap_err();
    assert_eq!(absent.to_string(), "file /nonexistent/key cannot be read");
    assert!(absent.source().is_some());

    for text in ["${A", "${}", "${A B}", "${1A}", "${:-x}"] {
        let error = resolve(text, &environment).unwrap_err();
        assert!(matches!(error, ReferenceError::Malformed), "{text}: {error}");
    }
}

#[test]
fn a_file_loses_its_trailing_newline_and_home_is_expanded() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("key"), "  from file \r\n").unwrap();
    let home_path = home.path().to_str().unwrap().to_owned();
    let with_home = |name: &str| (name == "HOME").then(|| home_path.clone());

    assert_eq!(resolve("<${file:~/key}>", &with_home).unwrap(), "<  from file >");
    assert_eq!(resolve_secret("file:~/key", &with_home).unwrap(), "  from file ");
    assert_eq!(resolve_secret(&format!("file:{home_path}/key"), &environment).unwrap(), "  from file ");
    let error = resolve_secret("file:~/key", &environment).unwrap_err();
    assert_eq!(error.to_string(), "variable HOME is not set");
}

#[test]
fn the_whole_value_forms_hold_for_secrets_only() {
    assert_eq!(resolve_secret("env:A", &environment).unwrap(), "one");
    assert_eq!(resolve_secret("a ${A}", &environment).unwrap(), "a one");
    assert_eq!(resolve("env:A", &environment).unwrap(), "env:A");
    let error = resolve_secret("env:NONE", &environment).unwrap_err();
    assert_eq!(error.to_string(), "variable NONE is not set");
}
