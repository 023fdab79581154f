//! The level `container`: what an engine is told, and that nothing of a command is left, whatever becomes of its client, the
//! engine or this process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod setting;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, getegid, geteuid, getpgid},
};
use serde_json::{Value, json};
use setting::{SECRET, Setting, completed, lives, until};
use stakpak_agent_core::{Sandbox, SandboxLevel, ToolOutcome, Tools};
use stakpak_protocol::{RunId, SessionId};
use stakpak_test_support::{FakeEngine, Trouble};
use stakpak_tools::{ContainerMode, ContainersConfig};

/// As long as a test could take: whatever is left behind goes by itself.
const LONG: &str = "300";
/// The image that a real engine must have.
const IMAGE: &str = "stakpak-busybox:local";

fn container() -> Sandbox {
    Sandbox { image: Some(IMAGE.to_owned()), cpus: Some(1.try_into().unwrap()), ..SandboxLevel::Container.into() }
}

fn with(engine: &FakeEngine) -> Setting {
    with_set(engine, |_| {})
}

fn with_set(engine: &FakeEngine, set: impl Fn(&mut ContainersConfig)) -> Setting {
    Setting::with_containers(|config| {
        config.path = Some(engine.bin().into());
        set(config);
    })
}

async fn call(setting: &Setting, sandbox: Sandbox, tool: &str, arguments: Value) -> (String, bool) {
    let (mut context, _progress) = setting.context();
    context.sandbox = sandbox;
    completed(setting.tools.run(&Setting::call(tool, arguments), context).await)
}

async fn shell(setting: &Setting, command: &str) -> (String, bool) {
    call(setting, container(), "run_command", json!({ "command": command })).await
}

fn pid_in(setting: &Setting, file: &str) -> String {
    setting.read(file).trim().to_owned()
}

async fn written(setting: &Setting, file: &str) {
    until(file, || fs::read_to_string(setting.cwd().join(file)).is_ok_and(|text| text.ends_with('\n'))).await;
}

/// Of the arguments after this option.
fn after<'a>(arguments: &'a [String], option: &str) -> Vec<&'a str> {
    arguments.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].as_str()).collect()
}

/// Every option is there, and no other.
#[tokio::test]
async fn a_container_is_started_with_everything_that_makes_it_a_sandbox() {
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    let (read, write) = (setting.root().join("read"), setting.root().join("write"));
    for place in [&read, &write] {
        fs::create_dir(place).unwrap();
    }
    let sandbox = Sandbox { read: vec![read.clone()], write: vec![write.clone()], ..container() };
    let (text, is_error) = call(&setting, sandbox, "run_command", json!({ "command": "echo ran" })).await;
    assert_eq!((text.as_str(), is_error), ("ran", false));
    let runs = engine.calls_of("run");
    let [run] = runs.as_slice() else { panic!("{runs:?}") };
    let name = after(run, "--name")[0].to_owned();
    let labels = after(run, "--label");
    assert!(labels[0].starts_with("dev.stakpak.owner="), "{labels:?}");
    let home = after(run, "--mount").last().unwrap().rsplit_once('=').unwrap().1.to_owned();
    assert!(home.contains("/stakpak-container-"), "{home}");
    let (session, user) = (setting.session, format!("{}:{}", geteuid(), getegid()));
    let cwd = setting.cwd().canonicalize().unwrap();
    let (cwd, read, write) = (cwd.display(), read.display(), write.display());
    let expected = format!(
        "run --detach --rm --init --pull never --network none --cap-drop ALL --security-opt no-new-privileges \
         --read-only --pids-limit 4096 --memory 4g --memory-swap 4g --cpus 1 --ulimit nofile=1024:1024 \
         --ulimit nproc=4096:4096 --ulimit core=0:0 --tmpfs /tmp:rw,nosuid,nodev,size=256m --user {user} \
         --mount type=bind,source={read},target={read},readonly --mount type=bind,source={cwd},target={cwd} \
         --mount type=bind,source={write},target={write} --name {name} --label {owner} \
         --label dev.stakpak.session={session} --mount type=bind,source={home},target={home} --workdir {cwd} \
         --entrypoint /bin/sh {IMAGE} -c",
        owner = labels[0],
    );
    assert_eq!(run[..run.len() - 1].join(" "), expected);
    let granted = Sandbox { network: true, memory: Some("512m".to_owned()), ..container() };
    call(&setting, granted, "run_command", json!({ "command": "true" })).await;
    let second = &engine.calls_of("run")[1];
    assert_eq!(after(second, "--network"), [""; 0]);
    assert_eq!((after(second, "--memory"), after(second, "--memory-swap")), (vec!["512m"], vec!["512m"]));
}

