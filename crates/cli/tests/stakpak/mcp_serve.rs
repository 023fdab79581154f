//! Our own tools for MCP clients: `mcp serve` and `/v1/mcp`, asked by another project's client.

use std::{os::unix::fs::PermissionsExt, process::Stdio};

use rmcp::{
    RoleClient, ServiceExt,
    model::{CallToolRequestParams, ContentBlock},
    service::RunningService,
    transport::{
        StreamableHttpClientTransport, TokioChildProcess, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::support::{Home, PATIENCE, until};

const CONFIG: &str = "[profiles.default]\nmodel = \"builtin/offline\"\n";
const ASK_NOBODY: &str = "auto_approve = [\"create\", \"run_command\"]\n";

type Client = RunningService<RoleClient, ()>;

async fn over_stdio(home: &Home) -> Client {
    over_stdio_with(home, &[]).await
}

async fn over_stdio_with(home: &Home, more: &[&str]) -> Client {
    let command = tokio::process::Command::from(home.command(&[&["mcp", "serve"], more].concat()));
    ().serve(TokioChildProcess::new(command).unwrap()).await.unwrap()
}

async fn over_http(url: &str, token: &str) -> Client {
    let config = StreamableHttpClientTransportConfig::with_uri(format!("{url}/v1/mcp")).auth_header(token);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    ().serve(StreamableHttpClientTransport::with_client(http, config)).await.unwrap()
}

async fn names(client: &Client) -> Vec<String> {
    client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into_owned()).collect()
}

async fn call(client: &Client, tool: &str, arguments: Value) -> (String, bool) {
    let arguments = arguments.as_object().unwrap().clone();
    let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    let result = client.call_tool(params).await.unwrap();
    let [ContentBlock::Text(text)] = &result.content[..] else { panic!("{result:?}") };
    (text.text.clone(), result.is_error.unwrap_or(false))
}

fn book(home: &Home) -> Vec<Value> {
    let text = std::fs::read_to_string(home.path(".stakpak/autopilot/mcp-calls.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn judged_as_in_a_run(home: &Home, client: &Client) {
    let offered = [
        "cancel_task",
        "create",
        "generate_password",
        "get_all_tasks",
        "get_task_details",
        "remove",
        "run_command",
        "run_command_task",
        "str_replace",
        "view",
        "view_web_page",
        "wait_for_tasks",
    ];
    assert_eq!(names(client).await, offered);
    std::fs::write(home.path("notes"), "the token is hunter2-hunter2\n").unwrap();
    let (text, is_error) = call(client, "view", json!({"path": home.path("notes")})).await;
    assert!(!is_error && text.contains("the token is [REDACTED"), "{text}");
    let (text, is_error) = call(client, "create", json!({"path": "made", "file_text": "hunter2-hunter2"})).await;
    assert!(is_error && text.starts_with("APPROVAL_REQUIRED\n") && text.contains("auto_approve"), "{text}");
    assert!(!home.path("made").exists());
    let (text, is_error) = call(client, "view", json!({"path": "/etc/passwd"})).await;
    assert!(is_error && text.starts_with("APPROVAL_REQUIRED\n"), "{text}");
    let (text, is_error) = call(client, "evil__view", json!({"path": "notes"})).await;
    assert!(is_error && text.starts_with("UNKNOWN_TOOL\n"), "{text}");
    let (text, is_error) = call(client, "view", json!({"path": 7})).await;
    assert!(is_error && text.starts_with("INVALID_ARGUMENTS\n"), "{text}");
    let book = book(home);
    let told: Vec<_> =
        book.iter().filter(|line| line["event"] == "called").map(|line| (&line["tool"], &line["allowed"])).collect();
    assert_eq!(told[..2], [(&json!("stakpak__view"), &json!(true)), (&json!("stakpak__create"), &json!(false))]);
    assert_eq!(book[3]["outcome"], "failed");
    assert!(!book[2].to_string().contains("hunter2"), "{}", book[2]);
    let mode = std::fs::metadata(home.path(".stakpak/autopilot/mcp-calls.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn with_secret(home: &Home, more: &str) {
    home.write("config.toml", &format!("{CONFIG}{more}[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"http://127.0.0.1:9\"\napi_key = \"hunter2-hunter2\"\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn our_tools_over_stdio_are_judged_as_in_a_run_and_ask_nobody() {
    let home = Home::new();
    with_secret(&home, "");
    let client = over_stdio(&home).await;
    judged_as_in_a_run(&home, &client).await;
    client.cancel().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_beforehand_runs_and_nothing_of_it_outlives_the_client() {
    let home = Home::new();
    with_secret(&home, ASK_NOBODY);
    let client = over_stdio(&home).await;
    let (text, is_error) = call(&client, "run_command", json!({"command": "seq 5000; touch seen"})).await;
    assert!(!is_error && text.contains("5000") && home.path("seen").exists(), "{text}");
    let artefacts = || std::fs::read_dir(home.path(".stakpak/autopilot/artefacts")).map_or(0, Iterator::count);
    assert_eq!(artefacts(), 1, "the whole of a long result is kept");
    let params = CallToolRequestParams::new("run_command")
        .with_arguments(json!({"command": "echo $$ > pid; exec sleep 1000"}).as_object().unwrap().clone());
    let peer = client.peer().clone();
    tokio::spawn(async move { peer.call_tool(params).await });
    let pid = || std::fs::read_to_string(home.path("pid")).ok().filter(|pid| pid.ends_with('\n'));
    let pid = tokio::task::block_in_place(|| until("the command", pid));
    client.cancel().await.unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")).then_some(());
    tokio::task::block_in_place(|| until("the end of the command", gone));
    tokio::task::block_in_place(|| until("the files are gone", || (artefacts() == 0).then_some(())));
}

/// C-P46: calls of clients are confined as a run of the profile is, or do not run.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_in_the_sandbox_of_the_profile_or_do_not_run() {
    let home = Home::new();
    std::fs::create_dir(home.path("project")).unwrap();
    let profile = |name: &str, level: &str| format!("[profiles.{name}]\nsandbox = \"{level}\"\n{ASK_NOBODY}");
    home.write("config.toml", &(profile("boxed", "landlock") + &profile("lost", "container")));
    let touch = json!({"command": "touch ../escaped; touch made; echo over"});
    let client = over_stdio_with(&home, &["--profile", "boxed", "--workdir", "project"]).await;
    let (text, _) = call(&client, "run_command", touch.clone()).await;
    assert!(text.contains("over") && home.path("project/made").exists() && !home.path("escaped").exists(), "{text}");
    client.cancel().await.unwrap();
    std::fs::remove_file(home.path("project/made")).unwrap();
    let client = over_stdio_with(&home, &["--profile", "lost", "--workdir", "project"]).await;
    let (text, is_error) = call(&client, "run_command", touch).await;
    assert!(is_error && text.starts_with("SANDBOX_UNAVAILABLE\n"), "{text}");
    assert!(!home.path("project/made").exists() && !home.path("escaped").exists());
    client.cancel().await.unwrap();
}

/// A call that cannot be told of later does not happen.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_recorded_does_nothing() {
    let home = Home::new();
    with_secret(&home, ASK_NOBODY);
    let client = over_stdio(&home).await;
    std::fs::create_dir_all(home.path(".stakpak/autopilot/mcp-calls.jsonl")).unwrap();
    let (text, is_error) = call(&client, "create", json!({"path": "made", "file_text": "x"})).await;
    assert!(is_error && text.starts_with("CALL_NOT_RECORDED\n"), "{text}");
    assert!(!home.path("made").exists());
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn nothing_but_messages_is_on_stdout() {
    let home = Home::new();
    let mut command = tokio::process::Command::from(home.command(&["--debug", "mcp", "serve"]));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let first = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}});
    let then = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"view\",\"arguments\":{\"path\":\".\"}}}\n";
    input.write_all(format!("{first}\n{then}").as_bytes()).await.unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for id in 1..=2 {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let message: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&message["jsonrpc"], &message["id"]), (&json!("2.0"), &json!(id)), "{line}");
    }
    drop(input);
    assert_eq!(lines.next_line().await.unwrap(), None);
    assert!(tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_is_there_when_it_is_switched_on_and_guarded_as_every_other() {
    let home = Home::new();
    with_secret(&home, "");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = |url: &str, body: String| {
        let request = http.post(format!("{url}/v1/mcp")).header("accept", "application/json, text/event-stream");
        request.header("content-type", "application/json").body(body)
    };
    let status = |request: reqwest::RequestBuilder| async move { request.send().await.unwrap().status().as_u16() };
    let list = || json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    let up = home.up();
    assert_eq!(status(post(&up.url, list()).bearer_auth(&up.token)).await, 404, "it is off");
    assert_eq!(up.stop(), Some(0));

    home.write("autopilot.toml", "[server]\nmcp = true\n");
    let up = home.up_with(&["--workdir", home.directory.path().to_str().unwrap()]);
    assert_eq!(status(post(&up.url, list())).await, 401);
    let document: Value = serde_json::from_str(
        &http
            .get(format!("{}/v1/openapi.json", up.url))
            .bearer_auth(&up.token)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
    )
    .unwrap();
    for method in ["get", "post", "delete"] {
        let described = &document["paths"]["/v1/mcp"][method]["responses"];
        for code in ["401", "403"] {
            assert!(described[code].is_object(), "{method} {described}");
        }
        let asked = http.request(method.to_uppercase().parse().unwrap(), format!("{}/v1/mcp", up.url));
        let answered = status(asked.bearer_auth(&up.token)).await;
        assert!(described[answered.to_string()].is_object(), "{method}: {answered}");
    }
    let with_token = |body: String| post(&up.url, body).bearer_auth(&up.token);
    assert_eq!(status(with_token(list()).header("origin", "https://evil.example")).await, 403);
    assert_eq!(status(with_token(list()).header("host", "evil.example")).await, 403);
    let large =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"cursor": "x".repeat(2 * 1024 * 1024)}});
    assert_eq!(status(with_token(large.to_string())).await, 413);
    let client = over_http(&up.url, &up.token).await;
    judged_as_in_a_run(&home, &client).await;
    // A client that stays does not hold up the end.
    assert_eq!(up.stop(), Some(0));
}

/// What the file says when a call comes holds for it, in conversations that are under way too.
#[tokio::test(flavor = "multi_thread")]
async fn calls_follow_the_profile_as_it_is_now() {
    let home = Home::new();
    home.write("config.toml", &format!("{CONFIG}{ASK_NOBODY}"));
    home.write("autopilot.toml", "[server]\nmcp = true\n");
    let up = home.up_with(&["--workdir", home.directory.path().to_str().unwrap()]);
    let client = over_http(&up.url, &up.token).await;
    let echo = || call(&client, "run_command", json!({"command": "echo over"}));
    assert!(echo().await.0.contains("over"));
    for (more, answer) in [
        ("allowed_tools = [\"view\"]\n", "APPROVAL_REQUIRED\n"),
        (&format!("{ASK_NOBODY}sandbox = \"container\"\n"), "SANDBOX_UNAVAILABLE\n"),
        (ASK_NOBODY, "over"),
    ] {
        home.write("config.toml", &format!("{CONFIG}{more}"));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !echo().await.0.starts_with(answer) {
            assert!(tokio::time::Instant::now() < deadline, "{more}: {}", echo().await.0);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}
