//! Tasks on real processes: they outlive their call and the server, belong to a session, and end whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod setting;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use setting::{Setting, completed, lives, until};
use stakpak_agent_core::{Effect, SandboxLevel, ToolOutcome, Tools};
use stakpak_protocol::SessionId;

/// The process that the tasks of these tests are kept by: it is started by them, with an order.
#[test]
#[ignore = "is the shim, not a test"]
fn the_shim_of_these_tests() {
    let _ = stakpak_tools::run_task_shim();
}

/// As long as a test could take: whatever is left behind goes by itself.
const LONG: &str = "300";

async fn start(setting: &Setting, arguments: Value) -> Value {
    serde_json::from_str(&setting.ok("run_command_task", arguments).await).unwrap()
}

async fn started(setting: &Setting, command: &str) -> String {
    start(setting, json!({"command": command})).await["id"].as_str().unwrap().to_owned()
}

async fn details(setting: &Setting, id: &str) -> String {
    setting.ok("get_task_details", json!({"task_id": id})).await
}

async fn waited(setting: &Setting, ids: &str) -> String {
    setting.ok("wait_for_tasks", json!({"task_ids": ids, "timeout": 60})).await
}

fn pid_in(setting: &Setting, file: &str) -> String {
    setting.read(file).trim().to_owned()
}

/// Every file below.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The processes whose command line holds the text.
fn processes_with(text: &str) -> Vec<i32> {
    let ids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let holds = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    };
    ids.filter(holds).collect()
}

/// The shim of a task: it has the task's lock as its standard output.
fn shim_of(setting: &Setting, id: &str) -> i32 {
    let lock = setting.root().join("tasks").join(setting.session.to_string()).join(id).join("lock");
    let lock = lock.canonicalize().unwrap();
    let mut ids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.find(|pid: &i32| fs::read_link(format!("/proc/{pid}/fd/1")).is_ok_and(|path| path == lock)).unwrap()
}

