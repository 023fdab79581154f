//! Servers behind the tools' port: real processes and real sockets, and a server that does as it is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    any::Any,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use stakpak_agent_core::{
    Effect, HiddenStream, InvalidCall, NoSecrets, Place, Sandbox, SandboxUnavailable, SecretGrant, SecretRefused,
    Secrets, ToolCall, ToolContext, ToolOutcome, ToolSpec, Tools,
};
use stakpak_config::SandboxConfig;
use stakpak_mcp::{AllTools, Confine, Host, Places, Servers, parse};
use stakpak_protocol::{RunId, SessionId, ToolCallId};
use stakpak_redact::Redactor;
use stakpak_test_support::ScriptedMcp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Nothing waits this long unless it waits for ever.
const LONG: Duration = Duration::from_secs(30);

struct Own;

#[async_trait]
impl Tools for Own {
    fn specs(&self) -> Arc<[ToolSpec]> {
        let spec = ToolSpec { name: "stakpak__view".into(), description: String::new(), input_schema: json!({}) };
        [spec].into()
    }
    fn check(&self, name: &str, _: &Value) -> Result<(), InvalidCall> {
        if name == "stakpak__view" {
            return Ok(());
        }
        Err(InvalidCall { code: "UNKNOWN_TOOL", message: format!("there is no tool {name}") })
    }
    fn effect(&self, _: &ToolCall) -> Effect {
        Effect::Pure
    }
    fn place(&self, _: &ToolCall, _: &Path) -> Option<Place> {
        None
    }
    fn needs_question(&self, _: &ToolCall, _: &Path) -> Option<String> {
        None
    }
    async fn run(&self, _: &ToolCall, _: ToolContext) -> ToolOutcome {
        ToolOutcome::text("own")
    }
    async fn end_orphans(&self, _: SessionId, _: &ToolCallId) -> usize {
        0
    }
    async fn forget_session(&self, _: SessionId) -> std::io::Result<()> {
        Ok(())
    }
}

/// A machine without any isolation.
struct Bare;

impl Confine for Bare {
    fn confine(
        &self,
        _: &mut tokio::process::Command,
        _: &SandboxConfig,
        _: &Path,
    ) -> Result<Box<dyn Any + Send + Sync>, SandboxUnavailable> {
        Err(SandboxUnavailable::new("no isolation here"))
    }
}

/// A session that has met two secrets, each under a rule.
struct Met;

const MET: [(&str, &str, &str); 2] = [
    ("github-pat", "[REDACTED_SECRET:github-pat:aaaaaa]", "ghp-of-the-session"),
    ("aws-key", "[REDACTED_SECRET:aws-key:bbbbbb]", "aws-of-the-session"),
];

#[async_trait]
impl Secrets for Met {
    async fn hide(&self, _: SessionId, text: String) -> String {
        MET.iter().fold(text, |text, (_, placeholder, value)| text.replace(value, placeholder))
    }
    fn stream(&self, session: SessionId) -> Box<dyn HiddenStream> {
        NoSecrets.stream(session)
    }
    async fn restore(&self, _: SessionId, arguments: Value, grant: SecretGrant<'_>) -> Result<Value, SecretRefused> {
        let mut text = arguments.to_string();
        for (rule, placeholder, value) in
            MET.iter().filter(|(_, placeholder, _)| arguments.to_string().contains(placeholder))
        {
            match grant {
                SecretGrant::Rules(rules) if rules.iter().any(|granted| granted == rule) => {
                    text = text.replace(placeholder, value);
                }
                _ => return Err(SecretRefused::NotGranted((*placeholder).to_owned())),
            }
        }
        match text.find("[REDACTED_SECRET:") {
            Some(at) => Err(SecretRefused::Unknown(text[at..].split_inclusive(']').next().unwrap().to_owned())),
            None => Ok(serde_json::from_str(&text).unwrap()),
        }
    }
    fn named_in(&self, _: &Value) -> Vec<String> {
        Vec::new()
    }
}

/// A state directory, and what is started from it.
struct Setting {
    directory: tempfile::TempDir,
    servers: Arc<Servers>,
    tools: AllTools,
}

impl Setting {
    fn new(toml: &str) -> Self {
        Self::again(tempfile::tempdir().unwrap(), toml)
    }

    /// The next process on the same directory.
    fn again(directory: tempfile::TempDir, toml: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let variable = |name: &str| match name {
            "TOKEN" => Some("token-of-the-environment".to_owned()),
            name => std::env::var(name).ok(),
        };
        let settings =
            parse(toml, false).unwrap().into_iter().map(|(name, table)| table.settings(&name, &variable).unwrap());
        let places = Places {
            state: directory.path().to_owned(),
            logs: directory.path().to_owned(),
            artefacts: directory.path().join("artefacts"),
        };
        let host = Host {
            places,
            workdir: directory.path().to_owned(),
            redactor: Redactor::new(["hunter2-hunter2"]).unwrap(),
            secrets: Arc::new(Met),
            confine: Arc::new(Bare),
        };
        let servers = Servers::new(settings.collect(), host);
        let tools = AllTools::new(Arc::new(Own), Arc::clone(&servers));
        Self { directory, servers, tools }
    }

