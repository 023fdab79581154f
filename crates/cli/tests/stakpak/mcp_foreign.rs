//! Tool servers and clients that were not written here: the reference servers and the official SDK and conformance suite of
//! the protocol. `.ci/proofs` installs them; where they are not, a line says so.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use stakpak_client::SendMessageOptions;
use stakpak_protocol::{AutoApproveOverride, Message, RunOverrides};
use stakpak_test_support::{Reply, ScriptedLlm};

use crate::support::{Home, stderr, stdout};

/// Where they are; another place is named by `STAKPAK_PROOF_MCP`.
fn folder() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-support/proofs/mcp");
    std::env::var_os("STAKPAK_PROOF_MCP").map_or(beside, PathBuf::from)
}

/// One of these programs, and a line where it is not installed.
fn program(name: &str) -> Option<String> {
    let path = folder().join(name);
    if !path.exists() || Command::new("node").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: {} is not there, or no node; .ci/proofs installs it", path.display());
        return None;
    }
    Some(path.canonicalize().unwrap().to_str().unwrap().to_owned())
}

const EVERYTHING: &str = "node_modules/.bin/mcp-server-everything";
const FILES: &str = "node_modules/.bin/mcp-server-filesystem";
const TIME: &str = "venv/bin/mcp-server-time";
const CONFORMANCE: &str = "node_modules/.bin/conformance";

/// Profiles whose models are scripted, over chat completions and over Anthropic's messages.
fn configured(llm: &ScriptedLlm) -> Home {
    let home = Home::new();
    let endpoint = llm.base_url();
    home.write(
        "config.toml",
        &format!(
            "[profiles.default]\nmodel = \"my/test\"\nauto_approve = [\"run_command\"]\n\
             [profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{endpoint}\"\n\
             [profiles.default.providers.ant]\ntype = \"anthropic\"\napi_endpoint = \"{endpoint}\"\napi_key = \"key-of-a-test\"\n"
        ),
    );
    home
}

/// What the model was told of its calls in this request, in order.
fn results(llm: &ScriptedLlm, request: usize) -> Vec<String> {
    let requests = llm.requests();
    let messages = requests[request].body["messages"].as_array().unwrap().iter();
    let results = messages.filter(|message| message["role"] == "tool");
    results.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_servers_are_listed_and_called_from_a_conversation() {
    let llm = ScriptedLlm::start().await;
    let home = configured(&llm);
    std::fs::write(home.path("notes"), "written by hand").unwrap();
    let root = home.directory.path().canonicalize().unwrap();
    let mut there = Vec::new();
    for (name, place, arguments) in
        [("everything", EVERYTHING, vec![]), ("files", FILES, vec![root.to_str().unwrap()]), ("time", TIME, vec![])]
    {
        let Some(path) = program(place) else { continue };
        let added = home.run(&[&["mcp", "add", name, "--", &path], &arguments[..]].concat());
        assert!(added.status.success(), "{}", stderr(&added));
        there.push(name);
    }
    let notes = root.join("notes");
    let calls: Vec<(&str, &str, Value, &str)> = vec![
        ("everything", "everything__echo", json!({"message": "hello"}), "Echo: hello"),
        ("everything", "everything__get-sum", json!({"a": 2, "b": 3}), "The sum of 2 and 3 is 5"),
        ("everything", "everything__get-structured-content", json!({"location": "Chicago"}), "temperature"),
        ("everything", "everything__get-tiny-image", json!({}), "<non-text tool result omitted for safety>"),
        ("everything", "everything__trigger-long-running-operation", json!({"duration": 1, "steps": 2}), "completed"),
        ("files", "files__read_text_file", json!({"path": notes}), "written by hand"),
        ("files", "files__write_file", json!({"path": root.join("made"), "content": "by the model"}), "Success"),
        ("files", "files__read_text_file", json!({"path": "/etc/hostname"}), "denied"),
        (
            "time",
            "time__convert_time",
            json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}),
            "21:00",
        ),
    ];
    let calls: Vec<_> = calls.into_iter().filter(|(server, ..)| there.contains(server)).collect();
    if calls.is_empty() {
        return;
    }
    let tested = home.run(&["mcp", "test", "--json"]);
    assert!(tested.status.success(), "{}{}", stdout(&tested), stderr(&tested));

    let ids: Vec<String> = (0..calls.len()).map(|call| format!("call_{call}")).collect();
    let made: Vec<_> =
        ids.iter().zip(&calls).map(|(id, (_, tool, arguments, _))| (&**id, *tool, arguments.clone())).collect();
    llm.push(Reply::tool_calls(&made));
    llm.push(Reply::text(["Done."]));
    let up = home.up_with(&["--workdir", root.to_str().unwrap()]);
    let client = up.client();
    let session = client.create_session("foreign").await.unwrap().id.to_string();
    let overrides =
        RunOverrides { auto_approve: Some(AutoApproveOverride::Mode("all".into())), ..RunOverrides::default() };
    let options = SendMessageOptions { overrides: Some(overrides), ..SendMessageOptions::default() };
    let posted = client.send_messages(&session, vec![Message::user("use them")], options).await.unwrap();
    let mut events = client.subscribe_events(&session, Some(posted.cursor)).await.unwrap();
    while !events.next_event().await.unwrap().envelope().is_some_and(|envelope| envelope.event.is_terminal()) {}
    let offered = llm.requests()[0].body["tools"].to_string();
    let told = results(&llm, 1);
    assert_eq!(told.len(), calls.len(), "{told:?}");
    for ((_, tool, _, expected), told) in calls.iter().zip(&told) {
        assert!(offered.contains(tool), "{tool} is not offered");
        assert!(told.contains(expected), "{tool}: {told}");
    }
    if there.contains(&"files") {
        assert_eq!(std::fs::read_to_string(home.path("made")).unwrap(), "by the model");
    }
    assert_eq!(up.stop(), Some(0));
    if there.contains(&"everything") {
        a_model_that_takes_images_gets_them(&home, &llm);
    }
}

