//! `stakpak run`: what scripts rely on.

use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use stakpak_test_support::{Gate, Reply, ScriptedLlm};

use crate::support::{Home, stderr, stdout};

/// A home whose model is scripted.
struct Desk {
    home: Home,
    llm: ScriptedLlm,
}

impl Desk {
    async fn new() -> Self {
        let (home, llm) = (Home::new(), ScriptedLlm::start().await);
        let endpoint = llm.base_url();
        home.write(
            "config.toml",
            &format!(
                "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{endpoint}\"\n"
            ),
        );
        Self { home, llm }
    }

    /// The model wants these commands run at once, and then says so.
    fn script(&self, commands: &[(&str, &str)]) {
        let calls: Vec<_> =
            commands.iter().map(|(id, command)| (*id, "stakpak__run_command", json!({ "command": command }))).collect();
        self.llm.push(Reply::tool_calls(&calls));
        self.llm.push(Reply::text(["All ", "done."]));
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.home.run(&[&["run"], arguments].concat())
    }

    /// The manifest, whose exit code is that of the process.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["-o", "json"], arguments].concat());
        manifest(&output)
    }

    fn pause_file(&self) -> PathBuf {
        self.home.path(".stakpak/session/pause.json")
    }
}

fn manifest(output: &Output) -> Value {
    let manifest: Value = serde_json::from_str(&stdout(output)).unwrap_or_else(|_| panic!("{}", stderr(output)));
    assert_eq!(manifest["exit_code"], output.status.code().unwrap(), "{manifest}");
    manifest
}

fn id<'a>(manifest: &'a Value, key: &str) -> &'a str {
    manifest[key].as_str().unwrap_or_else(|| panic!("no {key}: {manifest}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_tells_all_of_it() {
    let desk = Desk::new().await;
    desk.llm.push(Reply::text(["All ", "done."]));
    let manifest = desk.json(&["do it"]);
    assert_eq!(
        (&manifest["outcome"], &manifest["agent_message"], &manifest["model"], &manifest["stop_reason"]),
        (&json!("completed"), &json!("All done."), &json!("my/test"), &json!("completed"))
    );
    assert_eq!((&manifest["steps"], &manifest["total_steps"]), (&json!(1), &json!(1)));
    assert!(manifest["usage"]["total_tokens"].is_u64(), "{manifest}");
    for key in ["session_id", "run_id", "checkpoint_id"] {
        assert!(!id(&manifest, key).is_empty());
    }
    for absent in ["pause_reason", "resume_hint", "error", "cost_usd"] {
        assert!(manifest.get(absent).is_none(), "{absent}: {manifest}");
    }
}

/// The answer alone is on stdout; what was said on the way there is progress.
#[tokio::test(flavor = "multi_thread")]
async fn stdout_is_the_answer() {
    let desk = Desk::new().await;
    desk.llm.push(
        Reply::tool_call("call_1", "stakpak__run_command", &json!({ "command": "true" })).then_text("Let me see."),
    );
    desk.llm.push(Reply::text(["It is ", "fine.\n"]));
    let output = desk.run(&["--approve-all", "how is it?"]);
    assert_eq!(stdout(&output), "It is fine.\n");
    let said = stderr(&output);
    assert!(said.contains("Let me see.") && said.contains("running stakpak__run_command"), "{said}");
}

/// A-P15, A-P16: the approved call of a batch runs, the asking one waits; the command that is told goes on with it, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_goes_on_with_the_command_it_told() {
    for through_instance in [false, true] {
        let desk = Desk::new().await;
        let up = through_instance.then(|| desk.home.up());
        desk.script(&[("look", "uptime"), ("make", "touch made")]);
        let paused = desk.json(&["--pause-on-approval", "look, then make"]);
        assert_eq!((&paused["outcome"], &paused["exit_code"]), (&json!("paused"), &json!(10)));
        assert_eq!(
            paused["pause_reason"],
            json!({
                "pending_tool_calls": [
                    { "arguments": { "command": "touch made" }, "id": "make", "name": "stakpak__run_command" }
                ],
                "type": "tool_approval_required",
            })
        );
        let kept: Value = serde_json::from_slice(&std::fs::read(desk.pause_file()).unwrap()).unwrap();
        assert_eq!(kept, paused);
        assert_eq!(std::fs::metadata(desk.pause_file()).unwrap().permissions().mode() & 0o777, 0o600);
        // Whoever only asks decides nothing.
        let again = desk.json(&["--session", id(&paused, "session_id")]);
        assert_eq!(again["pause_reason"], paused["pause_reason"]);
        assert_eq!(desk.llm.requests().len(), 1);

        let hint = shlex::split(id(&paused, "resume_hint")).unwrap();
        let words: Vec<&str> = hint.iter().skip(1).map(String::as_str).chain(["-o", "json"]).collect();
        let resumed = manifest(&desk.home.run(&words));
        assert_eq!(
            (&resumed["outcome"], &resumed["run_id"], &resumed["agent_message"]),
            (&json!("completed"), &paused["run_id"], &json!("All done."))
        );
        assert_eq!((&resumed["steps"], &resumed["total_steps"]), (&json!(1), &json!(2)));
        assert!(desk.home.path("made").exists());
        assert!(!desk.pause_file().exists());
        let results = desk.llm.requests()[1].body["messages"].to_string();
        assert!(results.contains("load average"), "the approved call ran before the pause: {results}");
        let twice = desk.home.run(&words);
        assert_eq!(twice.status.code(), Some(1));
        assert!(stderr(&twice).contains("no call waits"), "{}", stderr(&twice));
        drop(up);
    }
}

