//! A model behind an OpenAI-compatible endpoint, through the whole product.

use crate::support::{Home, stderr, stdout};
use serde_json::json;
use stakpak_test_support::{Reply, ScriptedLlm};

fn configured(endpoint: &str) -> Home {
    let home = Home::new();
    home.write(
        "config.toml",
        &format!(
            "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{endpoint}\"\napi_key = \"secret-key-0123456789\"\n"
        ),
    );
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_goes_there_and_back() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::tool_call("call_1", "stakpak__run_command", &json!({"command": "echo $((6*7))"})));
    llm.push(Reply::text(["the answer ", "is 42"]));
    let home = configured(&llm.base_url());
    let run = home.run(&["run", "--approve-all", "what is six times seven?"]);
    assert!(stdout(&run).contains("the answer is 42"), "{}{}", stdout(&run), stderr(&run));
    let second = &llm.requests()[1].body;
    let result = second["messages"].as_array().unwrap().iter().find(|message| message["role"] == "tool").unwrap();
    assert_eq!(result["content"], "42");
    assert_eq!(llm.requests()[0].headers["authorization"], "Bearer secret-key-0123456789");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_is_retried_as_told() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::rate_limited(1));
    llm.push(Reply::text(["there now"]));
    let home = configured(&llm.base_url());
    let run = home.run(&["run", "hello"]);
    assert!(
        stdout(&run).contains("there now") && stderr(&run).contains("trying again"),
        "{}{}",
        stdout(&run),
        stderr(&run)
    );
    assert_eq!(llm.requests().len(), 2);
}

#[test]
fn a_dead_endpoint_names_host_port_and_cause() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let home = configured(&format!("http://{address}/v1"));
    let run = home.run(&["run", "hello"]);
    assert_eq!(run.status.code(), Some(1));
    let said = stderr(&run);
    let error = said.lines().find(|line| line.starts_with("error:")).unwrap_or_else(|| panic!("{said}"));
    assert!(error.contains(&address.to_string()) && error.contains("refused"), "{error}");
    assert!(!said.contains("secret-key"), "{said}");
}

/// A provider known by name needs only its key, which the environment may hold; no tool sees it (C-P33).
#[tokio::test(flavor = "multi_thread")]
async fn a_known_provider_takes_its_key_from_the_environment() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::tool_call("call_1", "stakpak__run_command", &json!({"command": "echo \"<$OPENAI_API_KEY>\""})));
    llm.push(Reply::text(["done"]));
    let home = Home::new();
    let table = "[profiles.default.providers.openai]\ntype = \"openai\"\n";
    home.write("config.toml", &format!("{table}api_endpoint = \"{}\"\n", llm.base_url()));
    let mut run = home.command(&["run", "--approve-all", "hello"]);
    let run = run.env("OPENAI_API_KEY", "key-of-the-environment").output().unwrap();
    assert!(stdout(&run).contains("done"), "{}{}", stdout(&run), stderr(&run));
    let requests = llm.requests();
    assert_eq!(requests[0].headers["authorization"], "Bearer key-of-the-environment");
    assert_eq!(requests[0].body["model"], "gpt-5", "its own default");
    let messages = requests[1].body["messages"].as_array().unwrap();
    assert_eq!(messages.iter().find(|message| message["role"] == "tool").unwrap()["content"], "<>");

    home.write("config.toml", table);
    let keyless = home.run(&["run", "hello"]);
    assert_eq!(keyless.status.code(), Some(1));
    assert!(stderr(&keyless).contains("OPENAI_API_KEY"), "{}", stderr(&keyless));
}

