//! `sessions …`, and the flags that every command takes.

use serde_json::Value;

use crate::support::{Home, stderr, stdout};

fn said(home: &Home, arguments: &[&str]) -> Value {
    let output = home.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The shapes of earlier versions, with and without a running instance.
#[test]
fn sessions_are_listed_and_shown() {
    let home = Home::new();
    let _up = home.up();
    for prompt in ["status of one", "status of two", "status of three"] {
        assert!(home.run(&["run", prompt]).status.success());
    }
    let list = said(&home, &["sessions", "list", "--json", "--limit", "2"]);
    assert_eq!(list["backend"]["kind"], "local");
    let titles: Vec<&str> =
        list["sessions"].as_array().unwrap().iter().map(|it| it["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["status of three", "status of two"], "newest first");
    let found = said(&home, &["session", "list", "--json", "--search", "OF ONE"]);
    let session = &found["sessions"][0];
    assert_eq!((&session["title"], found["sessions"].as_array().unwrap().len()), (&Value::from("status of one"), 1));
    for key in ["visibility", "status", "cwd", "created_at", "updated_at", "active_checkpoint_id", "last_message_at"] {
        assert!(session[key].is_string(), "{key}: {session}");
    }
    let rest = said(&home, &["sessions", "list", "--json", "--offset", "2"]);
    assert_eq!(rest["sessions"][0]["id"], session["id"]);

    let id = session["id"].as_str().unwrap();
    let shown = said(&home, &["sessions", "show", &id[..8], "--json"]);
    let messages = shown["messages"].as_array().unwrap();
    assert_eq!(Value::from(messages.len()), shown["message_count"]);
    let newest = said(&home, &["sessions", "show", id, "--json", "--limit", "1"]);
    assert_eq!(newest["messages"][0], messages[messages.len() - 1]);
    let older = said(&home, &["sessions", "show", id, "--json", "--limit", "1", "--offset", "1"]);
    assert_eq!(older["messages"][0], messages[messages.len() - 2]);
    let user = said(&home, &["sessions", "show", id, "--json", "--role", "user", "--limit", "0"]);
    assert_eq!(user["messages"].as_array().unwrap().len(), 1);
    let text = stdout(&home.run(&["sessions", "show", id]));
    assert!(text.contains("\nuser:\n") && text.contains("\nstatus of one\n"), "{text}");
    assert!(text.contains("stakpak__run_command {\"command\":\"uptime\"}"), "{text}");
}

/// Scripts know an error by its word, on stderr, and the exit code.
#[test]
fn errors_have_a_word() {
    let home = Home::new();
    let _up = home.up();
    for (arguments, code, word) in [
        (["sessions", "show", "nonsense"].as_slice(), 2, "invalid_argument"),
        (&["sessions", "show", "00000000-0000-4000-8000-000000000000"], 1, "not_found"),
        (&["sessions", "show", "00000000"], 1, "not_found"),
        (&["sessions", "show", "00000000", "--role", "robot"], 2, "invalid_argument"),
    ] {
        let output = home.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(error["code"], word, "{arguments:?}: {error}");
    }
}

/// `-q` leaves the answer, `--verbose` adds what goes on; both before and behind the command.
#[test]
fn quiet_and_verbose_change_stderr_only() {
    let home = Home::new();
    let plain = home.run(&["run", "help"]);
    assert!(stderr(&plain).contains("offline model"), "{}", stderr(&plain));
    let quiet = home.run(&["-q", "run", "help"]);
    assert_eq!((stdout(&quiet), stderr(&quiet)), (stdout(&plain), String::new()));
    let verbose = home.run(&["run", "--verbose", "help"]);
    assert_eq!(stdout(&verbose), stdout(&plain));
    assert!(stderr(&verbose).contains("INFO") && stderr(&verbose).contains("run accepted"), "{}", stderr(&verbose));
    assert!(!stderr(&verbose).contains('\u{1b}'), "no colours where nobody watches");
    assert_eq!(home.run(&["-q", "--debug", "status"]).status.code(), Some(2));
    assert!(home.run(&["--no-color", "status"]).status.success());
}
