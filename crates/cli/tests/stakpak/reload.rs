//! Files that change under a running instance: what takes effect by itself, what waits, and what is refused.

use serde_json::{Value, json};
use stakpak_test_support::{Reply, ScriptedLlm};

use crate::support::{Home, stderr, stdout, until};

const KEY: &str = "a-key-that-came-later";

fn config(llm: &ScriptedLlm) -> String {
    format!(
        "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
        llm.base_url()
    )
}

fn logged(home: &Home, text: &str) {
    until(text, || stdout(&home.run(&["logs", "-n", "1000"])).contains(text).then_some(()));
}

fn status(home: &Home) -> Value {
    serde_json::from_slice(&home.run(&["status", "--json"]).stdout).unwrap()
}

/// Providers and keys hold for the next run; a file that cannot be used leaves the last good one in use and is told.
#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_taken_up_and_a_bad_file_changes_nothing() {
    let (first, second) = (ScriptedLlm::start().await, ScriptedLlm::start().await);
    let home = Home::new();
    home.write("config.toml", &config(&first));
    let _up = home.up();
    first.push(Reply::text(["first"]));
    assert!(stdout(&home.run(&["run", "hello"])).contains("first"));

    home.write("config.toml", &config(&second));
    logged(&home, "config.toml is reloaded");
    let login = home.run(&["auth", "login", "--provider", "my", "--api-key", KEY]);
    assert!(login.status.success(), "{}", stderr(&login));
    until("the key", || {
        second.push(Reply::text(["second"]));
        assert!(stdout(&home.run(&["run", "hello"])).contains("second"));
        let sent = second.requests().last().and_then(|request| request.headers.get("authorization").cloned());
        (sent == Some(format!("Bearer {KEY}"))).then_some(())
    });

    home.write("config.toml", "[profiles.default\n");
    logged(&home, "config.toml is not reloaded, the last good one stays in use");
    assert!(status(&home)["config_errors"].to_string().contains("config.toml"), "{}", status(&home));
    home.write("config.toml", "[profiles.default]\nmodel = \"nowhere/x\"\n");
    until("the second complaint", || {
        let said = stdout(&home.run(&["logs", "-n", "1000"]));
        (said.matches("config.toml is not reloaded").count() == 2).then_some(())
    });
    let session = post(&_up.url, &_up.token).await;
    assert_eq!(session, 200, "the last good one answers");
}

/// A message to the instance itself: a command would read the broken file first.
async fn post(url: &str, token: &str) -> u16 {
    let client = reqwest::Client::new();
    let ask = |path: String, body: Value| client.post(format!("{url}{path}")).bearer_auth(token).json(&body).send();
    let session: Value = ask("/v1/sessions".into(), json!({ "title": "t" })).await.unwrap().json().await.unwrap();
    let id = session["session"]["id"].as_str().or(session["id"].as_str()).unwrap();
    let message = json!({ "message": { "role": "user", "content": "hello" }, "model": "my/test" });
    ask(format!("/v1/sessions/{id}/messages"), message).await.unwrap().status().as_u16()
}

/// `server.model` goes before that of the profile, also when it changes.
#[tokio::test(flavor = "multi_thread")]
async fn the_model_of_the_server_is_taken_up() {
    let llm = ScriptedLlm::start().await;
    let home = Home::new();
    home.write("config.toml", &config(&llm));
    home.write("autopilot.toml", "[server]\nmodel = \"my/second\"\n");
    let _up = home.up();
    assert_eq!(status(&home)["model"]["id"], "my/second");
    home.write("autopilot.toml", "[server]\nmodel = \"my/third\"\n");
    until("the third", || (status(&home)["model"]["id"] == "my/third").then_some(()));
    home.write("autopilot.toml", "[server]\nmodel = \"nowhere/x\"\n");
    logged(&home, "autopilot.toml is not reloaded");
    assert_eq!(status(&home)["restart_required"], json!([]));
}

/// What is read at the start only is named, for as long as it differs.
#[test]
fn what_waits_for_a_restart_is_named() {
    let home = Home::new();
    home.write("autopilot.toml", "");
    let _up = home.up();
    assert_eq!(status(&home)["restart_required"], json!([]));
    home.write("autopilot.toml", "[server]\nlisten = \"127.0.0.1:5999\"\n[watch]\ndb_path = \"other.db\"\n");
    let waiting = json!(["server.listen", "watch.db_path"]);
    until("what waits", || (status(&home)["restart_required"] == waiting).then_some(()));
    let said = stdout(&home.run(&["status"]));
    assert!(said.contains("restart stakpak") && said.contains("server.listen"), "{said}");
    home.write("autopilot.toml", "# nothing\n");
    until("nothing to wait", || (status(&home)["restart_required"] == json!([])).then_some(()));
}

/// A-P36: `watch.db_path` and `watch.log_dir` are where ledger and logs are, for `up` and for every other command.
#[test]
fn ledger_and_logs_are_where_the_file_says() {
    let home = Home::new();
    let watch = "[watch]\ndb_path = \"elsewhere/ledger.db\"\nlog_dir = \"~/my-logs\"\n";
    let schedule = "[[schedules]]\nname = \"a\"\ncron = \"@yearly\"\nprompt = \"p\"\n";
    home.write("autopilot.toml", &format!("{watch}{schedule}"));
    let up = home.up();
    assert!(home.path(".stakpak/elsewhere/ledger.db").exists());
    assert!(!home.path(".stakpak/autopilot/autopilot.db").exists());
    assert!(home.path("my-logs/server.log").exists() && !home.path(".stakpak/autopilot/logs/server.log").exists());
    assert!(home.run(&["schedule", "trigger", "a"]).status.success());
    let ledger = home.path(".stakpak/elsewhere/ledger.db").display().to_string();
    assert_eq!(status(&home)["scheduler"]["db_path"], ledger);
    assert_eq!(up.stop(), Some(0));
    assert!(!stdout(&home.run(&["logs"])).is_empty());
    assert!(stdout(&home.run(&["schedule", "history", "a"])).contains("manual"));
}
