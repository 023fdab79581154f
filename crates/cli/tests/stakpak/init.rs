//! `autopilot init` through the built binary: from an empty home to something that works, and nothing of what was there lost.

use std::{io::Write, os::unix::fs::PermissionsExt, process::Stdio};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use serde_json::{Value, json};
use stakpak_test_support::{BotApi, Reply, ScriptedLlm};

use crate::support::{Home, stderr, stdout};

const KEY: &str = "sk-a-key-that-nobody-may-see";
const TOKEN: &str = "123456:a-token-that-nobody-may-see";

/// Lists its models to who has the key; optionally an Ollama as well.
async fn provider() -> String {
    let models = get(|headers: HeaderMap| async move {
        if headers.get("authorization").is_some_and(|key| key.to_str().unwrap() == format!("Bearer {KEY}")) {
            return (StatusCode::OK, Json(json!({ "data": [{ "id": "embedder" }, { "id": "gpt-5-mini" }] })));
        }
        (StatusCode::UNAUTHORIZED, Json(json!({ "error": "no" })))
    });
    let tags = get(|| async {
        let names = ["nomic-embed-text:latest", "gemma:2b", "qwen3:8b"].map(|name| json!({ "name": name }));
        Json(json!({ "models": names }))
    });
    let show = post(|Json(asked): Json<Value>| async move {
        let tools = asked["model"] == "qwen3:8b";
        Json(json!({ "capabilities": if tools { json!(["completion", "tools"]) } else { json!(["completion"]) } }))
    });
    let router = Router::new().route("/v1/models", models).route("/api/tags", tags).route("/api/show", show);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Where no Ollama of this machine is found.
fn command(home: &Home, arguments: &[&str]) -> std::process::Command {
    let mut command = home.command(&[&["autopilot", "init"], arguments].concat());
    command.env("OLLAMA_HOST", "127.0.0.1:1");
    command
}

fn file(home: &Home, name: &str) -> String {
    std::fs::read_to_string(home.path(&format!(".stakpak/{name}"))).unwrap_or_default()
}

fn json_of(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{} {}", stdout(output), stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn without_anything_the_offline_model_is_set_up() {
    let home = Home::new();
    let said = command(&home, &[]).output().unwrap();
    assert!(said.status.success(), "{}", stderr(&said));
    assert!(stdout(&said).contains("builtin/offline") && stdout(&said).contains("stakpak up -d"), "{}", stdout(&said));
    assert_eq!(file(&home, "config.toml"), "");
    assert!(file(&home, "autopilot.toml").contains("[defaults]"));
    let run = home.run(&["run", "uptime"]);
    assert!(run.status.success(), "{}", stderr(&run));
}

/// A-P32: a key of the environment is written as a reference; the model is one that the provider offers.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_environment_is_found_tried_and_not_written() {
    let endpoint = format!("{}/v1", provider().await);
    let home = Home::new();
    let arguments = ["--provider", "openai", "--api-endpoint", &endpoint, "--json"];
    let set_up = json_of(&command(&home, &arguments).env("OPENAI_API_KEY", KEY).output().unwrap());
    assert_eq!(set_up["model"]["id"], "openai/gpt-5-mini", "{set_up}");
    assert_eq!(set_up["model"]["key_variable"], "OPENAI_API_KEY");
    assert_eq!(set_up["next"][0], "stakpak up -d --import-env");
    assert_eq!(
        file(&home, "config.toml"),
        format!(
            "[profiles.default]\nmodel = \"openai/gpt-5-mini\"\n\n[profiles.default.providers.openai]\ntype = \"openai\"\n\
             api_endpoint = \"{endpoint}\"\napi_key = \"env:OPENAI_API_KEY\"\n"
        )
    );
    for name in ["config.toml", "autopilot.toml"] {
        let mode = std::fs::metadata(home.path(&format!(".stakpak/{name}"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let detected = Home::new();
    let detected = json_of(&command(&detected, &["--no-test", "--json"]).env("GEMINI_API_KEY", KEY).output().unwrap());
    assert_eq!(
        (&detected["model"]["key_variable"], &detected["model"]["tested"]),
        (&json!("GEMINI_API_KEY"), &json!(false))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_refuses_is_not_written() {
    let url = provider().await;
    let endpoint = format!("{url}/v1");
    let home = Home::new();
    for (arguments, code, cause) in [
        (&["--provider", "openai", "--api-endpoint", &endpoint, "--api-key", "wrong"][..], 1, "refused the key (401"),
        (&["--api-endpoint", "http://127.0.0.1:1/v1", "--model", "m"], 1, "cannot be reached"),
        (&["--provider", "openai"], 2, "OPENAI_API_KEY"),
        (&["--provider", "ollama"], 1, "no Ollama answers at http://127.0.0.1:1/"),
        (&["--api-key", "x"], 2, "--provider"),
        (&["--target", "42"], 2, "--target needs --channel"),
        (&["--schedule", "a", "--cron", "99 * * * *", "--prompt", "p"], 1, "nothing was written"),
        (&["--schedule", "a", "--prompt", "p"], 2, "--cron"),
    ] {
        let refused = command(&home, arguments).output().unwrap();
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {} {}", stdout(&refused), stderr(&refused));
        assert!(stderr(&refused).contains(cause), "{arguments:?}: {}", stderr(&refused));
        assert_eq!((file(&home, "config.toml"), file(&home, "autopilot.toml")), (String::new(), String::new()));
    }
}

/// An Ollama is found, and of its models one that can call tools.
#[tokio::test(flavor = "multi_thread")]
async fn an_ollama_within_reach_is_found() {
    let url = provider().await;
    let home = Home::new();
    let host = url.strip_prefix("http://").unwrap();
    let set_up = json_of(&command(&home, &["--json"]).env("OLLAMA_HOST", host).output().unwrap());
    assert_eq!(set_up["model"]["id"], "ollama/qwen3:8b", "{set_up}");
    let written = file(&home, "config.toml");
    assert!(written.contains(&format!("type = \"custom\"\napi_endpoint = \"{url}/v1\"\n")), "{written}");
}

/// What the files say stays, byte for byte; flags and `--force` change what they name.
#[test]
fn what_is_there_is_kept() {
    let home = Home::new();
    let config = "# mine\n[profiles.default]   # odd\nmodel = \"my/a\" # the model\n\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"http://127.0.0.1:1/v1\"\n";
    let autopilot =
        "# mine too\n[[schedules]]\nname = \"a\"   # the first\ncron = \"@daily\"\nprompt = \"p\"\n\n[defaults] # d\n";
    home.write("config.toml", config);
    home.write("autopilot.toml", autopilot);
    let kept = json_of(&command(&home, &["--json"]).env("OPENAI_API_KEY", KEY).output().unwrap());
    assert_eq!((&kept["model"]["id"], &kept["model"]["kept"]), (&json!("my/a"), &json!(true)));
    assert_eq!((kept["config_changed"].clone(), kept["created"].clone()), (json!(false), json!(false)));
    assert_eq!((file(&home, "config.toml"), file(&home, "autopilot.toml")), (config.to_owned(), autopilot.to_owned()));

    let changed = command(&home, &["--model", "my/b", "--tz", "Europe/Berlin", "--schedule", "b"])
        .args(["--every", "15m", "--prompt", "q"])
        .output()
        .unwrap();
    assert!(changed.status.success(), "{}", stderr(&changed));
    assert_eq!(file(&home, "config.toml"), config.replace("my/a", "my/b"));
    let added = "\n[[schedules]]\nname = \"b\"\nevery = \"15m\"\nprompt = \"q\"\n";
    let written = file(&home, "autopilot.toml");
    assert!(written.contains("timezone = \"Europe/Berlin\"\n") && written.contains(added), "{written}");
    assert!(written.starts_with("# mine too\n[[schedules]]\nname = \"a\"   # the first\n"), "{written}");

    let forced = command(&home, &["--force", "--provider", "openai", "--no-test"]).env("OPENAI_API_KEY", KEY).output();
    assert!(forced.unwrap().status.success());
    let written = file(&home, "config.toml");
    assert!(
        written.starts_with("# mine\n[profiles.default]   # odd\nmodel = \"openai/gpt-5\" # the model\n"),
        "{written}"
    );
    assert!(written.contains("[profiles.default.providers.my]"), "{written}");

    home.write("config.toml", "[profiles.default\n");
    let broken = command(&home, &["--json"]).output().unwrap();
    assert_eq!(broken.status.code(), Some(1));
    assert!(stderr(&broken).contains("config.toml:1:"), "{}", stderr(&broken));
    assert_eq!(file(&home, "config.toml"), "[profiles.default\n");
}

/// The questions at a terminal, answered one by one.
#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_is_asked() {
    let telegram = BotApi::start().await;
    let home = Home::new();
    let binary = env!("CARGO_BIN_EXE_stakpak");
    let command = format!("{binary} autopilot init --api-base-url {}", telegram.base_url());
    // `script` gives the command a terminal of its own.
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env_clear().env("HOME", home.directory.path());
    script.env("PATH", std::env::var_os("PATH").unwrap()).env("SHELL", "/bin/sh").env("OLLAMA_HOST", "127.0.0.1:1");
    script.env("TELEGRAM_BOT_TOKEN", TOKEN).current_dir(home.directory.path());
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Model; zone, after a slip; channel; id; where to report; schedule, when, what.
    let answers = ["9", "offline", "", "42", "", "Nowhere/At", "Europe/Stockholm", "morning", "", ""];
    stdin.write_all((answers.join("\n") + "\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let shown = stdout(&output);
    assert!(shown.contains("one of the list") && shown.contains("an IANA time zone"), "{shown}");
    assert!(shown.contains("@test_bot") && shown.contains("stakpak up -d --import-env"), "{shown}");
    let written = file(&home, "autopilot.toml");
    for text in [
        "timezone = \"Europe/Stockholm\"",
        "token = \"${TELEGRAM_BOT_TOKEN}\"",
        "approvers = [\"42\"]",
        "[notifications]\nchannel = \"telegram\"\ntarget = \"42\"\n",
        "name = \"morning\"\ncron = \"0 8 * * *\"\nprompt = \"status\"\n",
    ] {
        assert!(written.contains(text), "{text}: {written}\n{shown}");
    }
}

/// The commands of the README: with key and token in the environment the model answers in the chat, and a schedule reports there.
#[tokio::test(flavor = "multi_thread")]
async fn few_commands_lead_to_a_conversation_and_a_report() {
    let (telegram, llm) = (BotApi::start().await, ScriptedLlm::start().await);
    llm.always(Reply::text(["all is well"]));
    let home = Home::new();
    let (endpoint, base) = (llm.base_url(), telegram.base_url());
    let set_up = command(&home, &["--yes", "--provider", "openai", "--api-endpoint", &endpoint, "--no-test"])
        .args(["--channel", "telegram", "--approver", "42", "--target", "42", "--api-base-url", &base])
        .args(["--schedule", "check", "--cron", "* * * * * *", "--prompt", "is all well?"])
        .env("OPENAI_API_KEY", KEY)
        .env("TELEGRAM_BOT_TOKEN", TOKEN)
        .output()
        .unwrap();
    assert!(set_up.status.success(), "{}", stderr(&set_up));
    let mut up = home.command(&["up", "--json", "--bind", "127.0.0.1:0"]);
    up.env("OPENAI_API_KEY", KEY).env("TELEGRAM_BOT_TOKEN", TOKEN);
    let _up = home.start(up);
    telegram.say(42, "hello");
    telegram
        .wait_for_sent(|sent| sent.iter().any(|sent| sent.chat_id == 42 && sent.text.contains("all is well")))
        .await;
    telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.chat_id == 42 && sent.text.contains("check"))).await;
    let seen = stdout(&set_up) + &stderr(&set_up) + &file(&home, "config.toml") + &file(&home, "autopilot.toml");
    assert!(!seen.contains("nobody-may-see"), "{seen}");
}
