//! The level `landlock` on this machine's kernel: what a confined call cannot do, what it can, and that nothing runs where
//! it cannot be confined. Attacks run in a copy of this very program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(unsafe_code, reason = "attacks are system calls")]

#[path = "sandbox_suite/attacks.rs"]
mod attacks;
mod setting;

use std::{
    collections::BTreeMap,
    env, fs,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{PermissionsExt, chown, symlink},
            net::{SocketAddr, UnixListener},
            process::CommandExt,
        },
    },
    path::PathBuf,
    process::Command,
};

use nix::{libc, unistd::geteuid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use serde_json::{Value, json};
use setting::{Setting, completed};
use stakpak_agent_core::{Sandbox, SandboxLevel, Tools};
use stakpak_test_support::copy_executable;

/// An ordinary user where the tests run as root.
const NOBODY: u32 = 65534;

fn landlock() -> Sandbox {
    Sandbox { level: SandboxLevel::Landlock, ..Sandbox::default() }
}

/// Tools with a home, something outside, and listeners that an attack would reach.
struct Scene {
    setting: Setting,
    outside: tempfile::TempDir,
    tcp: TcpListener,
    _unix: UnixListener,
    _abstract: UnixListener,
    abstract_name: String,
}

impl Scene {
    fn new() -> Self {
        let setting = Setting::new();
        let home = setting.cwd().parent().unwrap().join("home");
        for directory in [".ssh", ".stakpak"] {
            fs::create_dir_all(home.join(directory)).unwrap();
        }
        fs::write(home.join(".ssh/id_rsa"), "the key").unwrap();
        fs::write(home.join(".stakpak/config.toml"), "").unwrap();
        let outside = tempfile::tempdir().unwrap();
        for file in ["file", "doomed", "moved"] {
            fs::write(outside.path().join(file), "theirs").unwrap();
        }
        symlink(outside.path(), setting.cwd().join("way-out")).unwrap();
        copy_executable(env::current_exe().unwrap(), setting.cwd().join("attacker"));
        let abstract_name = format!("stakpak-test-{}", setting.session);
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        Self {
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            _unix: UnixListener::bind(outside.path().join("socket")).unwrap(),
            _abstract: UnixListener::bind_addr(&address).unwrap(),
            abstract_name,
            outside,
            setting,
        }
    }

    fn home(&self) -> PathBuf {
        self.setting.cwd().parent().unwrap().join("home")
    }

    /// What became of each attack of a call with this sandbox.
    async fn outcomes(&self, sandbox: Sandbox) -> BTreeMap<String, String> {
        let variables = json!({
            "ABSTRACT": self.abstract_name, "OUTSIDE": self.outside.path(), "USER_HOME": self.home(),
            "PORT": self.tcp.local_addr().unwrap().port().to_string(), "SERVER": std::process::id().to_string(),
        });
        let command = "exec ./attacker --ignored --exact --nocapture attacker";
        let (text, _) = self.run(sandbox, "run_command", json!({"command": command, "env": variables})).await;
        let lines = text.lines().filter_map(|line| line.split_once("outcome\t")?.1.split_once('\t'));
        let outcomes: BTreeMap<_, _> = lines.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect();
        let all =
            [attacks::ON_FILES, attacks::ON_SOCKETS, attacks::ON_PROCESSES, attacks::ON_THE_KERNEL, attacks::NEEDED];
        assert_eq!(outcomes.len(), all.concat().len(), "{text}");
        outcomes
    }

    async fn run(&self, sandbox: Sandbox, tool: &str, arguments: Value) -> (String, bool) {
        let (mut context, _progress) = self.setting.context();
        context.sandbox = sandbox;
        completed(self.setting.tools.run(&Setting::call(tool, arguments), context).await)
    }

    async fn shell(&self, sandbox: Sandbox, command: &str) -> (String, bool) {
        self.run(sandbox, "run_command", json!({ "command": command })).await
    }
}

fn names(attacks: &[attacks::Attack]) -> Vec<&'static str> {
    attacks.iter().map(|(name, _)| *name).collect()
}

fn done(outcomes: &BTreeMap<String, String>, among: &[&str]) -> Vec<String> {
    among.iter().filter(|name| outcomes[**name] == "done").map(|name| (*name).to_owned()).collect()
}

/// No test: what the others run inside.
#[test]
#[ignore = "started by the other tests"]
fn attacker() {
    attacks::run();
}

