//! `auth …` through the built binary: keys apart from config.toml, used and never shown.

use std::{io::Write, os::unix::fs::PermissionsExt, process::Stdio};

use serde_json::{Value, json};
use stakpak_test_support::{Reply, ScriptedLlm};

use crate::support::{Home, stderr, stdout};

const KEY: &str = "sk-a-key-that-nobody-may-see";

fn auth(home: &Home, arguments: &[&str]) -> std::process::Output {
    let output = home.run(&[&["auth"], arguments].concat());
    assert!(!stdout(&output).contains(KEY) && !stderr(&output).contains(KEY), "{arguments:?}");
    output
}

fn json_of(home: &Home, arguments: &[&str]) -> Value {
    let output = auth(home, &[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)))
}

/// From stdin to the provider's request, by a file of its own that only its owner reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_key_is_sent_to_its_provider_and_shown_nowhere() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::text(["done"]));
    let home = Home::new();
    home.write("config.toml", "# mine\n[profiles.default]\nmodel = \"my/test\"\n");
    let mut login =
        home.command(&["auth", "login", "--provider", "my", "--endpoint", &llm.base_url(), "--api-key", "-"]);
    let mut login = login.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(login.stdin.take().unwrap(), "{KEY}").unwrap();
    let login = login.wait_with_output().unwrap();
    assert!(login.status.success() && !stdout(&login).contains(KEY), "{}", stderr(&login));

    let path = home.path(".stakpak/auth.toml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let config = std::fs::read_to_string(home.path(".stakpak/config.toml")).unwrap();
    assert!(config.starts_with("# mine\n") && config.contains(&llm.base_url()) && !config.contains(KEY), "{config}");

    let run = home.run(&["run", "hello"]);
    assert!(stdout(&run).contains("done"), "{}{}", stdout(&run), stderr(&run));
    assert_eq!(llm.requests()[0].headers["authorization"], format!("Bearer {KEY}"));
    for shown in [&["config", "show", "--effective"][..], &["doctor"], &["status", "--json"], &["config", "list"]] {
        let output = home.run(shown);
        assert!(!stdout(&output).contains(KEY) && !stderr(&output).contains(KEY), "{shown:?}");
    }
    let entry = json!([{ "profile": "default", "provider": "my", "type": "api" }]);
    assert_eq!(json_of(&home, &["list"])["credentials"], entry);

    let said = stdout(&home.run(&["config", "show", "--effective"]));
    assert!(said.contains("profiles.default.providers.my.api_key = \"***\"  (auth.toml)"), "{said}");
    assert!(auth(&home, &["logout", "--provider", "my"]).status.success());
    assert_eq!(json_of(&home, &["list"])["credentials"], json!([]));
    let again = auth(&home, &["logout", "--provider", "my"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("auth list"), "{}", stderr(&again));
}

/// A provider of the file with a key of its own is not given another that would not be used.
#[test]
fn a_key_that_would_not_be_used_is_not_stored() {
    let home = Home::new();
    let provider = "[profiles.ops.providers.openai]\ntype = \"openai\"\n";
    home.write("config.toml", &format!("{provider}api_key = \"of-file\"\n[profiles.free]\n"));
    for (arguments, code, cause) in [
        (&["--profile", "ops", "login", "--provider", "openai"][..], 1, "profiles.ops.providers.openai.api_key"),
        (&["--profile", "gone", "login", "--provider", "openai"], 1, "gone"),
        (&["login", "--provider", "nobody"], 2, "--endpoint"),
        (&["login", "--provider", "amazon-bedrock"], 2, "not supported"),
        (&["login"], 2, "--provider"),
        (&["login", "--provider", "openai", "--api-key", "two words"], 2, "spaces"),
    ] {
        let mut arguments = arguments.to_vec();
        if !arguments.contains(&"--api-key") {
            arguments.extend(["--api-key", KEY]);
        }
        let output = auth(&home, &arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {}", stderr(&output));
        assert!(stderr(&output).contains(cause), "{arguments:?} {}", stderr(&output));
    }
    assert!(!home.path(".stakpak/auth.toml").exists());

    home.write(
        "auth.toml",
        "# of an earlier version\n[all.openai]\ntype = \"oauth\"\naccess = \"a\"\nrefresh = \"r\"\n",
    );
    assert_eq!(json_of(&home, &["list"])["credentials"][0]["type"], "oauth");
    let login = auth(&home, &["--profile", "all", "login", "--provider", "openai", "--api-key", KEY]);
    assert!(login.status.success(), "{}", stderr(&login));
    let file = std::fs::read_to_string(home.path(".stakpak/auth.toml")).unwrap();
    assert_eq!(file, format!("# of an earlier version\n[all.openai]\ntype = \"api\"\nkey = \"{KEY}\"\n"));
    let of = |profile: &str| json_of(&home, &["--profile", profile, "status"])["providers"][0].clone();
    assert_eq!(of("free"), json!({ "key": "auth.toml", "provider": "openai" }));
    assert_eq!(of("ops"), json!({ "key": "config.toml", "provider": "openai" }));
}

/// What cannot be read is told at its line, and not written over.
#[test]
fn a_broken_file_of_keys_is_left_as_it_is() {
    let home = Home::new();
    home.write("auth.toml", "[all.openai\n");
    let login = auth(&home, &["login", "--provider", "openai", "--api-key", KEY]);
    assert_eq!(login.status.code(), Some(1));
    assert!(stderr(&login).contains("auth.toml:1"), "{}", stderr(&login));
    let validate = home.run(&["config", "validate"]);
    assert!(!validate.status.success() && stdout(&validate).contains("auth.toml:1"), "{}", stdout(&validate));
    assert_eq!(std::fs::read_to_string(home.path(".stakpak/auth.toml")).unwrap(), "[all.openai\n");
}
