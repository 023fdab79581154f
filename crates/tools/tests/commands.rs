//! `run_command` on real processes: nothing of the output is lost, nothing of the call is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod setting;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use serde_json::json;
use setting::{Setting, completed, lives, until};
use stakpak_agent_core::{Effect, ToolOutcome, Tools};
use stakpak_protocol::SessionId;

const RUNS: usize = 100;

fn numbered(lines: usize) -> String {
    (1..=lines).fold(String::new(), |text, line| format!("{text}{line}\n"))
}

/// C-P28
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_arrives_every_time() {
    let setting = Setting::new();
    let one = async |run: usize| {
        let text = setting.ok("run_command", json!({"command": "seq 1 1000"})).await;
        let (header, rest) = text.split_once('\n').unwrap();
        assert!(
            header.starts_with("[1000 lines, 3893 bytes of output: the first 50 and the last 250 lines"),
            "{header}"
        );
        assert!(
            rest.starts_with("1\n2\n") && rest.contains("\n50\n[... ") && rest.contains(" ...]\n751\n"),
            "run {run}"
        );
        assert!(rest.ends_with("\n1000"), "run {run}");
        assert_eq!(setting.ok("run_command", json!({"command": "seq 1 300"})).await, numbered(300).trim_end());
        assert_eq!(setting.ok("run_command", json!({"command": "echo a; echo b >&2; echo c"})).await, "a\nb\nc");
    };
    for run in (0..RUNS).step_by(4) {
        tokio::join!(one(run), one(run + 1), one(run + 2), one(run + 3));
    }
    let kept = setting.kept();
    assert_eq!(kept.len(), RUNS);
    for path in kept {
        assert_eq!(fs::read_to_string(&path).unwrap(), numbered(1000));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

/// C-P28
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_short_commands_lose_nothing() {
    let setting = Setting::new();
    let one = async |run: usize| {
        assert_eq!(
            setting.ok("run_command", json!({"command": format!("echo {run}; echo end >&2")})).await,
            format!("{run}\nend")
        );
    };
    for run in (0..1000).step_by(4) {
        tokio::join!(one(run), one(run + 1), one(run + 2), one(run + 3));
    }
}

/// C-P28
#[tokio::test]
async fn a_hundred_thousand_lines_and_noise_are_kept_whole() {
    let setting = Setting::new();
    let text = setting.ok("run_command", json!({"command": "seq 1 100000"})).await;
    assert!(text.starts_with("[100000 lines, 588895 bytes of output") && text.ends_with("\n100000"));
    assert_eq!(fs::read_to_string(&setting.kept()[0]).unwrap(), numbered(100_000));

    let setting = Setting::new();
    // Half of the bytes of a stream without newlines are no UTF-8.
    let command = "printf start; head -c 300000 /dev/urandom | LC_ALL=C tr '\\000-\\037\\177[a-zA-Z0-9+/_=.:-' '\\377'; printf end";
    let text = setting.ok("run_command", json!({"command": command})).await;
    assert!(text.ends_with("end") && text.contains('\u{fffd}'), "{}", &text[text.len() - 100..]);
    let kept = fs::read_to_string(&setting.kept()[0]).unwrap();
    assert!(kept.starts_with("start") && kept.ends_with("end") && kept.chars().count() > 100_000);
}

/// C-P28: what a background process still writes while it may.
#[tokio::test]
async fn a_process_that_writes_after_its_parent_has_ended_is_heard() {
    let setting = Setting::new();
    let text = setting.ok("run_command", json!({"command": "(sleep 0.1; seq 1 200) & echo first"})).await;
    assert_eq!(text, format!("first\n{}", numbered(200).trim_end()));
}

#[tokio::test]
async fn a_process_that_has_closed_its_output_may_still_end_by_itself() {
    let setting = Setting::new();
    let command = "(sleep 0.1; exec >&- 2>&-; sleep 0.05) & echo first";
    assert_eq!(setting.ok("run_command", json!({ "command": command })).await, "first");
}

/// C-P28
#[tokio::test]
async fn text_without_a_newline_and_after_a_pause_is_one() {
    let setting = Setting::new();
    assert_eq!(setting.ok("run_command", json!({"command": "printf abc; sleep 1; printf def"})).await, "abcdef");
    assert_eq!(
        setting.ok("run_command", json!({"command": "printf '\\xe2\\x82'; sleep 0.2; printf '\\xac'"})).await,
        "€"
    );
}

/// C-P28
#[tokio::test]
async fn ten_megabytes_are_kept_whole_and_can_be_viewed() {
    let setting = Setting::new();
    let text = setting.ok("run_command", json!({"command": "yes 0123456789abcde | head -c 10000000"})).await;
    assert!(text.starts_with("[625000 lines, 10000000 bytes of output"), "{}", &text[..200]);
    assert!(text.len() < 66 * 1024, "{}", text.len());
    let kept = setting.kept();
    assert_eq!(fs::read(&kept[0]).unwrap(), b"0123456789abcde\n".repeat(625_000));
    assert!(text.contains(kept[0].to_str().unwrap()), "{}", &text[..300]);

    let view = Setting::call("view", json!({"path": kept[0], "view_range": [624_999, -1]}));
    assert_eq!(setting.tools.needs_question(&view, &setting.cwd()), None);
    let (context, _progress) = setting.context();
    let (text, _) = completed(setting.tools.run(&view, context).await);
    assert!(text.ends_with("624999: 0123456789abcde\n625000: 0123456789abcde"), "{text}");
}

/// C-P28
#[tokio::test]
async fn one_endless_line_and_bytes_that_are_no_text_arrive() {
    let setting = Setting::new();
    let text = setting.ok("run_command", json!({"command": "head -c 1000000 /dev/zero | tr '\\0' x"})).await;
    assert!(text.starts_with("[1 lines, 1000000 bytes of output") && text.ends_with(&"x".repeat(48 * 1024)));
    assert_eq!(fs::read(&setting.kept()[0]).unwrap(), b"x".repeat(1_000_000));
    assert_eq!(
        setting.ok("run_command", json!({"command": "printf 'a\\377b\\200\\n\\303'"})).await,
        "a\u{fffd}b\u{fffd}\n\u{fffd}"
    );
    let text = setting.ok("run_command", json!({"command": "printf '\\033[31mred\\033[0m\\a 1%%\\r2%%\\n'"})).await;
    assert_eq!(text, "2%");
}

#[tokio::test]
async fn the_end_is_told() {
    let setting = Setting::new();
    assert_eq!(setting.ok("run_command", json!({"command": "true"})).await, "No output");
    let text = setting.error("run_command", json!({"command": "echo out; exit 7"})).await;
    assert_eq!(text, "COMMAND_FAILED\nout\nCommand exited with code 7");
    let text = setting.error("run_command", json!({"command": "echo out; kill -9 $$"})).await;
    assert_eq!(text, "COMMAND_FAILED\nout\nCommand ended by signal 9");
    let text = setting.error("run_command", json!({"command": "pwd", "cwd": "nowhere"})).await;
    assert!(text.starts_with("FILE_NOT_FOUND\n"), "{text}");
    fs::create_dir(setting.cwd().join("sub")).unwrap();
    let text = setting
        .ok("run_command", json!({"command": "basename \"$PWD\"; cat; echo $X", "cwd": "sub", "env": {"X": "a b"}}))
        .await;
    assert_eq!(text, "sub\na b");
}

/// Starts three processes that a shell does not end with itself, and says their ids.
const STUBBORN: &str = "\
    (trap '' TERM; echo $BASHPID > one; while :; do sleep 0.1; done) & \
    setsid sh -c 'echo $$ > two; exec sleep 1000' & \
    (setsid sh -c '(echo $$ > three; trap \"\" TERM HUP; while :; do sleep 0.1; done) & exit 0' &) ; \
    until [ -s one ] && [ -s two ] && [ -s three ]; do sleep 0.01; done; \
    echo so far; ";

fn stubborn(setting: &Setting) -> [String; 2] {
    ["one", "two"].map(|name| setting.read(name))
}

/// Processes that carry a call's id.
fn marked(call: &str) -> usize {
    let mark = format!("STAKPAK_CALL_ID={call}");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| {
            fs::read(entry.path().join("environ"))
                .is_ok_and(|text| text.split(|byte| *byte == 0).any(|line| line == mark.as_bytes()))
        })
        .count()
}

/// C-P29
#[tokio::test]
async fn a_timeout_ends_what_has_left_the_group_too() {
    let setting = Setting::new();
    let call = Setting::call("run_command", json!({"command": format!("{STUBBORN} sleep 1000"), "timeout": 1}));
    let (context, _progress) = setting.context();
    let (text, is_error) = completed(setting.tools.run(&call, context).await);
    assert!(is_error && text.starts_with("COMMAND_FAILED\nso far\n[Still running, now ended: "), "{text}");
    assert!(text.contains("sleep 1000 (pid ") && text.ends_with("\nCommand timed out after 1 seconds"), "{text}");
    assert!(stubborn(&setting).iter().all(|pid| !lives(pid)));
    assert_eq!(marked(call.id.as_str()), 0);
}

/// C-P29
#[tokio::test]
async fn cancel_ends_everything_within_its_time() {
    let setting = Setting::new();
    let call = Setting::call("run_command", json!({"command": format!("{STUBBORN} sleep 1000")}));
    let (context, mut progress) = setting.context();
    let cancel = context.cancel.clone();
    let tools = setting.tools.clone();
    let id = call.id.clone();
    let running = tokio::spawn(async move { tools.run(&call, context).await });
    assert_eq!(progress.recv().await.unwrap(), "so far\n");
    assert!(marked(id.as_str()) >= 4);
    cancel.cancel();
    assert_eq!(running.await.unwrap(), ToolOutcome::Cancelled);
    assert!(stubborn(&setting).iter().all(|pid| !lives(pid)));
    assert_eq!(marked(id.as_str()), 0);
}

#[tokio::test]
async fn a_dropped_call_ends_too() {
    let setting = Setting::new();
    let call = Setting::call("run_command", json!({"command": format!("{STUBBORN} sleep 1000")}));
    let (context, mut progress) = setting.context();
    let tools = setting.tools.clone();
    let id = call.id.clone();
    let running = tokio::spawn(async move { tools.run(&call, context).await });
    progress.recv().await.unwrap();
    running.abort();
    until("the processes are gone", || marked(id.as_str()) == 0).await;
    assert!(stubborn(&setting).iter().all(|pid| !lives(pid)));
}

#[tokio::test]
async fn a_dropped_runtime_ends_its_calls() {
    let setting = Setting::new();
    let call = Setting::call("run_command", json!({"command": "echo up; sleep 1000"}));
    let id = call.id.clone();
    let (context, mut progress) = setting.context();
    let tools = setting.tools.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.spawn(async move { tools.run(&call, context).await });
    progress.recv().await.unwrap();
    runtime.shutdown_background();
    until("the processes are gone", || marked(id.as_str()) == 0).await;
}

/// C-P30
#[tokio::test]
async fn a_background_process_neither_holds_the_call_open_nor_outlives_it() {
    let setting = Setting::new();
    for command in [
        "echo $$ > shell; sleep 1000 & echo $! > bg; echo done",
        "sleep 1000 >/dev/null 2>&1 & echo $! > bg; echo done",
    ] {
        let started = Instant::now();
        let text = setting.ok("run_command", json!({"command": command})).await;
        // On a busy machine the shell's child may not have become `sleep` yet.
        assert!(text.starts_with("done\n[Still running, now ended: ") && text.contains("sleep 1000"), "{text}");
        // Not a matter of speed: the other way takes 1000 s.
        assert!(started.elapsed() < Duration::from_secs(60));
        assert!(!lives(&setting.read("bg")), "{command}");
    }
}

/// C-P33
#[tokio::test]
async fn no_credential_is_in_a_childs_environment() {
    let setting = Setting::new();
    // Set by cargo for this process, and named in the configuration as a place of a credential.
    assert!(std::env::var_os("CARGO_PKG_VERSION").is_some() && std::env::var_os("CARGO_PKG_NAME").is_some());
    let call = Setting::call("run_command", json!({"command": "env"}));
    let (context, _progress) = setting.context();
    let (text, _) = completed(setting.tools.run(&call, context).await);
    let has = |line: &str| text.lines().any(|own| own.starts_with(line));
    assert!(has("CARGO_PKG_NAME=") && !has("CARGO_PKG_VERSION="), "{text}");
    for line in [
        "PAGER=cat",
        "GIT_PAGER=cat",
        "GIT_TERMINAL_PROMPT=0",
        "TERM=dumb",
        "DEBIAN_FRONTEND=noninteractive",
        "SUDO_ASKPASS=/bin/false",
        "STAKPAK_PROFILE=default",
        &format!("STAKPAK_CALL_ID={}", call.id),
    ] {
        assert!(has(line), "{line}: {text}");
    }
    let text = setting
        .ok("run_command", json!({"command": "ulimit -c; ulimit -n; ps -o sid= -p $$ | tr -d ' '; echo $$"}))
        .await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "0");
    assert!(lines[1].parse::<u64>().unwrap() <= 1024);
    assert_eq!(lines[2], lines[3], "leads its own session");
}