/// What differs between engines.
#[tokio::test]
async fn podman_is_told_what_it_would_do_otherwise() {
    let engine = FakeEngine::new("podman");
    let setting = with(&engine);
    assert_eq!(shell(&setting, "echo ran").await, ("ran".to_owned(), false));
    assert!(engine.calls_of("run")[0].contains(&"--http-proxy=false".to_owned()));
    setting.tools.end_session(setting.session).await.unwrap();
    assert_eq!(after(&engine.calls_of("rm")[0], "--time"), ["0"]);
    assert_eq!(engine.containers(), [""; 0]);
}

#[tokio::test]
async fn output_and_exit_status_are_as_outside() {
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    fs::create_dir(setting.cwd().join("below")).unwrap();
    for (arguments, expected) in [
        (json!({"command": "echo a; echo b >&2; echo c"}), "a\nb\nc"),
        (json!({"command": "true"}), "No output"),
        (json!({"command": "echo told; exit 3"}), "COMMAND_FAILED\ntold\nCommand exited with code 3"),
        (json!({"command": "cat; echo no input"}), "no input"),
        (json!({"command": "printf '%s' \"$VALUE\"", "env": {"VALUE": "a \"b\" $c\nd"}}), "a \"b\" $c\nd"),
        (json!({"command": "basename \"$PWD\"", "cwd": "below"}), "below"),
        (
            json!({"command": "echo $PAGER $STAKPAK_PROFILE; test \"$HOME\" = \"$TMPDIR\" && touch $HOME/x"}),
            "cat default",
        ),
        (json!({"command": "env | grep -c STAKPAK_VALUE_"}), "COMMAND_FAILED\n0\nCommand exited with code 1"),
    ] {
        assert_eq!(call(&setting, container(), "run_command", arguments.clone()).await.0, expected, "{arguments}");
    }
    let (lines, _) = shell(&setting, "seq 1 1000; head -c 10000000 /dev/zero | tr '\\0' x; echo; echo last").await;
    assert!(lines.ends_with("\nlast"), "{}", &lines[lines.len() - 200..]);
    let kept = fs::read_to_string(&setting.kept()[0]).unwrap();
    assert!(kept.len() > 10_000_000 && kept.contains("\n999\n1000\nxxx"), "{}", kept.len());
    let (text, is_error) = call(&setting, container(), "run_command", json!({"command": "pwd", "cwd": "/usr"})).await;
    assert!(is_error && text.starts_with("PATH_DENIED\n"), "{text}");
}

#[tokio::test]
async fn a_container_is_of_one_session_and_goes_with_it() {
    let engine = FakeEngine::new("docker");
    let mut setting = with(&engine);
    for _ in 0..2 {
        shell(&setting, "true").await;
    }
    assert_eq!(engine.containers().len(), 1);
    let first = std::mem::replace(&mut setting.session, SessionId::random());
    shell(&setting, "true").await;
    assert_eq!(engine.containers().len(), 2);
    let home = after(&engine.calls_of("run")[0], "--mount").last().unwrap().rsplit_once('=').unwrap().1.to_owned();
    assert!(Path::new(&home).exists());
    setting.tools.end_session(first).await.unwrap();
    assert_eq!(engine.containers().len(), 1);
    until("its home goes", || !Path::new(&home).exists()).await;
    setting.tools.forget_session(setting.session).await.unwrap();
    assert_eq!(engine.containers(), [""; 0]);
}