fn a_model_that_takes_images_gets_them(home: &Home, llm: &ScriptedLlm) {
    let call = json!({ "type": "tool_use", "id": "toolu_1", "name": "everything__get-tiny-image", "input": {} });
    llm.push(Reply::anthropic(&[call], "tool_use"));
    llm.push(Reply::anthropic(&[json!({ "type": "text", "text": "A tiny one." })], "end_turn"));
    let asked = llm.requests().len();
    let ran = home.run(&["run", "--model", "ant/claude-x", "--tool", "everything__get-tiny-image", "show it"]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    let blocks = llm.requests()[asked + 1].body.pointer("/messages/2/content/0/content").cloned().unwrap();
    let image = blocks.as_array().unwrap().iter().find(|block| block["type"] == "image").unwrap();
    assert_eq!(image["source"]["media_type"], "image/png");
    assert!(image["source"]["data"].as_str().unwrap().starts_with("iVBOR"), "{image}");
}

/// A home whose tools are served without a question but for `create`.
fn serving() -> Home {
    let home = Home::new();
    home.write("config.toml", "[profiles.default]\nmodel = \"builtin/offline\"\nauto_approve = [\"run_command\"]\n");
    home.write("autopilot.toml", "[server]\nmcp = true\n");
    std::fs::write(home.path("notes"), "written by hand").unwrap();
    home
}

fn official_client(home: &Home, more: &[(&str, &str)]) -> Option<Value> {
    program("node_modules/@modelcontextprotocol/sdk")?;
    let mut client = Command::new("node");
    client.arg(folder().join("client.mjs")).envs(more.iter().copied()).env("PROOF_HOME", home.directory.path());
    let output = client.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    Some(serde_json::from_str(&stdout(&output)).unwrap())
}

fn as_it_should_be(home: &Home, told: &Value) {
    assert_eq!(told["server"], "stakpak");
    let tools = [
        ["cancel_task", "create", "generate_password", "get_all_tasks", "get_task_details", "remove"],
        ["run_command", "run_command_task", "str_replace", "view", "view_web_page", "wait_for_tasks"],
    ];
    let tools = json!(tools.concat());
    assert_eq!((&told["tools"], &told["schema"], &told["pong"]), (&tools, &json!("object"), &json!({})));
    assert_eq!(told["heard"], json!({"text": "heard\nall", "isError": false}));
    assert!(told["told"].as_str().unwrap().starts_with("heard"), "{told}");
    assert!(told["view"]["text"].as_str().unwrap().contains("written by hand"), "{told}");
    for (call, code) in
        [("refused", "APPROVAL_REQUIRED"), ("unknown", "UNKNOWN_TOOL"), ("invalid", "INVALID_ARGUMENTS")]
    {
        let answer = &told[call];
        assert!(answer["isError"] == true && answer["text"].as_str().unwrap().starts_with(code), "{told}");
    }
    assert!(!home.path("made").exists());
    assert!(told["cancelled"].as_str().unwrap().contains("not wanted"), "{told}");
    let pid = std::fs::read_to_string(home.path("pid")).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")).then_some(());
    crate::support::until("the end of the cancelled command", gone);
    std::fs::remove_file(home.path("pid")).unwrap();
}

#[test]
fn the_official_client_uses_our_tools_over_stdio_and_http() {
    let home = serving();
    let Some(told) = official_client(&home, &[("PROOF_COMMAND", env!("CARGO_BIN_EXE_stakpak"))]) else { return };
    as_it_should_be(&home, &told);
    let up = home.up_with(&["--workdir", home.directory.path().to_str().unwrap()]);
    let url = format!("{}/v1/mcp", up.url);
    let told = official_client(&home, &[("PROOF_URL", &url), ("PROOF_TOKEN", &up.token)]).unwrap();
    as_it_should_be(&home, &told);
    assert_eq!(up.stop(), Some(0));
}

fn conformance(arguments: &[&str], home: &Home) -> Option<Output> {
    let suite = program(CONFORMANCE)?;
    let mut command = Command::new(suite);
    command.args(arguments).current_dir(home.directory.path()).stdin(Stdio::null());
    Some(command.output().unwrap())
}

/// Those scenarios of the suite that ask for no tool of its own. It knows no tokens.
#[test]
fn the_conformance_suite_finds_nothing_wrong_with_our_server() {
    let home = serving();
    let up = home.up_with(&["--no-auth"]);
    let url = format!("{}/v1/mcp", up.url);
    for scenario in ["server-initialize", "ping", "tools-list", "server-sse-multiple-streams"] {
        let Some(output) = conformance(&["server", "--url", &url, "--scenario", scenario], &home) else { return };
        assert!(output.status.success(), "{scenario}: {}{}", stdout(&output), stderr(&output));
    }
    // A web page is refused, also one of this machine until it is configured, which the suite would have otherwise.
    let output = conformance(&["server", "--url", &url, "--scenario", "dns-rebinding-protection"], &home).unwrap();
    let told = stdout(&output);
    let mut checks = told.lines().filter(|line| line.contains("localhost-host-rebinding-rejected"));
    assert!(checks.any(|check| check.contains("SUCCESS")), "{told}");
    assert_eq!(up.stop(), Some(0));
}

/// The suite is the server: it is asked by a run of ours. Its scenario of the handshake knows no protocol as new as ours.
#[tokio::test(flavor = "multi_thread")]
async fn the_conformance_suite_finds_nothing_wrong_with_our_client() {
    for (scenario, tool, arguments) in
        [("tools_call", "add_numbers", json!({"a": 2, "b": 3})), ("sse-retry", "test_reconnection", json!({}))]
    {
        let llm = ScriptedLlm::start().await;
        let home = configured(&llm);
        let stakpak = env!("CARGO_BIN_EXE_stakpak");
        let script = home.path("client.sh");
        let home_of = home.directory.path().display();
        let lines = format!(
            "export HOME={home_of}\n{stakpak} mcp add suite --replace --url \"$1\"\nexec {stakpak} run --approve-all go\n"
        );
        std::fs::write(&script, lines).unwrap();
        llm.push(Reply::tool_calls(&[("call", &format!("suite__{tool}"), arguments)]));
        llm.push(Reply::text(["Done."]));
        let command = format!("bash {}", script.display());
        let run = || conformance(&["client", "--command", &command, "--scenario", scenario], &home);
        let Some(output) = tokio::task::block_in_place(run) else { return };
        assert!(output.status.success(), "{scenario}: {}{}", stdout(&output), stderr(&output));
        assert!(!results(&llm, 1)[0].contains("UNKNOWN"), "{scenario}: {:?}", results(&llm, 1));
    }
}