#[tokio::test]
async fn progress_comes_redacted_in_small_pieces_and_a_full_channel_loses_no_result() {
    let setting = Setting::new();
    let command =
        format!("for i in $(seq 1 100); do echo line $i {}; done; sleep 0.6; seq 1 20000; echo end", setting::SECRET);
    let call = Setting::call("run_command", json!({"command": command}));
    let (context, mut progress) = setting.context();
    let (text, _) = completed(setting.tools.run(&call, context).await);
    let mut pieces = Vec::new();
    while let Ok(piece) = progress.try_recv() {
        assert!(piece.len() <= 4096 && !piece.contains(setting::SECRET), "{piece}");
        pieces.push(piece);
    }
    assert!(pieces.len() >= 2 && pieces[0].contains("line 1 "), "{pieces:?}");
    assert!(!text.contains(setting::SECRET) && text.ends_with("\nend"));
    assert!(!fs::read_to_string(&setting.kept()[0]).unwrap().contains(setting::SECRET));

    let (mut context, _) = setting.context();
    let (sender, _kept_full) = tokio::sync::mpsc::channel(1);
    sender.try_send("full".to_owned()).unwrap();
    context.progress = sender;
    let call = Setting::call("run_command", json!({"command": "seq 1 100"}));
    assert_eq!(completed(setting.tools.run(&call, context).await).0, numbered(100).trim_end());
}