#[tokio::test]
async fn an_ephemeral_container_is_of_one_run() {
    let engine = FakeEngine::new("docker");
    let setting = with_set(&engine, |config| config.mode = ContainerMode::Ephemeral);
    let run = async |run: RunId| {
        let (mut context, _progress) = setting.context();
        (context.sandbox, context.run_id) = (container(), run);
        setting.tools.run(&Setting::call("run_command", json!({"command": "true"})), context).await;
        engine.calls_of("run").len()
    };
    let (first, second) = (RunId::random(), RunId::random());
    assert_eq!((run(first).await, run(first).await, run(second).await), (1, 1, 2));
    setting.tools.at_rest(setting.session).await;
    until("both go", || engine.containers().is_empty()).await;

    let setting = with(&engine);
    shell(&setting, "true").await;
    setting.tools.at_rest(setting.session).await;
    shell(&setting, "true").await;
    assert_eq!(engine.calls_of("run").len(), 3, "a persistent one stays");
}

#[tokio::test]
async fn what_is_idle_goes_and_what_works_stays() {
    let engine = FakeEngine::new("docker");
    let setting = with_set(&engine, |config| config.idle_after = Duration::from_millis(100));
    shell(&setting, "true").await;
    until("it goes", || engine.containers().is_empty()).await;
    assert_eq!(shell(&setting, "sleep 1; echo worked").await, ("worked".to_owned(), false));
    until("it goes again", || engine.containers().is_empty()).await;
}

/// C-P29, C-P30: also what has left its group.
#[tokio::test]
async fn nothing_of_a_command_outlives_it() {
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    let apart = format!("setsid sh -c 'echo $$ > apart; exec sleep {LONG}' & until test -s apart; do sleep 0.01; done");
    let (text, _) = shell(&setting, &format!("{apart}; echo over")).await;
    assert!(text.starts_with("over\n[Still running, now ended: sleep 300 (pid "), "{text}");
    assert!(!lives(&pid_in(&setting, "apart")));

    fs::remove_file(setting.cwd().join("apart")).unwrap();
    let command = format!("echo begun; {apart}; echo $$ > shell; trap '' TERM; sleep {LONG}; sleep {LONG}");
    let (text, is_error) = call(&setting, container(), "run_command", json!({"command": command, "timeout": 1})).await;
    assert!(is_error && text.starts_with("COMMAND_FAILED\nbegun\n"), "{text}");
    assert!(text.ends_with("Command timed out after 1 seconds"), "{text}");
    assert!(!lives(&pid_in(&setting, "apart")) && !lives(&pid_in(&setting, "shell")));
    assert_eq!(engine.calls_of("run").len(), 1, "the container stays");
    assert_eq!(shell(&setting, "echo again").await, ("again".to_owned(), false));
    assert_eq!(engine.calls_of("rm"), [[""; 0]; 0]);
}

async fn cancelled(setting: &Setting, command: &str) {
    let call = Setting::call("run_command", json!({ "command": command }));
    let (mut context, _progress) = setting.context();
    context.sandbox = container();
    let cancel = context.cancel.clone();
    let stop = async {
        written(setting, "shell").await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(setting.tools.run(&call, context), stop);
    assert_eq!(outcome, ToolOutcome::Cancelled);
}

#[tokio::test]
async fn cancel_ends_the_command_and_where_that_is_not_certain_its_container() {
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    let command = format!("echo $$ > shell; sleep {LONG}");
    cancelled(&setting, &command).await;
    assert!(!lives(&pid_in(&setting, "shell")));
    assert_eq!(engine.containers().len(), 1);

    engine.becomes(Trouble::Deaf);
    fs::remove_file(setting.cwd().join("shell")).unwrap();
    cancelled(&setting, &command).await;
    assert!(!lives(&pid_in(&setting, "shell")));
    assert_eq!(engine.containers(), [""; 0]);
    engine.recovers_from(Trouble::Deaf);
    assert_eq!(shell(&setting, "echo again").await, ("again".to_owned(), false));
}

/// The client that has let a command in.
fn client(engine: &FakeEngine) -> Pid {
    let program = engine.bin().join("docker").display().to_string();
    let mut pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_client = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<_> = line.split(|byte| *byte == 0).collect();
        let leads = getpgid(Some(Pid::from_raw(*pid))).is_ok_and(|group| group.as_raw() == *pid);
        leads && arguments.len() > 3 && arguments[1] == program.as_bytes() && arguments[2] == b"exec"
    };
    Pid::from_raw(pids.find(is_client).unwrap())
}

