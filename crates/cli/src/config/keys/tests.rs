//! The list against the parsers: whatever is listed is read, and its value taken.

use stakpak_config::{Document, Finding};

use super::*;
use crate::{args::ConfigFileName, autopilot_file::AutopilotFile};

/// A document in which this key can stand: with what its table needs besides.
fn document(file: ConfigFileName, table: &Table, key: &Key) -> String {
    let name = if key.name == ANY { "my_name" } else { key.name };
    let needed: &[(&str, &str)] = match table.path {
        ["profiles", ANY, "providers", ANY] => &[("type", "\"custom\""), ("api_endpoint", "\"http://127.0.0.1:1/v1\"")],
        ["cost", ANY] => &[("input", "3.0"), ("output", "15.0")],
        ["schedules", ENTRY] => &[("name", "\"a\""), ("prompt", "\"p\""), ("cron", "\"@daily\"")],
        ["routing", "bindings", ENTRY] => &[("channel", "\"slack\""), ("routing_key", "\"k\""), ("group", "\"g\"")],
        ["channels", "slack"] => &[("bot_token", "\"xoxb-1-a\""), ("app_token", "\"xapp-1-a\"")],
        ["channels", _] => &[("token", "\"123:abc\"")],
        _ => &[],
    };
    let alternatives: &[&[&str]] = &[&["cron", "every", "at"], &["prompt", "prompt_file"], &["direct", "group"]];
    let excludes =
        |other: &str| other == name || alternatives.iter().any(|group| group.contains(&other) && group.contains(&name));
    let mut text = format!("{}\n", super::super::new::header(table));
    for (key, value) in needed.iter().filter(|(other, _)| !excludes(other)) {
        text.push_str(&format!("{key} = {value}\n"));
    }
    let value = match key.kind {
        Kind::Secret if table.path == ["channels", "slack"] => {
            format!("\"{}-1-a\"", if name == "bot_token" { "xoxb" } else { "xapp" })
        }
        Kind::Secret => "\"0123456789:abcdefghij\"".to_owned(),
        _ => key.sample().to_owned(),
    };
    text.push_str(&format!("{name} = {value}\n"));
    if table.path.starts_with(&["secrets", "rules"]) && name != "regex" {
        text.push_str("regex = 'a'\n");
    }
    if file == ConfigFileName::Config && table.path.len() == 5 {
        text.push_str(
            "[profiles.default.providers.default]\ntype = \"custom\"\napi_endpoint = \"http://127.0.0.1:1/v1\"\n",
        );
    }
    text
}

fn findings(file: ConfigFileName, text: &str) -> Vec<Finding> {
    let document = Document::parse(file.name(), text).unwrap();
    match file {
        ConfigFileName::Config => stakpak_config::ConfigFile::read(&document).unwrap().findings().to_vec(),
        ConfigFileName::Autopilot => {
            let (mut findings, _) = AutopilotFile::findings(&document);
            let gateway = stakpak_gateway::GatewayConfig::from_document(&document, &Default::default());
            findings.extend(gateway.unwrap().findings);
            findings
        }
    }
}

#[test]
fn every_listed_key_is_read_with_the_value_that_is_shown() {
    let mut wrong = Vec::new();
    for file in ConfigFileName::ALL {
        for table in file.tables() {
            for key in table.keys {
                let text = document(file, table, key);
                let found = findings(file, &text);
                // A check that is not there, and what is odd about an example, is not the list's business.
                let ignored = ["E108", "E103", "W303", "W302"];
                wrong
                    .extend(found.iter().filter(|it| !ignored.contains(&it.code)).map(|it| format!("{it} in\n{text}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_key_is_listed_twice_and_secrets_are_secrets() {
    let mut seen = std::collections::BTreeSet::new();
    for path in all() {
        assert!(seen.insert(path.clone()), "{path}");
        let parts: Vec<String> = path.split('.').map(str::to_owned).collect();
        let (_, key) = find(
            &parts.iter().map(|part| if part == ENTRY { "0".to_owned() } else { part.clone() }).collect::<Vec<_>>(),
        )
        .unwrap();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        assert_eq!(key.kind == Kind::Secret, stakpak_config::is_secret(&parts), "{path}");
    }
}

/// The functions behind test attributes below a directory.
fn tests_below(directory: &std::path::Path, found: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let behind = source.split("#[test]").skip(1).chain(source.split("#[tokio::test").skip(1));
            let names =
                behind.filter_map(|text| text.split_once("fn ")?.1.split_once('(').map(|(name, _)| name.to_owned()));
            found.extend(names);
        }
    }
}

/// A-P36: `docs/key-tests.md` has a line for every key, with tests that exist, or names the key where it says that none does.
#[test]
fn every_key_with_an_effect_names_its_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/key-tests.md")).unwrap();
    let in_ticks = |line: &str| -> Vec<String> { line.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows: std::collections::BTreeMap<&str, Vec<String>> = rows.map(|(key, tests)| (key, in_ticks(tests))).collect();
    let untested = text.lines().find(|line| line.starts_with("No test yet:")).map(in_ticks).unwrap_or_default();
    let mut tests = std::collections::BTreeSet::new();
    tests_below(&root.join("crates"), &mut tests);
    for key in all() {
        match rows.get(key.as_str()) {
            Some(named) => {
                assert!(
                    !named.is_empty() && !untested.contains(&key),
                    "{key}: tests in its line, or a word at the end"
                );
                let gone: Vec<_> = named.iter().filter(|test| !tests.contains(*test)).collect();
                assert!(gone.is_empty(), "{key} names {gone:?}, which are no tests");
            }
            None => assert!(untested.contains(&key), "{key} has no line"),
        }
    }
    let known: std::collections::BTreeSet<String> = all().collect();
    let strange: Vec<_> = rows.keys().filter(|key| !known.contains(**key)).collect();
    assert!(strange.is_empty(), "lines for keys that do not exist: {strange:?}");
}