#[tokio::test]
async fn processes_of_an_earlier_server_are_found_and_ended() {
    let setting = Setting::new();
    let call = Setting::call("run_command", json!({}));
    let session = SessionId::random();
    let orphan = |id: &str, session: SessionId| {
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]).env("STAKPAK_CALL_ID", id);
        command.env("STAKPAK_SESSION_ID", session.to_string());
        command.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap()
    };
    let mut own = orphan(call.id.as_str(), session);
    let mut other = orphan(&format!("{}x", call.id), session);
    let mut same_id = orphan(call.id.as_str(), SessionId::random());
    for child in [&mut own, &mut other, &mut same_id] {
        let mut up = [0; 3];
        tokio::io::AsyncReadExt::read_exact(child.stdout.as_mut().unwrap(), &mut up).await.unwrap();
    }
    let orphans = setting.tools.orphans().await;
    assert_eq!(orphans.iter().filter(|orphan| **orphan == (session, call.id.clone())).count(), 1, "{orphans:?}");
    // The shell, and the sleep it has at that moment.
    assert!(setting.tools.end_orphans(session, &call.id).await >= 1);
    assert!(!lives(&own.id().unwrap().to_string()));
    assert!(lives(&other.id().unwrap().to_string()));
    assert!(lives(&same_id.id().unwrap().to_string()), "a call's id is unique only in its session");
    assert_eq!(setting.tools.end_orphans(session, &call.id).await, 0);
    assert!(!setting.tools.orphans().await.contains(&(session, call.id)));
}