/// C-P45. The same attacks succeed on the host, or they would prove nothing.
#[tokio::test]
async fn nothing_gets_out_of_a_sandbox() {
    let scene = Scene::new();
    let outcomes = scene.outcomes(landlock()).await;
    let (files, sockets) = (names(attacks::ON_FILES), names(attacks::ON_SOCKETS));
    let (processes, kernel) = (names(attacks::ON_PROCESSES), names(attacks::ON_THE_KERNEL));
    for attacks in [&files, &sockets, &processes, &kernel] {
        assert_eq!(done(&outcomes, attacks), [""; 0], "{outcomes:#?}");
    }
    let needed = names(attacks::NEEDED);
    assert_eq!(done(&outcomes, &needed), needed, "{outcomes:#?}");
    for name in kernel.iter().filter(|name| !["clone3", "x32"].contains(name)) {
        assert!(outcomes[*name].contains("code: 1,"), "{name}: {}", outcomes[*name]);
    }
    for name in ["clone3", "x32"] {
        assert!(outcomes[name].contains("code: 38,"), "{name}: {}", outcomes[name]);
    }
    assert_eq!(fs::read_to_string(scene.outside.path().join("file")).unwrap(), "theirs");

    fs::remove_file(scene.setting.cwd().join("link")).unwrap();
    let outcomes = scene.outcomes(Sandbox::default()).await;
    for attacks in [&files, &sockets, &processes] {
        assert_eq!(done(&outcomes, attacks), **attacks, "{outcomes:#?}");
    }
}

/// C-P45, where this process is not root.
#[test]
fn nothing_gets_out_of_an_ordinary_users_sandbox() {
    if !geteuid().is_root() {
        // The test above has been that of an ordinary user.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (program, own) = (directory.path().join("tests"), directory.path().join("own"));
    copy_executable(env::current_exe().unwrap(), &program);
    fs::create_dir(&own).unwrap();
    chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    let output = Command::new(program)
        .args(["--exact", "nothing_gets_out_of_a_sandbox", "file_tools_have_the_same_roots"])
        .env("TMPDIR", &own)
        .current_dir(&own)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("2 passed"), "{text}");
}

/// C-P45: what outlives its parent is confined as well.
#[tokio::test]
async fn a_daemon_of_a_call_is_confined() {
    let scene = Scene::new();
    let key = scene.home().join(".ssh/id_rsa");
    let daemon = format!("sleep 0.1; cat {} > got 2> refused; echo > over", key.display());
    let command = format!("(setsid sh -c '{daemon}' &); while [ ! -e over ]; do sleep 0.02; done; cat got refused");
    let (text, is_error) = scene.shell(landlock(), &command).await;
    assert!(!is_error && text.contains("Permission denied"), "{text}");
}

/// C-P45: a build works.
#[tokio::test]
async fn a_build_in_the_workspace_works() {
    let scene = Scene::new();
    scene.setting.write("main.c", "#include <stdio.h>\nint main(void) { puts(\"built\"); return 0; }\n");
    let command = "set -e; seq 3 | sort -r | sed s/^/x/ > \"$(mktemp)\"; test -w \"$HOME\"; mkdir -p out; \
                   cat <<< here > out/there; if command -v cc > /dev/null; then cc -o out/main main.c && ./out/main; \
                   else echo built; fi; echo $HOME";
    let (text, is_error) = scene.shell(landlock(), command).await;
    let (built, home) = text.split_once('\n').unwrap_or_default();
    assert!(!is_error && built == "built", "{text}");
    assert!(!PathBuf::from(home).exists(), "{home} is left");
}

#[tokio::test]
async fn what_is_granted_can_be_reached() {
    let scene = Scene::new();
    let (outside, port) = (scene.outside.path(), scene.tcp.local_addr().unwrap().port());
    let read = format!("cat {0}/file; echo x > {0}/new || echo refused", outside.display());
    let (text, _) = scene.shell(Sandbox { read: vec![outside.into()], ..landlock() }, &read).await;
    assert!(text.starts_with("theirs") && text.ends_with("refused"), "{text}");
    let (text, _) = scene.shell(Sandbox { write: vec![outside.into()], ..landlock() }, &read).await;
    assert!(!text.contains("refused") && outside.join("new").exists(), "{text}");

    let outcomes = scene.outcomes(Sandbox { network: true, ..landlock() }).await;
    let sockets = names(attacks::ON_SOCKETS);
    assert_eq!(done(&outcomes, &sockets), ["TCP", "listen", "UDP", "netlink"], "{port} {outcomes:#?}");
    fs::remove_file(scene.setting.cwd().join("link")).unwrap();
    let outcomes = scene.outcomes(Sandbox { unix_sockets: true, ..landlock() }).await;
    assert_eq!(done(&outcomes, &sockets), ["UNIX socket"], "abstract ones of others stay out of reach: {outcomes:#?}");
}