#[tokio::test]
async fn a_task_is_told_of_and_goes_on_behind_a_restart() {
    let mut setting = Setting::new();
    let command = "echo begun; until [ -e go ]; do sleep 0.02; done; echo done; exit 0";
    let task = start(&setting, json!({"command": command, "description": "waits"})).await;
    let id = task["id"].as_str().unwrap().to_owned();
    assert!(id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{id}");
    assert_eq!(
        (&task["status"], &task["command"], &task["description"]),
        (&json!("Running"), &json!(command), &json!("waits"))
    );
    assert!(task["output"].is_string() && task["duration"].is_number() && task["pause_info"].is_null(), "{task}");
    assert!(task["start_time"].is_string(), "{task}");

    setting.restart();
    let table = setting.ok("get_all_tasks", json!({})).await;
    assert!(table.contains(&format!("| {id} | Running |")), "{table}");
    until("the first line", || {
        !files(&setting.artefacts()).is_empty()
            && fs::read_to_string(&files(&setting.artefacts())[0]).unwrap() == "begun\n"
    })
    .await;
    let seen = details(&setting, &id).await;
    assert!(
        seen.starts_with(&format!("Task {id}: Running\nCommand: echo begun")) && seen.ends_with("Output:\nbegun"),
        "{seen}"
    );
    setting.write("go", "");
    let table = waited(&setting, &id).await;
    assert!(table.contains(&format!("| {id} | Completed |")), "{table}");
    setting.restart();
    let seen = details(&setting, &id).await;
    assert!(seen.contains("(exit code 0)") && seen.ends_with("Output:\nbegun\ndone"), "{seen}");
}

/// C-P32
#[tokio::test]
async fn a_task_belongs_to_its_session() {
    let mut setting = Setting::new();
    let id = started(&setting, &format!("sleep {LONG}")).await;
    let owner = setting.session;
    setting.session = SessionId::random();
    assert_eq!(setting.ok("get_all_tasks", json!({"view": "all"})).await, "This session has no tasks");
    for (tool, arguments) in [
        ("get_task_details", json!({"task_id": id})),
        ("wait_for_tasks", json!({"task_ids": id})),
        ("cancel_task", json!({"task_id": id})),
        ("cancel_task", json!({"task_id": format!("../{owner}/{id}")})),
    ] {
        let error = setting.error(tool, arguments).await;
        assert!(error.starts_with("TASK_NOT_FOUND\n"), "{error}");
    }
    setting.session = owner;
    assert!(details(&setting, &id).await.contains("Running"));
    setting.tools.forget_session(owner).await.unwrap();
}

/// C-P32
#[tokio::test]
async fn exit_codes_are_failures_and_output_stays() {
    let setting = Setting::new();
    let [ten, signal] =
        [started(&setting, "echo ten; exit 10").await, started(&setting, "echo nine; kill -9 $$").await];
    let table = waited(&setting, &format!("{ten}, {signal}")).await;
    assert!(
        table.contains(&format!("| {ten} | Failed |")) && table.contains(&format!("| {signal} | Failed |")),
        "{table}"
    );
    let table = setting.ok("get_all_tasks", json!({})).await;
    let (first, second) = (table.find(&signal).unwrap(), table.find(&ten).unwrap());
    assert!(first < second, "newest first: {table}");
    let seen = details(&setting, &ten).await;
    assert!(seen.contains("(exit code 10)") && seen.ends_with("\nten"), "{seen}");
    assert!(details(&setting, &signal).await.contains("(ended by signal 9)"));
    let error = setting.error("cancel_task", json!({"task_id": ten})).await;
    assert!(error.starts_with("CANCEL_TASK_ERROR\nTask"), "{error}");
}

const ESCAPES: &str = "echo out; (setsid sh -c 'echo $$ > escaped; trap \"\" TERM; while :; do sleep 0.1; done' &); \
                       echo $$ > shell; while :; do sleep 0.1; done";

/// C-P29 for tasks.
#[tokio::test]
async fn a_cancel_ends_what_has_left_the_group_too() {
    let setting = Setting::new();
    let id = started(&setting, ESCAPES).await;
    until("the processes", || setting.cwd().join("escaped").exists() && setting.cwd().join("shell").exists()).await;
    let (escaped, shell) = (pid_in(&setting, "escaped"), pid_in(&setting, "shell"));
    assert!(lives(&escaped) && lives(&shell));
    let cancelled = setting.ok("cancel_task", json!({"task_id": id})).await;
    assert!(cancelled.contains(&format!("Task {id}: Cancelled")) && cancelled.ends_with("Output:\nout"), "{cancelled}");
    assert!(!lives(&escaped) && !lives(&shell));
    assert!(setting.ok("get_all_tasks", json!({})).await.contains(&format!("| {id} | Cancelled |")));
}

#[tokio::test]
async fn a_timeout_ends_the_task_and_says_so() {
    let setting = Setting::new();
    let task = start(&setting, json!({"command": ESCAPES, "timeout": 1})).await;
    let id = task["id"].as_str().unwrap();
    let table = waited(&setting, id).await;
    assert!(table.contains(&format!("| {id} | TimedOut |")), "{table}");
    assert!(!lives(&pid_in(&setting, "escaped")) && !lives(&pid_in(&setting, "shell")));
    let seen = details(&setting, id).await;
    assert!(seen.contains("timed out after 1 seconds") && seen.ends_with("Output:\nout"), "{seen}");
}

#[tokio::test]
async fn without_a_shim_nobody_knows_and_nothing_is_left() {
    let setting = Setting::new();
    let id = started(&setting, ESCAPES).await;
    until("the processes", || setting.cwd().join("escaped").exists() && setting.cwd().join("shell").exists()).await;
    let shim = nix_pid(shim_of(&setting, &id));
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the end of the shim", || !lives(&shim.to_string())).await;
    let seen = details(&setting, &id).await;
    assert!(seen.contains("Failed") && seen.contains("outcome unknown") && seen.ends_with("Output:\nout"), "{seen}");
    assert!(!lives(&pid_in(&setting, "escaped")) && !lives(&pid_in(&setting, "shell")));
    assert_eq!(details(&setting, &id).await, seen, "once known, it stays");
}

fn nix_pid(pid: i32) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(pid)
}