    async fn stop(self) -> tempfile::TempDir {
        self.servers.stop(LONG).await;
        self.directory
    }
}

/// The table of a server that is a process.
fn stdio(server: &ScriptedMcp, more: &str) -> String {
    format!("[mcpServers.test]\ncommand = \"bash\"\nargs = [\"-c\", '{}']\n{more}\n", server.stdio_command())
}

fn call(name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: ToolCallId::from("call_1"), name: name.into(), arguments, metadata: None }
}

fn context() -> (ToolContext, mpsc::Receiver<String>) {
    let (progress, pieces) = mpsc::channel(16);
    let context = ToolContext {
        session_id: SessionId(uuid::Uuid::from_u128(1)),
        run_id: RunId(uuid::Uuid::from_u128(2)),
        cwd: "/".into(),
        sandbox: Sandbox::default(),
        notify_route: None,
        cancel: CancellationToken::new(),
        steered: CancellationToken::new(),
        progress,
    };
    (context, pieces)
}

async fn run(tools: &dyn Tools, name: &str, arguments: Value) -> (String, bool) {
    match tools.run(&call(name, arguments), context().0).await {
        ToolOutcome::Completed { result, is_error } => (result.as_str().unwrap().to_owned(), is_error),
        ToolOutcome::Cancelled => panic!("nobody cancelled it"),
    }
}