/// C-P48: the environment of the server is not that of a confined call.
#[tokio::test]
async fn no_variable_gets_in_that_is_not_needed() {
    let scene = Scene::new();
    let (text, _) = scene.shell(landlock(), "env").await;
    let names: Vec<_> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(names.contains(&"PATH") && names.contains(&"HOME") && names.contains(&"STAKPAK_CALL_ID"), "{text}");
    assert!(!names.iter().any(|name| name.starts_with("CARGO_") && *name != "CARGO_HOME"), "{text}");
    assert!(!text.contains(&format!("HOME={}\n", scene.home().display())), "{text}");
}

/// The kernel holds file tools to the same roots, links and all.
#[tokio::test]
async fn file_tools_have_the_same_roots() {
    let scene = Scene::new();
    let (key, outside) = (scene.home().join(".ssh/id_rsa"), scene.outside.path());
    scene.setting.write("src/a.txt", "one\n");
    symlink(&key, scene.setting.cwd().join("innocent")).unwrap();
    for (tool, arguments) in [
        ("view", json!({ "path": key })),
        ("view", json!({ "path": "innocent" })),
        ("view", json!({ "path": format!("/proc/self/root{}", key.display()) })),
        ("view", json!({ "path": scene.home() })),
        ("view", json!({ "path": "/etc/shadow" })),
        ("view", json!({ "path": outside, "grep": "theirs" })),
        ("view", json!({ "path": format!("/proc/{}/environ", std::process::id()) })),
        ("view", json!({ "path": "/proc/self/environ" })),
        ("view", json!({ "path": "/proc/thread-self/maps" })),
        ("view", json!({ "path": "/proc/self/status" })),
        ("create", json!({ "path": outside.join("new"), "file_text": "x" })),
        ("create", json!({ "path": "way-out/new", "file_text": "x" })),
        ("str_replace", json!({ "path": "way-out/file", "old_str": "theirs", "new_str": "mine" })),
        ("remove", json!({ "path": "way-out/file" })),
        ("remove", json!({ "path": key })),
    ] {
        let (text, is_error) = scene.run(landlock(), tool, arguments.clone()).await;
        let is_refused = is_error && text.contains("This run is in a sandbox");
        // A search tells what it could not read in its own words.
        assert!(is_refused || (arguments.get("grep").is_some() && !text.contains("theirs\n")), "{arguments}: {text}");
        assert!(!text.contains("the key"), "{text}");
    }
    assert!(!outside.join("new").exists());
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "theirs");

    scene.setting.write("src/gone/b.txt", "two\n");
    for (tool, arguments) in [
        ("remove", json!({ "path": "src/gone", "recursive": true })),
        ("view", json!({ "path": "src/a.txt" })),
        ("view", json!({ "path": "/etc/passwd" })),
        ("view", json!({ "path": "/proc/meminfo" })),
        ("create", json!({ "path": "src/b/c.txt", "file_text": "x" })),
        ("str_replace", json!({ "path": "src/a.txt", "old_str": "one", "new_str": "two" })),
    ] {
        let (text, is_error) = scene.run(landlock(), tool, arguments.clone()).await;
        assert!(!is_error, "{arguments}: {text}");
    }
    assert_eq!(scene.setting.read("src/a.txt"), "two\n");
}

#[tokio::test]
async fn the_outputs_of_a_session_can_be_viewed_from_its_sandbox() {
    let scene = Scene::new();
    scene.shell(landlock(), "seq 1000").await;
    let kept = scene.setting.kept();
    let (text, is_error) = scene.run(landlock(), "view", json!({ "path": kept[0], "view_range": [999, 1000] })).await;
    assert!(!is_error && text.ends_with("1000: 1000"), "{text}");
}

/// C-P47: a place that holds the state directory, or a secret place of the home, is no workspace.
#[tokio::test]
async fn a_workspace_that_would_open_what_is_protected_is_refused() {
    let scene = Scene::new();
    for cwd in
        [scene.home().join(".ssh"), scene.setting.cwd().parent().unwrap().into(), "/".into(), scene.setting.artefacts()]
    {
        fs::create_dir_all(&cwd).unwrap();
        let error = scene.setting.tools.settle_sandbox(&landlock(), &cwd).unwrap_err().message;
        assert!(error.contains("to the sandbox; give the session a `cwd`"), "{error}");
        let (mut context, _progress) = scene.setting.context();
        (context.sandbox, context.cwd) = (landlock(), cwd);
        let call = Setting::call("run_command", json!({ "command": "touch made" }));
        let (text, is_error) = completed(scene.setting.tools.run(&call, context).await);
        assert!(is_error && text.starts_with("SANDBOX_UNAVAILABLE\n"), "{text}");
    }
}