/// C-P64: each type is spoken to as its vendor has it, under the exact id; `api` says otherwise where there is a choice.
#[tokio::test(flavor = "multi_thread")]
async fn each_type_is_spoken_to_in_its_protocol() {
    let llm = ScriptedLlm::start().await;
    let (v1, v1beta, bedrock) = (llm.base_url(), llm.gemini_url(), llm.bedrock_url());
    let converse = || Reply::bedrock(&[json!({ "text": "done" })], "end_turn");
    let claude = || Reply::anthropic(&[json!({ "type": "text", "text": "done" })], "end_turn");
    let gemini = || Reply::gemini(&[json!([{ "text": "done" }])], "STOP");
    let message = json!({ "type": "message", "id": "m", "content": [{ "type": "output_text", "text": "done" }] });
    let responses = || Reply::responses(std::slice::from_ref(&message), "completed");
    for (kind, endpoint, more, id, path, reply) in [
        ("anthropic", &v1, "", "claude-x-max", "/v1/messages", claude()),
        ("google", &v1beta, "", "x-max", "/v1beta/models/x-max:streamGenerateContent?alt=sse", gemini()),
        ("gemini", &v1beta, "", "x", "/v1beta/models/x:streamGenerateContent?alt=sse", gemini()),
        ("openai", &v1, "", "x", "/v1/chat/completions", Reply::text(["done"])),
        ("openai", &v1, "api = \"responses\"\n", "x", "/v1/responses", responses()),
        ("openrouter", &v1, "", "a/b", "/v1/chat/completions", Reply::text(["done"])),
        ("custom", &v1, "api = \"responses\"\n", "x-max", "/v1/responses", responses()),
        ("stakpak", &v1, "", "x", "/v1/chat/completions", Reply::text(["done"])),
        ("bedrock", &bedrock, "", "eu.x-v1:0", "/model/eu.x-v1:0/converse-stream", converse()),
    ] {
        let home = Home::new();
        let table = format!(
            "[profiles.default]\nmodel = \"p/{id}\"\n[profiles.default.providers.p]\ntype = \"{kind}\"\n\
             api_key = \"secret-key-0123456789\"\napi_endpoint = \"{endpoint}\"\n{more}"
        );
        home.write("config.toml", &table);
        llm.push(reply);
        let run = home.run(&["run", "hello"]);
        assert!(stdout(&run).contains("done"), "{kind}: {}{}", stdout(&run), stderr(&run));
        let asked = llm.requests().pop().unwrap();
        assert_eq!(asked.path, path, "{kind}");
        assert!(path.contains(id) || asked.body["model"] == id, "{kind}");
    }
    let home = Home::new();
    home.write("config.toml", "[profiles.default.providers.p]\ntype = \"gemini\"\napi_key = \"k\"\napi = \"chat\"\n");
    let run = home.run(&["run", "hello"]);
    assert!(stderr(&run).contains("api is for types openai and custom"), "{}", stderr(&run));
}

/// M14, C-P66: what a server sends, and what it was sent, is in no log.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_is_in_no_log() {
    let llm = ScriptedLlm::start().await;
    let home = Home::new();
    let table = format!(
        "[profiles.default]\nmodel = \"p/x\"\n[profiles.default.providers.p]\ntype = \"anthropic\"\n\
         api_key = \"secret-key-0123456789\"\napi_endpoint = \"{}\"\n",
        llm.base_url()
    );
    home.write("config.toml", &table);
    let error = json!({ "type": "invalid_request_error", "message": "no", "echo": "marker-of-the-body" });
    llm.push(Reply::events().then_event(&json!({ "type": "error", "error": error })));
    llm.push(Reply::events().then_event(&json!({ "type": "odd", "echo": "marker-of-the-body" })));
    llm.push(Reply::status(400, &json!({ "error": error })));
    let up = home.up_with(&["--verbose"]);
    for _ in 0..3 {
        let run = home.run(&["run", "--verbose", "marker-of-the-request"]);
        assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
        assert!(!stderr(&run).contains("marker-of-the-body"), "{}", stderr(&run));
    }
    drop(up);
    let logs = std::fs::read_dir(home.path(".stakpak/autopilot/logs")).unwrap();
    let logged: String = logs.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert!(logged.contains("run ended"), "{logged}");
    for secret in ["marker-of", "secret-key"] {
        assert!(!logged.contains(secret), "{logged}");
    }
}