fn names(tools: &dyn Tools) -> Vec<String> {
    tools.specs().iter().map(|spec| spec.name.clone()).collect()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_servers_tools_are_offered_beside_ours_and_called() {
    let server = ScriptedMcp::start(&["echo", "fail", "meta", "structured"]).await;
    let setting = Setting::new(&stdio(&server, ""));
    let tools = setting.tools.for_run().await.unwrap();
    assert_eq!(names(tools.as_ref()), ["stakpak__view", "test__echo", "test__fail", "test__meta", "test__structured"]);
    assert_eq!(run(tools.as_ref(), "test__echo", json!({"text": "hello"})).await, ("hello".into(), false));
    assert_eq!(run(tools.as_ref(), "test__fail", json!({})).await, ("it failed".into(), true));
    assert_eq!(run(tools.as_ref(), "test__structured", json!({"a": 1})).await, (r#"{"a":1}"#.into(), false));
    assert_eq!(run(tools.as_ref(), "stakpak__view", json!({})).await, ("own".into(), false));
    let (meta, _) = run(tools.as_ref(), "test__meta", json!({})).await;
    let meta: Value = serde_json::from_str(&meta).unwrap();
    assert_eq!(meta["session_id"], json!(uuid::Uuid::from_u128(1)));
    assert_eq!(meta["run_id"], json!(uuid::Uuid::from_u128(2)));
    assert_eq!(meta["tool_call_id"], "call_1");
    assert_eq!(tools.check("test__echo", &json!({})), Ok(()));
    assert_eq!(tools.check("test__echo", &json!([])).unwrap_err().code, "INVALID_ARGUMENTS");
    assert_eq!(tools.check("test__none", &json!({})).unwrap_err().code, "UNKNOWN_TOOL");
    setting.stop().await;
}

#[tokio::test]
async fn a_server_over_http_gets_its_headers_and_a_new_session_when_its_own_is_gone() {
    let server = ScriptedMcp::start(&["echo"]).await;
    let toml = format!(
        "[mcpServers.web]\nurl = \"{}\"\nheaders = {{ Authorization = \"Bearer ${{TOKEN}}\" }}\n",
        server.url()
    );
    let setting = Setting::new(&toml);
    let tools = setting.tools.for_run().await.unwrap();
    assert_eq!(run(tools.as_ref(), "web__echo", json!({"text": "over http"})).await, ("over http".into(), false));
    assert_eq!(server.received_of("tools/call")[0]["authorization"], "Bearer token-of-the-environment");
    server.expire_session();
    assert_eq!(run(tools.as_ref(), "web__echo", json!({"text": "again"})).await, ("again".into(), false));
    setting.stop().await;
}

/// C-P58
#[tokio::test]
async fn a_server_that_never_answers_holds_up_neither_start_nor_other_tools() {
    let (silent, well) = (ScriptedMcp::start(&["echo"]).await, ScriptedMcp::start(&["echo"]).await);
    silent.be_silent(true);
    let toml = format!(
        "{}{}",
        stdio(&silent, "startup_timeout = \"1h\"").replace("test", "silent"),
        stdio(&well, "").replace("test", "well")
    );
    let began = Instant::now();
    let setting = Setting::new(&toml);
    let tools = setting.tools.for_run().await.unwrap();
    assert_eq!(run(tools.as_ref(), "well__echo", json!({"text": "hi"})).await, ("hi".into(), false));
    assert_eq!(names(tools.as_ref()), ["stakpak__view", "well__echo"]);
    setting.tools.for_run().await.unwrap();
    setting.stop().await;
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
}

/// C-P58
#[tokio::test]
async fn a_server_that_dies_is_back_without_a_restart() {
    let server = ScriptedMcp::start(&["die", "echo"]).await;
    let setting = Setting::new(&stdio(&server, ""));
    let tools = setting.tools.for_run().await.unwrap();
    let (text, is_error) = run(tools.as_ref(), "test__die", json!({})).await;
    assert!(is_error && text.starts_with("OUTCOME_UNKNOWN\n"), "{text}");
    assert_eq!(server.received_of("tools/call").len(), 1, "it is not repeated");
    assert_eq!(names(&setting.tools), ["stakpak__view", "test__die", "test__echo"], "its tools are kept meanwhile");
    assert_eq!(run(tools.as_ref(), "test__echo", json!({"text": "back"})).await, ("back".into(), false));
    server.connected(2).await;
    setting.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_be_started_is_an_error_result_that_says_so() {
    let server = ScriptedMcp::start(&["echo"]).await;
    let toml = stdio(&server, "startup_timeout = \"2s\"");
    let setting = Setting::new(&toml);
    setting.tools.for_run().await.unwrap();
    let directory = setting.stop().await;
    server.be_silent(true);
    let setting = Setting::again(directory, &toml);
    let (text, is_error) = run(&setting.tools, "test__echo", json!({})).await;
    assert!(is_error && text.starts_with("SERVER_UNAVAILABLE\nThe tool server `test` is not there ("), "{text}");
    setting.stop().await;
}

/// C-P59
#[tokio::test]
async fn the_list_is_whole_and_the_same_bytes_after_a_restart() {
    let listed: Vec<String> = (0..25).rev().map(|number| format!("tool{number:02}")).collect();
    let server = ScriptedMcp::start(&listed.iter().map(String::as_str).collect::<Vec<_>>()).await;
    server.list_in_pages_of(10);
    let toml = stdio(&server, "");
    let setting = Setting::new(&toml);
    let first = setting.tools.for_run().await.unwrap().specs();
    assert_eq!(first.len(), 26);
    assert!(first.is_sorted_by(|a, b| a.name < b.name));
    let directory = setting.stop().await;
    server.be_silent(true);
    let setting = Setting::again(directory, &toml);
    let again = setting.tools.for_run().await.unwrap().specs();
    assert_eq!(serde_json::to_string(&again[..]).unwrap(), serde_json::to_string(&first[..]).unwrap());
    setting.stop().await;
}

/// C-P59
#[tokio::test]
async fn a_changed_list_counts_from_the_next_run() {
    let server = ScriptedMcp::start(&["echo"]).await;
    let setting = Setting::new(&stdio(&server, ""));
    let run_under_way = setting.tools.for_run().await.unwrap();
    server.change_tools(&["echo", "more"], "for tests");
    until("the new list", || names(&setting.tools).len() == 3).await;
    assert_eq!(names(run_under_way.as_ref()), ["stakpak__view", "test__echo"]);
    assert_eq!(run_under_way.check("test__more", &json!({})).unwrap_err().code, "UNKNOWN_TOOL");
    let next = setting.tools.for_run().await.unwrap();
    assert_eq!(names(next.as_ref()), ["stakpak__view", "test__echo", "test__more"]);
    setting.stop().await;
}

/// C-P60
#[tokio::test]
async fn odd_names_are_called_by_their_own_and_clashes_are_refused_with_a_reason() {
    let long = format!("echo{}", "x".repeat(100));
    let server = ScriptedMcp::start(&["echo__twice", "echo a", "echo.a", &long]).await;
    let setting = Setting::new(&stdio(&server, ""));
    let tools = setting.tools.for_run().await.unwrap();
    let offered = names(tools.as_ref());
    assert_eq!(offered.len(), 4, "{offered:?}");
    for name in &offered[1..] {
        assert!(name.len() <= 64 && name.starts_with("test__echo"), "{name}");
        assert_eq!(run(tools.as_ref(), name, json!({"text": name})).await, (name.clone(), false));
    }
    let called = server.received_of("tools/call");
    let called: Vec<&str> = called.iter().map(|message| message["params"]["name"].as_str().unwrap()).collect();
    assert_eq!(called, ["echo__twice", "echo a", &long]);
    let report = &setting.servers.test().await[0];
    assert_eq!(report.refused, ["\"echo.a\" is not offered: \"echo a\" has the name test__echo_a already"]);
    setting.stop().await;
}

/// C-P61
#[tokio::test]
async fn a_tool_that_changed_since_it_was_approved_asks_again() {
    let server = ScriptedMcp::start(&["echo", "other"]).await;
    let toml = stdio(&server, "");
    let setting = Setting::new(&toml);
    let made = call("test__echo", json!({"text": "x"}));
    let question = |tools: &dyn Tools, made: &ToolCall| tools.needs_question(made, Path::new("/"));
    let tools = setting.tools.for_run().await.unwrap();
    assert_eq!(question(tools.as_ref(), &made), None);
    run(tools.as_ref(), "test__echo", json!({"text": "x"})).await;
    server.change_tools(&["echo", "other"], "now sends everything to a stranger");
    until("the new list", || question(&setting.tools, &made).is_some()).await;
    assert_eq!(question(&setting.tools, &call("test__other", json!({}))), None, "it was never approved");
    // A restart forgets nothing.
    let directory = setting.stop().await;
    let setting = Setting::again(directory, &toml);
    let tools = setting.tools.for_run().await.unwrap();
    assert!(question(tools.as_ref(), &made).unwrap().contains("another way"));
    run(tools.as_ref(), "test__echo", json!({"text": "x"})).await;
    assert_eq!(question(tools.as_ref(), &made), None, "it was approved as it is now");
    setting.stop().await;
}

/// C-P62
#[tokio::test]
async fn a_result_of_100_mb_is_an_error_and_the_next_call_works() {
    let server = ScriptedMcp::start(&["echo", "flood"]).await;
    let setting = Setting::new(&stdio(&server, ""));
    let tools = setting.tools.for_run().await.unwrap();
    let (text, is_error) = run(tools.as_ref(), "test__flood", json!({"bytes": 100_000_000})).await;
    assert!(is_error && text.starts_with("RESULT_TOO_LARGE\n"), "{text}");
    assert_eq!(run(tools.as_ref(), "test__echo", json!({"text": "still"})).await, ("still".into(), false));
    let (text, is_error) = run(tools.as_ref(), "test__flood", json!({"bytes": 1_000_000})).await;
    assert!(
        !is_error && text.len() < 70_000 && text.starts_with("[1 lines, 1000000 bytes of output"),
        "{}",
        text.len()
    );
    setting.stop().await;
}

/// C-P62
#[tokio::test]
async fn a_server_that_floods_its_stderr_still_answers() {
    let server = ScriptedMcp::start(&["echo"]).await;
    let toml =
        stdio(&server, "").replace("exec 3", "(yes noise | head -c 19999998 >&2); echo hunter2-hunter2 >&2; exec 3");
    let setting = Setting::new(&toml);
    let tools = setting.tools.for_run().await.unwrap();
    assert_eq!(run(tools.as_ref(), "test__echo", json!({"text": "heard"})).await, ("heard".into(), false));
    let directory = setting.stop().await;
    let log = || std::fs::read_to_string(directory.path().join("mcp-test.log")).unwrap_or_default();
    until("the end of the flood", || log().contains("noise\n[REDACTED]\n")).await;
    assert!(log().len() < 2_000_000, "{}", log().len());
}

#[tokio::test]
async fn progress_is_passed_on() {
    let server = ScriptedMcp::start(&["progress"]).await;
    let setting = Setting::new(&stdio(&server, "timeout = \"1h\""));
    let tools = setting.tools.for_run().await.unwrap();
    let (context, mut pieces) = context();
    let made = call("test__progress", json!({}));
    let running = tools.run(&made, context);
    tokio::pin!(running);
    let piece = tokio::select! {
        piece = pieces.recv() => piece.unwrap(),
        outcome = &mut running => panic!("ended before it told anything: {outcome:?}"),
    };
    assert_eq!(piece, "1/3 working\n");
    server.open_gate();
    assert_eq!(running.await, ToolOutcome::text("done"));
    setting.stop().await;
}

#[tokio::test]
async fn a_silent_call_and_a_cancelled_one_are_cancelled_at_the_server() {
    let server = ScriptedMcp::start(&["hang"]).await;
    let setting = Setting::new(&stdio(&server, "timeout = \"300ms\""));
    let tools = setting.tools.for_run().await.unwrap();
    let (text, is_error) = run(tools.as_ref(), "test__hang", json!({})).await;
    assert!(is_error && text.starts_with("TOOL_TIMEOUT\n"), "{text}");
    until("the first is cancelled", || server.received_of("notifications/cancelled").len() == 1).await;
    let directory = setting.stop().await;

    let setting = Setting::again(directory, &stdio(&server, ""));
    let tools = setting.tools.for_run().await.unwrap();
    let (context, _pieces) = context();
    let cancel = context.cancel.clone();
    let made = call("test__hang", json!({}));
    let running = tools.run(&made, context);
    let (outcome, ()) = tokio::join!(running, async {
        until("the call", || server.received_of("tools/call").len() == 2).await;
        cancel.cancel();
    });
    assert_eq!(outcome, ToolOutcome::Cancelled);
    until("the second is cancelled", || server.received_of("notifications/cancelled").len() == 2).await;
    let (called, cancelled) = (server.received_of("tools/call"), server.received_of("notifications/cancelled"));
    assert_eq!(cancelled[1]["params"]["requestId"], called[1]["id"]);
    setting.stop().await;
}

#[tokio::test]
async fn a_child_sees_what_it_was_given_and_is_gone_with_its_server() {
    let server = ScriptedMcp::start(&["echo"]).await;
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let more = "env = { GIVEN = \"a $TOKEN\" }\ninherit_env = [\"PATH\"]";
    let toml = stdio(&server, more)
        .replace("exec 3", &format!("env > {0}; sleep 1000 & echo $! >> {0}; exec 3", seen.display()));
    let setting = Setting::new(&toml);
    setting.tools.for_run().await.unwrap();
    setting.stop().await;
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains("GIVEN=a token-of-the-environment\n") && seen.contains("PATH="), "{seen}");
    assert!(!seen.contains("HOME=") && !seen.contains("CARGO"), "{seen}");
    let sleeper = seen.lines().last().unwrap();
    let proc = format!("/proc/{sleeper}/stat");
    until("the whole group is gone", || std::fs::read_to_string(&proc).map_or(true, |stat| stat.contains(") Z ")))
        .await;
}

#[tokio::test]
async fn tools_are_allowed_and_denied_by_glob_and_effects_are_as_configured() {
    let server = ScriptedMcp::start(&["list_a", "list_b", "delete"]).await;
    let setting = Setting::new(&stdio(
        &server,
        "allow_tools = [\"list_*\", \"delete\"]\ndeny_tools = [\"list_b\"]\neffects = { list_a = \"pure\" }",
    ));
    let tools = setting.tools.for_run().await.unwrap();
    assert_eq!(names(tools.as_ref()), ["stakpak__view", "test__delete", "test__list_a"]);
    assert_eq!(tools.effect(&call("test__list_a", json!({}))), Effect::Pure);
    assert_eq!(tools.effect(&call("test__delete", json!({}))), Effect::Unsafe);
    setting.stop().await;
}

#[tokio::test]
async fn an_effect_is_that_of_the_name_else_the_most_careful_of_the_globs() {
    let server = ScriptedMcp::start(&["list_a", "list_b", "list_c_put", "delete", "other"]).await;
    let effects = r#"effects = { "list_*" = "pure", "*_put" = "keyed", "del*" = "keyed", list_b = "unsafe" }"#;
    let setting = Setting::new(&stdio(&server, effects));
    let tools = setting.tools.for_run().await.unwrap();
    for (tool, effect) in [
        ("list_a", Effect::Pure),
        ("list_b", Effect::Unsafe),
        ("list_c_put", Effect::Keyed),
        ("delete", Effect::Keyed),
        ("other", Effect::Unsafe),
    ] {
        assert_eq!(tools.effect(&call(&format!("test__{tool}"), json!({}))), effect, "{tool}");
    }
    setting.stop().await;
    let wrong = parse("[mcpServers.test]\ncommand = \"x\"\neffects = { \"a[\" = \"pure\" }", false).unwrap();
    let error = wrong["test"].settings("test", &|_| None).unwrap_err();
    assert!(error.to_string().starts_with("effects: "), "{error}");
}

/// C-P52
#[tokio::test]
async fn a_secret_reaches_only_a_server_that_is_granted_its_rule() {
    let [(_, github, value), (_, aws, _)] = MET;
    let unknown = "[REDACTED_SECRET:github-pat:zzzzzz]";
    for (more, asked, expected, code) in [
        ("", github, None, "SECRET_NOT_GRANTED"),
        ("secrets = [\"github-pat\"]", aws, None, "SECRET_NOT_GRANTED"),
        ("secrets = [\"github-pat\"]", unknown, None, "UNKNOWN_SECRET"),
        ("secrets = [\"github-pat\"]", github, Some(value), ""),
    ] {
        let server = ScriptedMcp::start(&["echo"]).await;
        let setting = Setting::new(&stdio(&server, more));
        let tools = setting.tools.for_run().await.unwrap();
        let (text, is_error) = run(tools.as_ref(), "test__echo", json!({"text": format!("with {asked}")})).await;
        let received = server.received_of("tools/call");
        match expected {
            Some(value) => {
                assert_eq!(received[0]["params"]["arguments"]["text"], format!("with {value}"));
                assert_eq!((text, is_error), (format!("with {asked}"), false), "and it does not come back");
            }
            None => {
                assert!(is_error && text.starts_with(&format!("{code}\n")), "{more}: {text}");
                assert_eq!(received, [] as [Value; 0], "{more}: it was not asked");
            }
        }
        setting.stop().await;
    }
}

/// C-P50: what a server sends back goes through the redactor, whatever way it takes.
#[tokio::test]
async fn nothing_that_a_server_says_shows_a_secret() {
    let server = ScriptedMcp::start(&["echo", "structured", "refuse", "image", "flood"]).await;
    let description = "knows hunter2-hunter2";
    server.change_tools(&["echo", "structured", "refuse", "image"], description);
    let setting = Setting::new(&stdio(&server, ""));
    let tools = setting.tools.for_run().await.unwrap();
    let long = format!("{} hunter2-hunter2 ghp-of-the-session\n", "x".repeat(100)).repeat(1000);
    for (tool, said) in [
        ("echo", "hunter2-hunter2 ghp-of-the-session"),
        ("structured", "hunter2-hunter2 ghp-of-the-session"),
        ("refuse", "hunter2-hunter2 ghp-of-the-session"),
        ("image", "hunter2-hunter2 ghp-of-the-session"),
        ("echo", &long),
    ] {
        let made = call(&format!("test__{tool}"), json!({"text": said}));
        let ToolOutcome::Completed { result, .. } = tools.run(&made, context().0).await else { panic!("{tool}") };
        let result = result.to_string();
        assert!(result.contains("[REDACTED_SECRET:github-pat:aaaaaa]"), "{tool}: {result:.300}");
        assert!(!result.contains("ghp-of"), "{tool}: {result:.300}");
    }
    let told = serde_json::to_string(&tools.specs()[..]).unwrap();
    assert!(told.contains("knows [REDACTED") && !told.contains("hunter2"), "{told}");
    let directory = setting.stop().await;
    let mut files = 0;
    let mut directories = vec![directory.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("ghp-of-the-session"), "{}", path.display());
            assert!(!path.ends_with("mcp-tools.json") || !text.contains("hunter2"), "{}", path.display());
            files += 1;
        }
    }
    assert!(files >= 3, "lists, approvals and an artefact: {files}");
}

#[tokio::test]
async fn an_image_is_a_part_of_the_result() {
    let server = ScriptedMcp::start(&["image"]).await;
    let setting = Setting::new(&stdio(&server, ""));
    let tools = setting.tools.for_run().await.unwrap();
    let outcome = tools.run(&call("test__image", json!({"text": "a dot"})), context().0).await;
    let ToolOutcome::Completed { result, is_error: false } = outcome else { panic!("{outcome:?}") };
    assert_eq!(result[0], json!({"type": "text", "text": "a dot"}));
    assert!(result[1]["url"].as_str().unwrap().starts_with("data:image/png;base64,iVBOR"), "{result}");
    setting.stop().await;
}

#[tokio::test]
async fn a_task_is_asked_about_until_it_ends() {
    let server = ScriptedMcp::start(&["task", "failing_task"]).await;
    let setting = Setting::new(&stdio(&server, ""));
    let tools = setting.tools.for_run().await.unwrap();
    let (context, mut pieces) = context();
    let outcome = tools.run(&call("test__task", json!({})), context).await;
    assert_eq!(outcome, ToolOutcome::text("the task is done"));
    assert_eq!(server.received_of("tasks/get").len(), 3);
    assert_eq!((pieces.recv().await.unwrap(), pieces.recv().await.unwrap()), ("step 1\n".into(), "step 2\n".into()));
    let (text, is_error) = run(tools.as_ref(), "test__failing_task", json!({})).await;
    assert!(is_error && text == "TOOL_FAILED\nit broke (code -32000)", "{text}");
    assert_eq!(server.received_of("tools/call").len(), 2, "each was called once");
    setting.stop().await;
}

#[tokio::test]
async fn a_task_without_end_is_given_up_at_the_longest_time_and_when_it_is_cancelled() {
    let server = ScriptedMcp::start(&["endless_task"]).await;
    let setting = Setting::new(&stdio(&server, "timeout = \"1s\"\nmax_timeout = \"2s\""));
    let tools = setting.tools.for_run().await.unwrap();
    let (text, is_error) = run(tools.as_ref(), "test__endless_task", json!({})).await;
    assert!(is_error && text.starts_with("TOOL_TIMEOUT\n") && text.contains("did not finish within 2 s"), "{text}");
    until("the task is cancelled", || server.received_of("tasks/cancel").len() == 1).await;
    let directory = setting.stop().await;

    let setting = Setting::again(directory, &stdio(&server, ""));
    let tools = setting.tools.for_run().await.unwrap();
    let polled = server.received_of("tasks/get").len();
    let (context, _pieces) = context();
    let cancel = context.cancel.clone();
    let made = call("test__endless_task", json!({}));
    let (outcome, ()) = tokio::join!(tools.run(&made, context), async {
        until("the task is asked about", || server.received_of("tasks/get").len() > polled).await;
        cancel.cancel();
    });
    assert_eq!(outcome, ToolOutcome::Cancelled);
    until("the second is cancelled", || server.received_of("tasks/cancel").len() == 2).await;
    setting.stop().await;
}

#[tokio::test]
async fn questions_are_declined_and_samples_and_roots_refused() {
    let server = ScriptedMcp::start(&["ask", "form"]).await;
    let setting = Setting::new(&stdio(&server, ""));
    let tools = setting.tools.for_run().await.unwrap();
    assert_eq!(run(tools.as_ref(), "test__ask", json!({})).await, ("decline -32601 -32601".into(), false));
    let told = json!([{"name": {"action": "decline"}}, "as it was"]).to_string();
    assert_eq!(run(tools.as_ref(), "test__form", json!({})).await, (told, false));
    let greeting = &server.received_of("initialize")[0]["params"]["capabilities"];
    for capability in ["elicitation", "sampling", "roots"] {
        assert!(greeting.get(capability).is_none(), "{greeting}");
    }
    setting.stop().await;
}

/// C-P46: a server whose sandbox cannot be had is not started on the host.
#[tokio::test]
async fn a_server_without_its_sandbox_is_not_started() {
    let server = ScriptedMcp::start(&["echo"]).await;
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let table = |more: &str| stdio(&server, more).replace("exec 3", &format!("touch {}; exec 3", seen.display()));
    let setting = Setting::again(directory, &table(""));
    setting.tools.for_run().await.unwrap();
    let directory = setting.stop().await;
    std::fs::remove_file(&seen).unwrap();
    let setting = Setting::again(directory, &table("sandbox = \"workspace\"\nstartup_timeout = \"2s\""));
    let (text, is_error) = run(&setting.tools, "test__echo", json!({})).await;
    assert!(is_error && text.starts_with("SANDBOX_UNAVAILABLE\n"), "{text}");
    assert!(!seen.exists(), "it ran");
    setting.stop().await;
    for (more, why) in [
        ("command = \"x\"\nsandbox = \"workspac\"", "sandbox: "),
        ("command = \"x\"\nsandbox = { level = \"landlock\", secrets = [\"aws\"] }", "sandbox.secrets: "),
        ("url = \"http://x\"\nsandbox = \"landlock\"", "sandbox: only a program"),
    ] {
        let servers = parse(&format!("[mcpServers.test]\n{more}"), false).unwrap();
        let error = servers["test"].settings("test", &|_| None).unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }
}

/// C-P62: a list without end is not read to its end.
#[tokio::test]
async fn a_list_of_more_than_a_thousand_tools_is_refused_with_a_reason() {
    let listed: Vec<String> = (0..1001).map(|number| format!("tool{number:04}")).collect();
    let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
    let server = ScriptedMcp::start(&listed[..1000]).await;
    server.list_in_pages_of(100);
    let setting = Setting::new(&stdio(&server, ""));
    assert_eq!(setting.tools.for_run().await.unwrap().specs().len(), 1001);
    server.change_tools(&listed, "one too many");
    let refused = "degraded: it has more than 50 pages or 1000 tools";
    let began = Instant::now();
    while setting.servers.test().await[0].state != refused {
        assert!(began.elapsed() < LONG, "{}", setting.servers.test().await[0].state);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(names(&setting.tools).len(), 1001, "the last whole list is kept");
    setting.stop().await;
    let server = ScriptedMcp::start(&listed[..1000]).await;
    server.list_in_pages_of(10);
    let setting = Setting::new(&stdio(&server, ""));
    assert!(setting.servers.test().await[0].state.contains("it has more than 50 pages or 1000 tools"));
    let pages = server.received_of("tools/list");
    let last = pages.iter().filter_map(|page| page["params"]["cursor"].as_str()?.parse::<usize>().ok()).max();
    assert_eq!(last, Some(490), "no page beyond the fiftieth is asked for");
    setting.stop().await;
}

/// C-P58, over HTTP: what is asked of a server that is gone has an outcome that is not known; back, it is asked as before.
#[tokio::test]
async fn a_server_over_http_that_fails_a_call_is_asked_again_for_the_next() {
    let server = ScriptedMcp::start(&["die", "echo"]).await;
    let setting = Setting::new(&format!("[mcpServers.test]\nurl = \"{}\"\n", server.url()));
    let tools = setting.tools.for_run().await.unwrap();
    let (text, is_error) = run(tools.as_ref(), "test__die", json!({})).await;
    assert!(is_error && text.starts_with("OUTCOME_UNKNOWN\n"), "{text}");
    assert_eq!(server.received_of("tools/call").len(), 1, "it is not repeated");
    assert_eq!(run(tools.as_ref(), "test__echo", json!({"text": "back"})).await, ("back".into(), false));
    setting.stop().await;
}

/// C-P59, C-P61, over HTTP: a new connection brings the new list, and what changed in it asks again.
#[tokio::test]
async fn a_changed_tool_over_http_asks_again_after_the_next_connection() {
    let server = ScriptedMcp::start(&["echo"]).await;
    let toml = format!("[mcpServers.test]\nurl = \"{}\"\n", server.url());
    let setting = Setting::new(&toml);
    let made = call("test__echo", json!({"text": "x"}));
    let tools = setting.tools.for_run().await.unwrap();
    run(tools.as_ref(), "test__echo", json!({"text": "x"})).await;
    let directory = setting.stop().await;
    server.change_schema("echo", json!({"type": "object", "properties": {"text": {"type": "number"}}}));
    let setting = Setting::again(directory, &toml);
    setting.servers.test().await;
    assert!(setting.tools.needs_question(&made, Path::new("/")).unwrap().contains("another way"));
    setting.stop().await;
}

#[tokio::test]
async fn signs_of_life_reset_the_silence_and_the_longest_time_ends_the_call_all_the_same() {
    let server = ScriptedMcp::start(&["tick"]).await;
    let setting = Setting::new(&stdio(&server, "timeout = \"1s\""));
    let tools = setting.tools.for_run().await.unwrap();
    let (context, mut pieces) = context();
    let made = call("test__tick", json!({"every_ms": 50}));
    let begun = Instant::now();
    let (outcome, ()) = tokio::join!(tools.run(&made, context), async {
        while begun.elapsed() < Duration::from_secs(3) {
            if pieces.recv().await.is_none() {
                break;
            }
        }
        server.open_gate();
    });
    assert_eq!(outcome, ToolOutcome::text("done"), "three times the silence have passed");
    let directory = setting.stop().await;

    let server = ScriptedMcp::start(&["tick"]).await;
    let setting = Setting::again(directory, &stdio(&server, "timeout = \"1s\"\nmax_timeout = \"2s\""));
    let tools = setting.tools.for_run().await.unwrap();
    let ended = tokio::time::timeout(LONG, run(tools.as_ref(), "test__tick", json!({"every_ms": 50}))).await;
    let (text, is_error) = ended.expect("its time is limited");
    assert!(is_error && text.starts_with("TOOL_TIMEOUT\n") && text.contains("did not finish within 2 s"), "{text}");
    until("it is cancelled", || server.received_of("notifications/cancelled").len() == 1).await;
    setting.stop().await;
}

#[tokio::test]
async fn a_servers_word_that_a_tool_only_looks_counts_where_it_is_trusted() {
    let server = ScriptedMcp::start(&["echo", "look", "look_too"]).await;
    for (more, effect) in [("", Effect::Unsafe), ("trust_annotations = true", Effect::Pure)] {
        let setting = Setting::new(&stdio(&server, &format!("{more}\neffects = {{ look_too = \"unsafe\" }}")));
        let tools = setting.tools.for_run().await.unwrap();
        assert_eq!(tools.effect(&call("test__look", json!({}))), effect, "{more}");
        assert_eq!(tools.effect(&call("test__echo", json!({}))), Effect::Unsafe, "it says nothing");
        assert_eq!(tools.effect(&call("test__look_too", json!({}))), Effect::Unsafe, "the file wins");
        setting.stop().await;
    }
}

/// C-P62
#[tokio::test]
async fn a_result_of_100_mb_over_http_is_an_error_and_the_next_call_works() {
    let server = ScriptedMcp::start(&["echo", "flood"]).await;
    let setting = Setting::new(&format!("[mcpServers.test]\nurl = \"{}\"\n", server.url()));
    let tools = setting.tools.for_run().await.unwrap();
    let (text, is_error) = run(tools.as_ref(), "test__flood", json!({"bytes": 100_000_000})).await;
    assert!(is_error && text.starts_with("RESULT_TOO_LARGE\n"), "{}", &text[..text.len().min(300)]);
    assert_eq!(run(tools.as_ref(), "test__echo", json!({"text": "still"})).await, ("still".into(), false));
    setting.stop().await;
}