/// The clean-up of calls is about calls.
#[tokio::test]
async fn a_task_is_no_orphan_of_its_call() {
    let setting = Setting::new();
    let call = Setting::call("run_command_task", json!({"command": format!("echo $$ > shell; exec sleep {LONG}")}));
    let (context, _progress) = setting.context();
    completed(setting.tools.run(&call, context).await);
    assert!(setting.tools.orphans().await.iter().all(|(session, _)| *session != setting.session));
    assert_eq!(setting.tools.end_orphans(setting.session, &call.id).await, 0);
    assert!(lives(&pid_in(&setting, "shell")));
    setting.tools.end_session(setting.session).await.unwrap();
    assert!(!lives(&pid_in(&setting, "shell")), "the end of the session is the task's");
    setting.tools.forget_session(setting.session).await.unwrap();
    assert!(files(&setting.root().join("tasks")).is_empty() && !setting.artefacts().exists());
}

/// C-P50: what a task meets is hidden, and what it is given is in no file and no argument list.
#[tokio::test]
async fn secrets_are_hidden_and_given_back_as_variables() {
    let setting = Setting::new();
    let id = started(&setting, &format!("echo {}; echo password=Xy7kk9Qz4Wv2", setting::SECRET)).await;
    waited(&setting, &id).await;
    let seen = details(&setting, &id).await;
    assert!(seen.contains("[REDACTED]") && !seen.contains("Xy7kk9Qz4Wv2"), "{seen}");
    let placeholder = &seen[seen.rfind("[REDACTED_SECRET:").unwrap()..];
    let placeholder = &placeholder[..=placeholder.find(']').unwrap()];

    let command = format!("printf %s {placeholder} | md5sum; until [ -e go ]; do sleep 0.02; done");
    let id = started(&setting, &command).await;
    assert_eq!(processes_with("Xy7kk9Qz4Wv2"), [] as [i32; 0]);
    for file in files(setting.root()).iter().filter(|file| !file.ends_with("control")) {
        let bytes = fs::read(file).unwrap();
        for secret in ["Xy7kk9Qz4Wv2", setting::SECRET] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", file.display());
        }
    }
    setting.write("go", "");
    waited(&setting, &id).await;
    let output = details(&setting, &id).await;
    let given =
        tokio::process::Command::new("sh").args(["-c", "printf %s Xy7kk9Qz4Wv2 | md5sum"]).output().await.unwrap();
    assert!(output.ends_with(String::from_utf8(given.stdout).unwrap().trim()), "{output}");
    let error = setting.error("run_command_task", json!({"command": "echo [REDACTED_SECRET:jwt:abc123]"})).await;
    assert!(error.starts_with("UNKNOWN_SECRET\n"), "{error}");
}

#[tokio::test]
async fn waiting_ends_by_steering_by_its_limit_and_by_cancel() {
    let setting = Setting::new();
    let id = started(&setting, &format!("sleep {LONG}")).await;
    let call = Setting::call("wait_for_tasks", json!({"task_ids": id}));
    let (context, mut progress) = setting.context();
    let steered = context.steered.clone();
    let steer = async {
        let told = progress.recv().await.unwrap();
        assert!(told.contains(&id), "{told}");
        steered.cancel();
    };
    let (outcome, ()) = tokio::join!(setting.tools.run(&call, context), steer);
    let (text, is_error) = completed(outcome);
    assert!(!is_error && text.contains("The user has sent a message") && text.contains("| Running |"), "{text}");

    let text = setting.ok("wait_for_tasks", json!({"task_ids": id, "timeout": 0})).await;
    assert!(text.contains(&format!("Still running after 0 seconds: {id}")), "{text}");

    let (context, _progress) = setting.context();
    context.cancel.cancel();
    assert_eq!(setting.tools.run(&call, context).await, ToolOutcome::Cancelled);
    setting.tools.forget_session(setting.session).await.unwrap();
}

#[tokio::test]
async fn a_long_output_is_shown_by_its_ends() {
    let setting = Setting::new();
    let id = started(&setting, "seq 1 1000").await;
    waited(&setting, &id).await;
    let seen = details(&setting, &id).await;
    assert!(seen.contains("[1000 lines, 3893 bytes of output: the first 50") && seen.ends_with("\n1000"), "{seen}");
    assert!(seen.contains(&format!("All of it: {}", setting.artefacts().display())), "{seen}");
    let cell = setting.ok("get_all_tasks", json!({})).await;
    assert!(cell.lines().nth(2).unwrap().len() < 400, "{cell}");
}