/// A client is a process of ours, the command is not.
#[tokio::test]
async fn a_command_does_not_outlive_its_client() {
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    let command = format!("echo told; echo $$ > shell; sleep {LONG}");
    let kill = async {
        written(&setting, "shell").await;
        killpg(client(&engine), Signal::SIGKILL).unwrap();
    };
    let ((text, is_error), ()) = tokio::join!(shell(&setting, &command), kill);
    assert!(is_error && text.starts_with("OUTCOME_UNKNOWN\n"), "{text}");
    assert!(!lives(&pid_in(&setting, "shell")));
    assert_eq!(engine.containers(), [""; 0]);
}

#[tokio::test]
async fn a_dropped_call_leaves_nothing() {
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    let command = format!("echo $$ > shell; yes & sleep {LONG}");
    tokio::select! {
        _ = shell(&setting, &command) => panic!("it ended"),
        () = written(&setting, "shell") => {}
    }
    until("nothing is left", || !lives(&pid_in(&setting, "shell")) && engine.containers().is_empty()).await;
}

/// C-P49: an engine whose output is a flood is read all the while.
#[tokio::test]
async fn a_flood_is_drained_to_the_end() {
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    let (text, is_error) = call(&setting, container(), "run_command", json!({"command": "yes", "timeout": 1})).await;
    assert!(is_error && text.ends_with("Command timed out after 1 seconds"), "{}", &text[text.len() - 200..]);
    assert_eq!(engine.containers().len(), 1);
}

/// C-P46.
#[tokio::test]
async fn without_a_working_engine_and_its_image_nothing_runs() {
    for (trouble, told) in [
        (None, "there is no docker and no podman"),
        (Some(Trouble::Dead), "docker: it does not answer: Error: Cannot connect"),
        (Some(Trouble::Hanging), "it has not answered within 3 seconds"),
        (Some(Trouble::WithoutImage), "it has no image stakpak-busybox:local: run `docker pull"),
        (Some(Trouble::Unbounded), "it cannot bound memory"),
    ] {
        let engine = FakeEngine::new("docker");
        let setting = if trouble.is_some() { with(&engine) } else { Setting::new() };
        trouble.into_iter().for_each(|trouble| engine.becomes(trouble));
        let refused = setting.tools.settle_sandbox(&container(), &setting.cwd()).unwrap_err().message;
        assert!(refused.contains(told), "{refused}");
        let (text, is_error) = shell(&setting, "touch ran").await;
        assert!(is_error && text.starts_with("SANDBOX_UNAVAILABLE\n"), "{text}");
        assert!(!setting.cwd().join("ran").exists());
    }
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    let without_image = SandboxLevel::Container.into();
    let refused = setting.tools.settle_sandbox(&without_image, &setting.cwd()).unwrap_err().message;
    assert!(refused.contains("image = "), "{refused}");
    assert_eq!(setting.tools.settle_sandbox(&container(), &setting.cwd()), Ok(container()));
    engine.becomes(Trouble::Refusing);
    let (text, is_error) = shell(&setting, "touch ran").await;
    assert!(is_error && text.starts_with("SANDBOX_UNAVAILABLE\nno container could be started"), "{text}");
    assert!(!setting.cwd().join("ran").exists());
}

/// Whoever has docker and names no image is no worse off.
#[test]
fn a_container_is_the_strongest_where_an_image_is_named_and_there() {
    let engine = FakeEngine::new("docker");
    let strongest = |setting: &Setting, image: Option<&str>| {
        let asked = Sandbox { image: image.map(str::to_owned), ..Sandbox::default() }.demanded();
        setting.tools.settle_sandbox(&asked, &setting.cwd()).unwrap().level
    };
    let setting = with(&engine);
    assert_eq!(strongest(&setting, None), SandboxLevel::Landlock);
    assert_eq!(strongest(&setting, Some(IMAGE)), SandboxLevel::Container);
    engine.becomes(Trouble::Dead);
    assert_eq!(strongest(&with(&engine), Some(IMAGE)), SandboxLevel::Landlock);
}