/// What is not named is rejected; an unknown name decides nothing; a checkpoint is as good as the session.
#[tokio::test(flavor = "multi_thread")]
async fn decisions_name_calls() {
    let desk = Desk::new().await;
    desk.script(&[("one", "touch one"), ("two", "touch two"), ("three", "touch three")]);
    let paused = desk.json(&["--pause-on-approval", "make three"]);
    let checkpoint = id(&paused, "checkpoint_id").to_owned();
    let unknown = desk.run(&["-c", &checkpoint, "--approve", "four"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("one, two, three"), "{}", stderr(&unknown));
    let unsent = desk.run(&["-c", &checkpoint, "and another thing"]);
    assert!(stderr(&unsent).contains("was not sent"), "{}", stderr(&unsent));
    let done = desk.json(&["-c", &checkpoint, "--approve", "one", "--reject", "two"]);
    assert_eq!(done["outcome"], "completed");
    let made = ["one", "two", "three"].map(|file| desk.home.path(file).exists());
    assert_eq!(made, [true, false, false]);
    let stale = desk.run(&["-c", &checkpoint, "go on"]);
    assert!(stderr(&stale).contains(id(&paused, "session_id")), "{}", stderr(&stale));
    for arguments in
        [vec!["--approve", "one", "x"], vec!["-s", "nonsense", "x"], vec!["-s", &checkpoint, "-c", &checkpoint]]
    {
        assert_eq!(desk.run(&arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// A prompt that comes with the decisions is for the same run.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_with_decisions_follows_up() {
    let desk = Desk::new().await;
    desk.script(&[("one", "touch one")]);
    let paused = desk.json(&["--pause-on-approval", "make one"]);
    desk.llm.push(Reply::text(["And more."]));
    let done = desk.json(&["-s", id(&paused, "session_id"), "--approve-all", "and more"]);
    assert_eq!((&done["run_id"], &done["agent_message"]), (&paused["run_id"], &json!("And more.")));
}

/// Without a terminal a call that asks is rejected, and the model learns why; `--tool` lets it run.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_what_asks_is_rejected_unless_named() {
    let desk = Desk::new().await;
    desk.script(&[("make", "touch made")]);
    assert!(desk.run(&["make it"]).status.success());
    let told = desk.llm.requests()[1].body["messages"].to_string();
    assert!(told.contains("nobody can be asked") && told.contains("--pause-on-approval"), "{told}");
    assert!(!desk.home.path("made").exists());
    desk.script(&[("make", "touch made")]);
    assert!(desk.run(&["--tool", "view", "-t", "run_command", "make it"]).status.success());
    assert!(desk.home.path("made").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_read_from_files() {
    let desk = Desk::new().await;
    desk.llm.always(Reply::text(["Yes."]));
    std::fs::write(desk.home.path("system.txt"), "You are a parrot.").unwrap();
    std::fs::write(desk.home.path("prompt.txt"), "Say yes.").unwrap();
    let output = desk.run(&["--prompt-file", "prompt.txt", "--system-prompt-file", "system.txt"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let asked = desk.llm.requests()[0].body["messages"].to_string();
    assert!(asked.contains("You are a parrot.") && asked.contains("Say yes."), "{asked}");
    for arguments in [vec!["--prompt-file", "nowhere"], vec!["x", "--system-prompt-file", "nowhere"]] {
        let refused = desk.run(&arguments);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains("nowhere"), "{}", stderr(&refused));
    }
}

/// The server ends the run too: it is not taken up again.
#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_the_run_with_124() {
    let desk = Desk::new().await;
    let up = desk.home.up();
    desk.llm.push(Reply::text(["Never"]).then_wait(&Gate::new()));
    let late = desk.json(&["--timeout", "300ms", "take your time"]);
    assert_eq!((&late["outcome"], &late["exit_code"]), (&json!("timed_out"), &json!(124)));
    let run = up.client().get_run(id(&late, "session_id"), id(&late, "run_id")).await.unwrap();
    assert!(run.state.is_terminal(), "{run:?}");
    assert_eq!(desk.run(&["--timeout", "soon", "x"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cancels_the_run_with_130() {
    let desk = Desk::new().await;
    let up = desk.home.up();
    desk.llm.push(Reply::text(["Never"]).then_wait(&Gate::new()));
    let mut command = desk.home.command(&["run", "-o", "json", "take your time"]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    desk.llm.wait_for_requests(1).await;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(run.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = manifest(&run.wait_with_output().unwrap());
    assert_eq!((&ended["outcome"], &ended["exit_code"]), (&json!("cancelled"), &json!(130)));
    let record = up.client().get_run(id(&ended, "session_id"), id(&ended, "run_id")).await.unwrap();
    assert_eq!(record.state, stakpak_client::RunState::Cancelled);
}

/// Stopping at the last step is not completion.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_steps_and_a_failed_model_are_failures() {
    let desk = Desk::new().await;
    desk.script(&[("look", "pwd")]);
    let stopped = desk.json(&["-m", "1", "look around"]);
    assert_eq!((&stopped["outcome"], &stopped["stop_reason"]), (&json!("failed"), &json!("max_turns")));
    assert!(id(&stopped, "error").contains("go on"), "{stopped}");
    let desk = Desk::new().await;
    desk.llm.push(Reply::status(400, &json!({ "error": { "message": "no such thing" } })));
    let failed = desk.json(&["x"]);
    assert_eq!((&failed["outcome"], &failed["exit_code"]), (&json!("failed"), &json!(1)));
    assert!(id(&failed, "error").contains("no such thing"), "{failed}");
}

/// C-P13: the same command with the same output, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_only_repeats_itself_says_so() {
    let desk = Desk::new().await;
    desk.llm.always(Reply::tool_calls(&[("look", "stakpak__run_command", json!({ "command": "pwd" }))]));
    let stopped = desk.json(&["look around"]);
    let told = ["outcome", "stop_reason", "detail", "steps"].map(|key| &stopped[key]);
    assert_eq!(told, [&json!("failed"), &json!("max_turns"), &json!("no_progress"), &json!(6)], "{stopped}");
    assert!(id(&stopped, "error").contains("the same calls with the same results"), "{stopped}");
    assert_eq!(desk.llm.requests().len(), 6);
}

/// A budget without a price is refused.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_refused() {
    let desk = Desk::new().await;
    desk.script(&[("make", "touch made")]);
    for (arguments, why) in [
        (["--approve-all", "--budget-usd", "0.5", "make it"].as_slice(), "price"),
        (&["--detach", "make it"], "stakpak up -d"),
    ] {
        let refused = desk.run(arguments);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&refused).contains(why), "{arguments:?}: {}", stderr(&refused));
    }
    assert_eq!(desk.llm.requests().len(), 0);
    assert_eq!(desk.run(&["--budget-usd", "-1", "x"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_run_goes_on_without_the_command() {
    let desk = Desk::new().await;
    let up = desk.home.up();
    let gate = Gate::new();
    desk.llm.push(Reply::text(["Slowly"]).then_wait(&gate).then_text(" done."));
    let started = desk.json(&["--detach", "take your time"]);
    assert_eq!(started["outcome"], "started");
    gate.open();
    let (session, run) = (id(&started, "session_id").to_owned(), id(&started, "run_id").to_owned());
    let client = up.client();
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while !client.get_run(&session, &run).await.unwrap().state.is_terminal() {
        assert!(std::time::Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The forms of older scripts.
#[tokio::test(flavor = "multi_thread")]
async fn prompts_without_run_are_runs() {
    let desk = Desk::new().await;
    desk.llm.always(Reply::text(["Yes."]));
    for arguments in [
        vec!["Is it there?"],
        vec!["-a", "Is it there?"],
        vec!["-p", "Is it there?"],
        vec!["--async", "-m", "3", "-o", "text", "Is it there?"],
        vec!["--profile", "default", "Is it there?"],
    ] {
        let output = desk.home.run(&arguments);
        assert_eq!(stdout(&output), "Yes.\n", "{arguments:?}: {}", stderr(&output));
    }
    let mut piped = desk.home.command(&["-a"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(b"Is it there?").unwrap();
    assert_eq!(stdout(&piped.wait_with_output().unwrap()), "Yes.\n");
    let asked = desk.llm.requests().len();
    for arguments in [vec!["statsu"], vec!["login"], vec![""]] {
        let refused = desk.home.run(&arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", stderr(&refused));
    }
    assert_eq!(desk.llm.requests().len(), asked);
}

/// The offline model says what it is, beside the answer.
#[test]
fn the_offline_notice_is_on_stderr() {
    let run = Home::new().run(&["run", "uptime"]);
    assert!(stderr(&run).contains("built-in offline model answers"), "{}", stderr(&run));
}

/// `stakpak init` is a run whose prompt is built in, with the flags of `run`.
#[tokio::test(flavor = "multi_thread")]
async fn init_asks_what_this_machine_runs() {
    let desk = Desk::new().await;
    desk.llm.push(Reply::text(["A map."]));
    let output = desk.home.run(&["init", "and the printers", "-o", "json"]);
    assert_eq!(manifest(&output)["agent_message"], "A map.");
    let asked = desk.llm.requests()[0].body["messages"].to_string();
    assert!(asked.contains("which applications this machine runs") && asked.contains("and the printers"), "{asked}");
}