#[tokio::test]
async fn an_effect_is_pure_only_when_nothing_can_change() {
    let setting = Setting::new();
    for (tool, arguments, effect) in [
        ("view", json!({"path": "x"}), Effect::Pure),
        ("create", json!({"path": "x", "file_text": ""}), Effect::Probe),
        ("str_replace", json!({"path": "x", "old_str": "a", "new_str": "b"}), Effect::Probe),
        ("generate_password", json!({}), Effect::Keyed),
        ("remove", json!({"path": "x"}), Effect::Probe),
        ("run_command", json!({"command": "df -h"}), Effect::Pure),
        ("run_command", json!({"command": "df -h", "timeout": 5, "description": "disks"}), Effect::Pure),
        ("run_command", json!({"command": "df -h", "env": {"PATH": "/tmp"}}), Effect::Unsafe),
        ("run_command", json!({"command": "df -h; rm x"}), Effect::Unsafe),
        ("run_command", json!({"cmd": "df"}), Effect::Unsafe),
        ("unknown", json!({"path": "x"}), Effect::Unsafe),
    ] {
        let call = Setting::call(tool, arguments);
        assert_eq!(setting.tools.effect(&call), effect, "{call:?}");
    }
}

#[tokio::test]
async fn the_list_is_sorted_and_its_schemas_fit() {
    let setting = Setting::new();
    let specs = setting.tools.specs();
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "stakpak__ask_user",
            "stakpak__cancel_task",
            "stakpak__create",
            "stakpak__generate_password",
            "stakpak__get_all_tasks",
            "stakpak__get_task_details",
            "stakpak__notify",
            "stakpak__remove",
            "stakpak__run_command",
            "stakpak__run_command_task",
            "stakpak__str_replace",
            "stakpak__view",
            "stakpak__view_web_page",
            "stakpak__wait_for_tasks"
        ]
    );
    for command in [8, 9] {
        assert_eq!(specs[command].input_schema["additionalProperties"], json!(false));
    }
    assert_eq!(setting.tools.check("stakpak__run_command", &json!({"command": "ls"})), Ok(()));
    assert!(setting.tools.check("stakpak__run_command", &serde_json::Value::Null).is_err());
    let text = setting.error("run_command", json!({})).await;
    assert!(text.starts_with("INVALID_ARGUMENTS\n"), "{text}");
}

/// P46: what a session's calls have left goes with it, and nothing of other sessions.
#[tokio::test]
async fn the_outputs_of_a_forgotten_session_are_gone() {
    let setting = Setting::new();
    setting.ok("run_command", json!({"command": "seq 1 1000"})).await;
    assert_eq!(setting.kept().len(), 1);
    setting.tools.forget_session(SessionId::random()).await.unwrap();
    assert_eq!(setting.kept().len(), 1);
    for _ in 0..2 {
        setting.tools.forget_session(setting.session).await.unwrap();
        assert!(!setting.artefacts().exists());
    }
    setting.ok("run_command", json!({"command": "seq 1 1000"})).await;
    assert_eq!(setting.kept().len(), 1);
}