/// C-P48.
#[tokio::test]
async fn no_secret_is_in_an_argument_list_of_the_engine() {
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    fs::create_dir_all(setting.root().join("home/.aws")).unwrap();
    fs::write(setting.root().join("home/.aws/credentials"), "key").unwrap();
    let (told, _) = shell(&setting, &format!("echo {SECRET}")).await;
    let environment = json!({"TOKEN": SECRET, "LD_PRELOAD": "", "PATH": env::var("PATH").unwrap()});
    let command = format!("test \"$TOKEN\" = {SECRET} && echo same; ls -A $HOME; echo '{told}' | wc -c");
    let arguments = json!({"command": command, "env": environment});
    let (text, _) = call(&setting, container(), "run_command", arguments.clone()).await;
    assert!(text.starts_with("same\n"), "{text}");
    assert!(!text.contains(".aws"), "{text}");
    let named = Sandbox { secrets: vec!["aws".to_owned()], ..container() };
    assert!(call(&setting, named, "run_command", arguments).await.0.contains(".aws"));
    let all = format!("{:?}", engine.calls());
    assert!(!all.contains(SECRET) && !all.contains("TOKEN="), "{all}");
    assert!(all.contains("TOKEN"), "by name: {all}");
    let odd = json!({"command": "true", "env": {"A;touch ran;B": "x"}});
    let (text, is_error) = call(&setting, container(), "run_command", odd).await;
    assert!(is_error && text.contains("no name that a shell knows"), "{text}");
}

/// The same roots as what is mounted.
#[tokio::test]
async fn file_tools_see_what_the_container_sees() {
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    fs::write(setting.root().join("outside"), "theirs").unwrap();
    let run = async |tool: &str, arguments| call(&setting, container(), tool, arguments).await;
    assert!(!run("create", json!({"path": "made", "file_text": "x"})).await.1);
    assert!(!run("view", json!({"path": "made"})).await.1);
    assert!(!run("remove", json!({"path": "made"})).await.1);
    std::os::unix::fs::symlink(setting.root(), setting.cwd().join("out")).unwrap();
    for path in ["../outside", "out/outside", "/usr/bin/env", "/etc/passwd"] {
        assert!(run("view", json!({ "path": path })).await.1, "{path}");
    }
    assert!(run("create", json!({"path": "../made", "file_text": "x"})).await.1);
    assert!(!setting.root().join("made").exists());
}

/// No test: a server that is killed.
#[test]
#[ignore = "started by the other tests"]
fn the_server_of_these_tests() {
    let place = |name: &str| PathBuf::from(env::var_os(name).unwrap());
    let mut config = ContainersConfig::new(place("CONTAINERS"));
    config.path = env::var_os("ENGINE");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut setting = Setting::with_containers(|theirs| *theirs = config.clone());
        setting.session = env::var("SESSION").unwrap().parse().unwrap();
        let command = format!("echo $$ > {}; yes", place("SHELL_PID").display());
        shell(&setting, &command).await;
    });
}

#[test]
#[ignore = "is the shim, not a test"]
fn the_shim_of_these_tests() {
    let _ = stakpak_tools::run_task_shim();
}