#[tokio::test]
async fn the_last_hundred_that_are_finished_stay() {
    let setting = Setting::new();
    let id = started(&setting, "echo kept").await;
    waited(&setting, &id).await;
    let tasks = setting.root().join("tasks").join(setting.session.to_string());
    for number in 0..110 {
        let copy = tasks.join(format!("{number:06}"));
        fs::create_dir(&copy).unwrap();
        for file in ["lock", "exit.json"] {
            fs::copy(tasks.join(&id).join(file), copy.join(file)).unwrap();
        }
        let mut record: Value = serde_json::from_slice(&fs::read(tasks.join(&id).join("task.json")).unwrap()).unwrap();
        record["id"] = json!(format!("{number:06}"));
        record["start_time"] = json!(format!("2020-01-01T00:{:02}:{:02}Z", number / 60, number % 60));
        record["output"] = json!(copy.join("none"));
        fs::write(copy.join("task.json"), record.to_string()).unwrap();
    }
    let table = setting.ok("get_all_tasks", json!({})).await;
    assert_eq!(table.lines().count(), 2 + 100);
    assert!(table.contains("| 000109 |") && table.contains("| 000011 |") && !table.contains("| 000010 |"), "{table}");
    assert!(details(&setting, &id).await.ends_with("kept"));
}

#[tokio::test]
async fn a_sandbox_holds_for_tasks_or_nothing_runs() {
    let setting = Setting::new();
    let run = async |level: SandboxLevel, command: String| {
        let (mut context, _progress) = setting.context();
        context.sandbox.level = level;
        completed(setting.tools.run(&Setting::call("run_command_task", json!({"command": command})), context).await)
    };
    let (text, is_error) = run(SandboxLevel::Container, "echo ran > ran".to_owned()).await;
    assert!(is_error && text.starts_with("SANDBOX_UNAVAILABLE\n"), "{text}");
    assert!(!setting.cwd().join("ran").exists());
    assert_eq!(setting.ok("get_all_tasks", json!({})).await, "This session has no tasks");
    if stakpak_tools::sandbox_support(&SandboxLevel::Landlock.into()).is_err() {
        return println!("no landlock here");
    }
    let outside = setting.root().join("outside");
    let command = format!("touch inside; touch {} || echo refused; echo $HOME > home", outside.display());
    let (text, is_error) = run(SandboxLevel::Landlock, command).await;
    assert!(!is_error, "{text}");
    let id = serde_json::from_str::<Value>(&text).unwrap()["id"].as_str().unwrap().to_owned();
    waited(&setting, &id).await;
    assert!(setting.cwd().join("inside").exists() && !outside.exists());
    assert!(details(&setting, &id).await.ends_with("refused"));
    assert!(!Path::new(&pid_in(&setting, "home")).exists(), "its home is gone with it");
}

#[tokio::test]
async fn a_cancelled_start_leaves_nothing_running() {
    let setting = Setting::new();
    let call = Setting::call("run_command_task", json!({"command": format!("echo $$ > shell; exec sleep {LONG}")}));
    let (context, _progress) = setting.context();
    let cancel = context.cancel.clone();
    let stop = async {
        until("the start", || setting.cwd().join("shell").exists() && !setting.read("shell").is_empty()).await;
        cancel.cancel();
    };
    let began = Instant::now();
    let (outcome, ()) = tokio::join!(setting.tools.run(&call, context), stop);
    assert!(began.elapsed() < Duration::from_secs(60));
    if outcome == ToolOutcome::Cancelled {
        assert!(!lives(&pid_in(&setting, "shell")));
    }
    setting.tools.forget_session(setting.session).await.unwrap();
}

#[tokio::test]
async fn what_only_looks_at_tasks_is_pure() {
    let setting = Setting::new();
    for (tool, arguments, effect) in [
        ("run_command_task", json!({"command": "df -h"}), Effect::Unsafe),
        ("get_all_tasks", json!({}), Effect::Pure),
        ("get_task_details", json!({"task_id": "abc123"}), Effect::Pure),
        ("wait_for_tasks", json!({"task_ids": "abc123"}), Effect::Pure),
        ("cancel_task", json!({"task_id": "abc123"}), Effect::Unsafe),
    ] {
        assert_eq!(setting.tools.effect(&Setting::call(tool, arguments)), effect, "{tool}");
    }
    let asks = Setting::call("run_command_task", json!({"command": "cat ~/.ssh/id_rsa"}));
    assert!(setting.tools.needs_question(&asks, &setting.cwd()).unwrap().contains("may hold secrets"));
}