/// C-P47: of the home only what is not hidden can be reached, though it is the workspace.
#[tokio::test]
async fn the_home_is_never_granted_as_a_whole() {
    let scene = Scene::new();
    fs::create_dir(scene.home().join("project")).unwrap();
    let (mut context, _progress) = scene.setting.context();
    (context.sandbox, context.cwd) = (landlock(), scene.home());
    let command = "cat .ssh/id_rsa; ls .; echo x > .bashrc; echo x > .stakpak/config.toml; echo x > project/made";
    let call = Setting::call("run_command", json!({ "command": command }));
    let (text, _) = completed(scene.setting.tools.run(&call, context).await);
    assert_eq!(text.matches("Permission denied").count(), 4, "{text}");
    assert!(scene.home().join("project/made").exists() && !scene.home().join(".bashrc").exists());
    assert_eq!(fs::read(scene.home().join(".stakpak/config.toml")).unwrap(), b"");
}

#[test]
fn the_strongest_level_is_one_that_is_there() {
    let setting = Setting::new();
    let strongest = Sandbox::default().demanded();
    assert_eq!(setting.tools.settle_sandbox(&strongest, &setting.cwd()), Ok(landlock()));
    let of_profile = Sandbox { network: true, ..landlock() };
    assert_eq!(setting.tools.settle_sandbox(&of_profile.clone().demanded(), &setting.cwd()), Ok(of_profile));
    let container = Sandbox { level: SandboxLevel::Container, ..Sandbox::default() };
    assert!(setting.tools.settle_sandbox(&container, &setting.cwd()).is_err(), "never less than what is asked for");
}

/// From here on this system call fails, for this thread and what it starts: as on a kernel that has not got it.
fn without(call: i64, errno: i32) {
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    let architecture = env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new([(call, Vec::new())].into(), SeccompAction::Allow, answer, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// Every tool, of which none may do anything.
async fn assert_nothing_runs(scene: &Scene) {
    scene.setting.write("a.txt", "one");
    for (tool, arguments) in [
        ("run_command", json!({ "command": "touch made" })),
        ("create", json!({ "path": "made", "file_text": "x" })),
        ("str_replace", json!({ "path": "a.txt", "old_str": "one", "new_str": "made" })),
        ("view", json!({ "path": "a.txt" })),
    ] {
        let (text, is_error) = scene.run(landlock(), tool, arguments).await;
        assert!(is_error && text.starts_with("SANDBOX_UNAVAILABLE\n"), "{tool}: {text}");
    }
    assert!(!scene.setting.cwd().join("made").exists());
    assert_eq!(scene.setting.read("a.txt"), "one");
}

/// C-P46.
#[tokio::test]
async fn without_landlock_nothing_runs() {
    let scene = Scene::new();
    without(libc::SYS_landlock_create_ruleset, libc::ENOSYS);
    for asked in [landlock(), Sandbox::default().demanded()] {
        let error = scene.setting.tools.settle_sandbox(&asked, &scene.setting.cwd()).unwrap_err().message;
        assert!(error.contains("Linux 6.2"), "{error}");
    }
    assert_nothing_runs(&scene).await;
}

/// C-P46: what cannot be entered is not run beside it.
#[tokio::test]
async fn a_ruleset_that_cannot_be_entered_runs_nothing() {
    let scene = Scene::new();
    scene.setting.tools.settle_sandbox(&landlock(), &scene.setting.cwd()).unwrap();
    without(libc::SYS_landlock_restrict_self, libc::E2BIG);
    assert_nothing_runs(&scene).await;
}

/// C-P46: the same for the filters.
#[tokio::test]
async fn filters_that_cannot_be_set_run_nothing() {
    let scene = Scene::new();
    scene.setting.tools.settle_sandbox(&landlock(), &scene.setting.cwd()).unwrap();
    without(libc::SYS_seccomp, libc::EINVAL);
    let (text, is_error) = scene.shell(landlock(), "touch made").await;
    assert!(is_error && text.starts_with("SANDBOX_UNAVAILABLE\n"), "{text}");
    assert!(!scene.setting.cwd().join("made").exists());
}