/// C-P49.
#[tokio::test]
async fn containers_of_a_killed_server_are_reaped_at_the_next_start() {
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    shell(&setting, "true").await;
    let [own] = engine.containers().try_into().unwrap();
    let pid = setting.root().join("shell");
    let mut server = Command::new(env::current_exe().unwrap())
        .args(["the_server_of_these_tests", "--exact", "--ignored", "--nocapture"])
        .env("CONTAINERS", setting.root().join("containers"))
        .env("ENGINE", engine.bin())
        .env("SESSION", SessionId::random().to_string())
        .env("SHELL_PID", &pid)
        .spawn()
        .unwrap();
    until("it runs", || fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'))).await;
    setting.tools.orphans().await;
    assert_eq!(engine.containers().len(), 2, "nothing of the living is reaped");
    // So that it is the container's removal that ends the command, not the closed input.
    engine.becomes(Trouble::Clinging);
    server.kill().unwrap();
    server.wait().unwrap();
    setting.tools.orphans().await;
    assert_eq!(engine.containers().len(), 2, "what cannot be removed is tried again");
    engine.recovers_from(Trouble::Clinging);
    setting.tools.orphans().await;
    assert_eq!(engine.containers(), [own]);
    assert!(!lives(&fs::read_to_string(&pid).unwrap()));
    let listed = engine.calls_of("ps").len();
    setting.tools.orphans().await;
    assert_eq!(engine.calls_of("ps").len(), listed, "nothing is left to ask for");
}

#[tokio::test]
async fn a_task_has_a_container_of_its_own_that_ends_with_it() {
    let engine = FakeEngine::new("docker");
    let mut setting = with(&engine);
    let start = async |setting: &Setting, command: &str| {
        let (text, is_error) = call(setting, container(), "run_command_task", json!({ "command": command })).await;
        assert!(!is_error, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let id = start(&setting, "echo begun; until test -e go; do sleep 0.05; done; echo over").await;
    setting.restart();
    setting.tools.orphans().await;
    assert_eq!(engine.containers().len(), 1, "a task outlives the server");
    setting.write("go", "");
    let waited = setting.ok("wait_for_tasks", json!({"task_ids": id, "timeout": 60})).await;
    assert!(waited.contains("Completed"), "{waited}");
    assert!(setting.ok("get_task_details", json!({"task_id": id})).await.ends_with("begun\nover"));
    until("its container goes", || engine.containers().is_empty()).await;

    let id = start(&setting, &format!("echo $$ > shell; sleep {LONG}")).await;
    written(&setting, "shell").await;
    setting.ok("cancel_task", json!({ "task_id": id })).await;
    assert!(!lives(&pid_in(&setting, "shell")));
    until("its container goes", || engine.containers().is_empty()).await;

    engine.becomes(Trouble::Dead);
    setting.restart();
    let (text, is_error) = call(&setting, container(), "run_command_task", json!({"command": "touch ran"})).await;
    assert!(is_error && text.starts_with("SANDBOX_UNAVAILABLE\n"), "{text}");
    assert!(!setting.cwd().join("ran").exists());
}

#[tokio::test]
async fn a_tool_server_is_not_put_in_a_container() {
    let engine = FakeEngine::new("docker");
    let setting = with(&engine);
    let mut command = tokio::process::Command::new("true");
    let refused = setting.tools.confine(&mut command, &container(), &setting.cwd()).unwrap_err().message;
    assert!(refused.contains("use the level `landlock`"), "{refused}");
}

/// With a real engine, where one has the image.
#[tokio::test]
async fn a_real_engine_isolates() {
    let setting = Setting::with_containers(|config| config.path = None);
    if let Err(missing) = setting.tools.settle_sandbox(&container(), &setting.cwd()) {
        return println!("skipped: {missing}");
    }
    fs::write(setting.root().join("outside"), "theirs").unwrap();
    let (text, _) = shell(&setting, "id -u; pwd; echo made > made; ls /sys/class/net; echo over").await;
    assert_eq!(text, format!("{}\n{}\nlo\nover", geteuid(), setting.cwd().display()));
    assert_eq!(setting.read("made"), "made\n");
    for refused in [
        format!("cat {}", setting.root().join("outside").display()),
        "touch /bin/made".to_owned(),
        "mount -t tmpfs none /mnt".to_owned(),
        format!("kill -0 {}", std::process::id()),
    ] {
        let (text, is_error) = shell(&setting, &refused).await;
        assert!(is_error && text.starts_with("COMMAND_FAILED\n"), "{refused}: {text}");
    }
    let arguments = json!({"command": "echo begun; setsid sleep 300 & sleep 300", "timeout": 1});
    let (text, _) = call(&setting, container(), "run_command", arguments).await;
    assert!(text.starts_with("COMMAND_FAILED\nbegun\n") && text.ends_with("timed out after 1 seconds"), "{text}");
    let (text, _) = shell(&setting, "ps | grep -c '[s]leep 300'").await;
    assert_eq!(text, "COMMAND_FAILED\n0\nCommand exited with code 1");
    let arguments = json!({"command": "test \"$A\" = 'a b' && printf x | wc -c; exit 4", "env": {"A": "a b"}});
    let (text, _) = call(&setting, container(), "run_command", arguments).await;
    assert_eq!(text, "COMMAND_FAILED\n1\nCommand exited with code 4");
    let (text, _) = call(&setting, container(), "run_command", json!({"command": "yes", "timeout": 2})).await;
    assert!(text.ends_with("timed out after 2 seconds"));
    cancelled(&setting, "echo $$ > shell; sleep 300").await;
    let (text, _) = shell(&setting, "ps | grep -c '[s]leep 300'").await;
    assert_eq!(text, "COMMAND_FAILED\n0\nCommand exited with code 1");
    setting.tools.end_session(setting.session).await.unwrap();
}
