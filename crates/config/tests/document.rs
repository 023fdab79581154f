//! Reading: places of errors, isolation of bad entries, unknown keys, references.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use stakpak_config::{Codes, Document, Environment, LoadError, Location, Secret, Severity};

const CODES: Codes = Codes { invalid: "E110", missing: "E101", reference: "E113", variant: "E114", duration: "E109" };

#[derive(Debug, Deserialize, PartialEq, Default)]
#[serde(rename_all = "lowercase")]
enum Overlap {
    #[default]
    Skip,
    Queue,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Schedule {
    name: String,
    cron: String,
    #[serde(default, alias = "max_steps")]
    max_turns: Option<u8>,
    #[serde(default, with = "stakpak_config::duration::option")]
    timeout: Option<Duration>,
    #[serde(default)]
    overlap: Overlap,
    #[serde(default)]
    budget: Option<Budget>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Budget {
    usd_per_day: f64,
}

#[derive(Debug, Deserialize)]
struct Channel {
    token: Secret,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
}

fn parse(source: &str) -> Document {
    let set = |name: &str| match name {
        "TOKEN" => Some("s3cret-value".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    Document::parse("autopilot.toml", source).unwrap().with_environment(Environment::new(set))
}

type Entry = Result<(Schedule, Location), String>;

fn schedules(source: &str) -> (Vec<Entry>, Vec<String>) {
    let mut warnings = Vec::new();
    let entries = parse(source).array(&["schedules"], CODES, &mut warnings).unwrap();
    let entries = entries.into_iter().map(|entry| entry.map_err(|f| f.to_string())).collect();
    (entries, warnings.iter().map(ToString::to_string).collect())
}

fn only_error(source: &str) -> String {
    let (mut entries, _) = schedules(source);
    assert_eq!(entries.len(), 1);
    entries.remove(0).unwrap_err()
}

#[test]
fn a_syntax_error_says_where_and_what_is_expected() {
    let error = Document::parse("autopilot.toml", "# ä\n[server]\nlisten = \n").unwrap_err();
    assert_eq!((error.line, error.column, error.code), (3, 10, "E001"));
    let shown = error.to_string();
    assert!(shown.starts_with("autopilot.toml:3:10: error[E001] "), "{shown}");
    assert!(shown.len() > "autopilot.toml:3:10: error[E001] ".len());

    let error = Document::parse("autopilot.toml", "a = \"ää\" b").unwrap_err();
    assert_eq!(error.column, 10, "{error}");

    let error = Document::parse("autopilot.toml", "[server\n").unwrap_err();
    assert!(error.message.contains("expected `]`"), "{error}");
}

#[test]
fn an_absent_file_is_none_and_bytes_that_are_not_text_are_placed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("autopilot.toml");
    assert!(Document::load(&path).unwrap().is_none());

    std::fs::write(&path, b"a = 1\nb = \"\xff\"\n").unwrap();
    let LoadError::Syntax(finding) = Document::load(&path).unwrap_err() else { panic!() };
    assert_eq!(finding.to_string(), "autopilot.toml:2:6: error[E001] not UTF-8");

    let error = Document::load(directory.path()).unwrap_err();
    assert!(matches!(error, LoadError::Read { .. }), "{error}");
}

#[test]
fn one_bad_entry_disables_only_itself() {
    let (entries, warnings) = schedules(
        r#"
[[schedules]]
name = "first"
cron = "0 9 * * *"
timeout = "1h 30m"

[[schedules]]
name = "nightly"
cron = 5

[[schedules]]
name = "third"
cron = "0 10 * * *"
overlap = "queue"
budget = { usd_per_day = 2 }
"#,
    );
    assert_eq!(warnings, Vec::<String>::new());
    let (first, location) = entries[0].as_ref().unwrap();
    assert_eq!(first.timeout, Some(Duration::from_secs(5400)));
    assert_eq!(*location, Location { line: 2, column: 1 });
    assert_eq!(
        entries[1].as_ref().unwrap_err(),
        "autopilot.toml:9:8: error[E110] schedules.nightly.cron: \
         expected a string, found integer `5`"
    );
    let (third, _) = entries[2].as_ref().unwrap();
    assert_eq!(third.overlap, Overlap::Queue);
    assert_eq!(third.budget, Some(Budget { usd_per_day: 2.0 }));
}

#[test]
fn each_kind_of_error_has_its_code_place_and_key() {
    let head = "[[schedules]]\nname = \"a\"\n";
    let cases = [
        ("", "1:1: error[E101] schedules.a.cron: required key is missing"),
        (
            "cron = \"x\"\ntimeout = \"5 parsecs\"\n",
            "4:11: error[E109] schedules.a.timeout: \
             \"5 parsecs\" is not a duration such as 30s, 5m or 1h 30m",
        ),
        (
            "cron = \"x\"\noverlap = \"jump\"\n",
            "4:11: error[E114] schedules.a.overlap: \
             unknown value \"jump\", expected one of skip, queue",
        ),
        ("cron = \"x\"\nmax_turns = 300\n", "4:13: error[E110] schedules.a.max_turns: "),
        ("cron = \"x\"\nbudget = { usd_per_day = \"much\" }\n", "4:26: error[E110] schedules.a.budget.usd_per_day: "),
        ("cron = \"x\"\n[schedules.budget]\n", "4:1: error[E101] schedules.a.budget.usd_per_day: "),
        ("cron = \"${NOPE} * * * *\"\n", "3:8: error[E113] schedules.a.cron: variable NOPE is not set"),
    ];
    for (tail, expected) in cases {
        let shown = only_error(&format!("{head}{tail}"));
        assert!(shown.starts_with(&format!("autopilot.toml:{expected}")), "{shown}");
    }
    let unnamed = only_error("schedules = [{ cron = \"x\" }]\n");
    assert_eq!(unnamed, "autopilot.toml:1:14: error[E101] schedules[0].name: required key is missing");
}

#[test]
fn unknown_keys_are_warnings_with_the_nearest_name() {
    let (entries, warnings) = schedules(
        "[[schedules]]\nname = \"a\"\ncron = \"x\"\ncorn = \"${NOPE}\"\nmax_steps = 3\n\
         budget = { usd_per_dya = 1, usd_per_day = 2 }\ncompletely_else = 1\n",
    );
    assert_eq!(entries[0].as_ref().unwrap().0.max_turns, Some(3));
    assert_eq!(
        warnings,
        [
            "autopilot.toml:4:1: warning[W301] schedules.a.corn: \
             unknown key, did you mean `cron`?",
            "autopilot.toml:6:12: warning[W301] schedules.a.budget.usd_per_dya: \
             unknown key, did you mean `usd_per_day`?",
            "autopilot.toml:7:1: warning[W301] schedules.a.completely_else: unknown key",
        ]
    );

    let top = parse("[sever]\nlisten = \"x\"\n[server]\n").unknown_tables(&["server", "watch"]);
    assert_eq!(
        top.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["autopilot.toml:1:2: warning[W301] sever: unknown key, did you mean `server`?"]
    );
}

#[test]
fn entries_come_in_the_order_of_the_file_and_fail_each_for_itself() {
    let document = parse(
        "[channels.telegram]\ntoken = \"env:TOKEN\"\nheaders = { a = \"Bearer ${TOKEN}\" }\n\
         [channels.discord]\ntoken = \"${NOPE}\"\n[channels.slack]\ntoken = 12345678\n",
    );
    let channels = document.entries::<Channel>(&["channels"], Codes::all("E203"), &mut Vec::new()).unwrap();
    let names: Vec<_> = channels.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["telegram", "discord", "slack"]);
    let telegram = channels[0].1.as_ref().unwrap();
    assert_eq!(telegram.token.expose(), "s3cret-value");
    assert_eq!(telegram.headers["a"].expose(), "Bearer s3cret-value");
    assert_eq!(
        channels[1].1.as_ref().unwrap_err().to_string(),
        "autopilot.toml:5:9: error[E203] channels.discord.token: variable NOPE is not set"
    );
    let slack = channels[2].1.as_ref().unwrap_err().to_string();
    assert_eq!(slack, "autopilot.toml:7:9: error[E203] channels.slack.token: expected a string, found an integer");
}

#[test]
fn the_wrong_shape_of_a_whole_table_is_an_error_of_its_own() {
    let document = parse("channels = 3\n[schedules]\nname = \"a\"\n");
    let schedules = document.array::<Schedule>(&["schedules"], CODES, &mut Vec::new());
    assert_eq!(
        schedules.unwrap_err().to_string(),
        "autopilot.toml:2:1: error[E001] schedules: expected an array of tables, found a table"
    );
    let channels = document.entries::<Channel>(&["channels"], CODES, &mut Vec::new());
    assert_eq!(channels.unwrap_err().code, "E001");
}

#[test]
fn a_missing_table_is_the_default() {
    let document = parse("");
    let table = document.table::<Option<Budget>>(&["budget"], CODES, &mut Vec::new()).unwrap();
    assert_eq!(table, None);
    assert!(document.array::<Schedule>(&["schedules"], CODES, &mut Vec::new()).unwrap().is_empty());
    assert!(document.entries::<Channel>(&["channels"], CODES, &mut Vec::new()).unwrap().is_empty());
}

#[test]
fn a_finding_of_a_reader_is_placed_at_its_value_or_at_the_table_above() {
    let document = parse("[[schedules]]\nname = \"nightly\"\n  cron = \"0 25 * * *\"\n");
    assert_eq!(document.locate(&["schedules", "0", "cron"]), Some(Location { line: 3, column: 10 }));
    assert_eq!(document.locate(&["schedules", "0", "at"]), None);
    assert_eq!(document.locate(&["schedules", "1"]), None);
    assert_eq!(document.text(&["schedules", "0", "name"]), Some("nightly"));

    let path = ["schedules", "0", "cron"];
    let finding = document.finding(&path, "E102", Severity::Error, "hour 25 is outside 0-23");
    assert_eq!(finding.to_string(), "autopilot.toml:3:10: error[E102] schedules.nightly.cron: hour 25 is outside 0-23");
    let absent = document.finding(&["schedules", "0", "at"], "E112", Severity::Error, "none");
    assert_eq!((absent.line, absent.path.as_str()), (1, "schedules.nightly.at"));
    assert_eq!(
        serde_json::to_value(&absent).unwrap(),
        serde_json::json!({
            "file": "autopilot.toml", "line": 1, "column": 1, "code": "E112",
            "severity": "error", "path": "schedules.nightly.at", "message": "none"
        })
    );
}

#[test]
fn a_secret_is_never_shown_and_is_saved_as_written() {
    let document = parse("[channels.a]\ntoken = \"${TOKEN}\"\n[channels.b]\ntoken = \"literal-s3cret\"\n");
    let channels = document.entries::<Channel>(&["channels"], CODES, &mut Vec::new()).unwrap();
    for (_, channel) in &channels {
        let token = &channel.as_ref().unwrap().token;
        let shown = format!("{channel:?} {channel:#?} {token} {token:?} {document:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("***"));
    }
    let reference = &channels[0].1.as_ref().unwrap().token;
    assert_eq!(serde_json::to_string(reference).unwrap(), "\"${TOKEN}\"");
    assert!(!reference.is_literal());
    let literal = &channels[1].1.as_ref().unwrap().token;
    assert_eq!(serde_json::to_string(literal).unwrap(), "\"literal-s3cret\"");
    assert!(literal.is_literal());
}

#[test]
fn the_text_of_a_reference_never_passes_for_the_secret() {
    assert_eq!(serde_json::from_str::<Secret>("\"plain\"").unwrap().expose(), "plain");
    for reference in ["\"${TOKEN}\"", "\"env:TOKEN\"", "\"file:/etc/token\""] {
        assert!(serde_json::from_str::<Secret>(reference).is_err(), "{reference}");
    }
}

/// What is hidden is told by keys, not by what a program could read; ordinary values are not taken for secrets.
#[test]
fn the_secrets_of_a_file_are_found_by_their_keys() {
    let source = r#"
model = "token"
[profiles.x.providers.p]
type = "nonsense"
api_key = "literal-key"
headers = { X-Org = "header-value" }
[channels.slack]
bot_token = "${BOT}"
app_token = "env:UNSET"
[server.tokens]
ann = "anns"
[[routing.bindings]]
routing_key = "no secret"
"#;
    let set = |name: &str| (name == "BOT").then(|| "bot-value".to_owned());
    let document = Document::parse("x.toml", source).unwrap().with_environment(Environment::new(set));
    assert_eq!(document.secrets(), ["literal-key", "header-value", "bot-value", "anns"]);
    let leaves = document.leaves();
    let last = leaves.last().unwrap();
    assert_eq!((last.path.join("."), last.location.line), ("routing.bindings.0.routing_key".to_owned(), 13));
}