/// A configured provider that cannot be used never falls back to the offline model.
#[test]
fn an_unsupported_provider_is_an_error() {
    let home = Home::new();
    home.write("config.toml", "[profiles.default.providers.x]\ntype = \"github-copilot\"\napi_key = \"k\"\n");
    let run = home.run(&["run", "hello"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(stderr(&run).contains("profiles.default.providers.x"), "{}", stderr(&run));
}

/// A profile without provider tables takes the key that the environment has; what it names itself comes first.
#[test]
fn a_key_in_the_environment_is_enough() {
    let home = Home::new();
    home.write(
        "config.toml",
        "[profiles.named]\nmodel = \"openai/small\"\n[profiles.off]\nmodel = \"builtin/offline\"\n",
    );
    for (profile, model) in [
        ("default", "openai/gpt-5"),
        ("readonly", "openai/gpt-5"),
        ("named", "openai/small"),
        ("off", "builtin/offline"),
    ] {
        let mut up = home.command(&["up", "--json", "--bind", "127.0.0.1:0", "--profile", profile]);
        up.env("OPENAI_API_KEY", "key-of-the-environment");
        assert_eq!(home.start(up).ready["model"], model, "{profile}");
    }
}

/// `readonly` is there without being written, and has none of the grants of `default`. It is confined, too.
#[test]
fn readonly_grants_nothing_that_writes() {
    let home = Home::new();
    home.write("config.toml", "[profiles.default]\nauto_approve = [\"run_command\"]\n");
    for (profile, is_made) in [("readonly", false), ("default", true)] {
        home.run(&["run", "--profile", profile, "run touch made"]);
        assert_eq!(home.path("made").exists(), is_made, "{profile}");
    }
}

/// Keys of providers and tokens of channels are hidden wherever a tool prints them, whoever reads them (A-P42).
#[tokio::test(flavor = "multi_thread")]
async fn the_model_never_sees_a_key_or_a_token() {
    let llm = ScriptedLlm::start().await;
    let command = "echo secret-key-0123456789 word-of-the-bot";
    llm.push(Reply::tool_call("call_1", "stakpak__run_command", &json!({ "command": command })));
    llm.push(Reply::text(["done"]));
    let home = configured(&llm.base_url());
    home.write("autopilot.toml", "[channels.discord]\nenabled = false\ntoken = \"word-of-the-bot\"\n");
    let run = home.run(&["run", "--approve-all", "hello"]);
    assert!(stdout(&run).contains("done"), "{}{}", stdout(&run), stderr(&run));
    let requests = llm.requests();
    let messages = requests[1].body["messages"].as_array().unwrap();
    let result = messages.iter().find(|message| message["role"] == "tool").unwrap()["content"].as_str().unwrap();
    assert_eq!(result.trim(), "[REDACTED] [REDACTED]");
}

/// A-P36: what a profile says of its runs reaches them.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_has_the_prompt_of_its_profile() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::text(["yes"]));
    let home = configured(&llm.base_url());
    let config = std::fs::read_to_string(home.path(".stakpak/config.toml")).unwrap();
    let prompted =
        config.replace("[profiles.default]\n", "[profiles.default]\nsystem_prompt = \"You mind the mills.\"\n");
    home.write("config.toml", &prompted);
    assert!(home.run(&["run", "hello"]).status.success());
    let messages = llm.requests()[0].body["messages"].to_string();
    assert!(messages.contains("You mind the mills."), "{messages}");
}

/// A budget of the profile ends its runs before they pass it, and says which key that is; without a price nothing runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_stays_in_the_budget_of_its_profile() {
    let llm = ScriptedLlm::start().await;
    let home = configured(&llm.base_url());
    let config = std::fs::read_to_string(home.path(".stakpak/config.toml")).unwrap();
    let cost = "[cost.\"my/test\"]\ninput = 1000000\noutput = 1000000\n";
    for (limit, price, cause) in [
        ("tokens_per_run = 10", "", "profiles.default.budget.tokens_per_run"),
        ("usd_per_run = 0.01", cost, "profiles.default.budget.usd_per_run"),
        ("usd_per_run = 0.01", "", "[cost."),
    ] {
        let budget = format!("[profiles.default]\nbudget = {{ {limit} }}\n");
        home.write("config.toml", &format!("{}{price}", config.replace("[profiles.default]\n", &budget)));
        let run = home.run(&["run", "hello"]);
        assert_eq!(run.status.code(), Some(1), "{limit}");
        assert!(stderr(&run).contains(cause), "{limit}: {}", stderr(&run));
        let doctor = stdout(&home.run(&["doctor"]));
        let is_told = doctor.contains("the price of my/test is not known");
        assert_eq!(is_told, limit.starts_with("usd") && price.is_empty(), "{limit}: {doctor}");
    }
    assert!(llm.requests().is_empty(), "nothing was asked");
}

/// Over processes: what one has spent is spent for the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_profile_has_so_much_a_day() {
    let llm = ScriptedLlm::start().await;
    let home = configured(&llm.base_url());
    let config = std::fs::read_to_string(home.path(".stakpak/config.toml")).unwrap();
    let cost = "[cost.\"my/test\"]\ninput = 1\noutput = 1\n";
    llm.push(Reply::text(["done"]));
    assert!(home.run(&["run", "hello"]).status.success());
    for key in ["runs_per_day = 1", "tokens_per_day = 10", "usd_per_day = 0.000001"] {
        let budget = format!("[profiles.all]\nbudget = {{ {key} }}\n[profiles.default]\n");
        home.write("config.toml", &format!("{}{cost}", config.replace("[profiles.default]\n", &budget)));
        let run = home.run(&["run", "hello"]);
        assert_eq!(run.status.code(), Some(1), "{key}");
        let named = format!("profiles.default.budget.{}", key.split(' ').next().unwrap());
        assert!(stderr(&run).contains(&named), "{key}: {}", stderr(&run));
    }
    assert_eq!(llm.requests().len(), 1, "nothing was asked");
    home.write(
        "config.toml",
        &config.replace("[profiles.default]\n", "[profiles.default]\nbudget = { runs_per_day = 2 }\n"),
    );
    llm.push(Reply::text(["done"]));
    let run = home.run(&["run", "hello"]);
    assert!(run.status.success(), "{}", stderr(&run));
}

/// A-P36: what a provider of one's own has is what the file lists.
#[tokio::test(flavor = "multi_thread")]
async fn the_models_of_a_provider_are_listed() {
    let home = configured("http://127.0.0.1:9");
    let config = std::fs::read_to_string(home.path(".stakpak/config.toml")).unwrap();
    home.write("config.toml", &format!("{config}models = [\"first\", \"second\"]\n"));
    let up = home.up();
    let listed = reqwest::Client::new().get(format!("{}/v1/models", up.url)).bearer_auth(&up.token).send();
    let listed = listed.await.unwrap().text().await.unwrap();
    assert!(listed.contains("\"first\"") && listed.contains("\"second\""), "{listed}");
}
