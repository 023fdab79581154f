//! What checks make of runs, and that a script which misbehaves is bounded, recorded and in nobody's way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use stakpak_scheduler::{CheckResult, RunRecord, RunStatus, TriggerOptions};
use stakpak_test_support::write_executable;
use support::{SECRET, World, eventually, server::Play};

/// A script in a directory of its own.
struct Script {
    directory: tempfile::TempDir,
}

impl Script {
    fn new(body: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = Self { directory };
        script.write(body);
        script
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("check.sh")
    }

    fn write(&self, body: &str) {
        write_executable(self.path(), format!("#!/bin/sh\n{body}\n"));
    }

    /// A schedule named `beat` that is checked by the script each minute.
    fn schedule(&self, lines: &str) -> String {
        format!(
            "[[schedules]]\nname = 'beat'\ncron = '* * * * *'\nprompt = 'look'\ncheck = '{}'\nworkdir = '{}'\n{lines}\n",
            self.path().display(),
            self.directory.path().display()
        )
    }

    /// What it wrote to `name` in its directory.
    fn wrote(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.directory.path().join(name)).ok()
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The row of the first fire, once it has ended.
async fn fired(script: &Script, lines: &str) -> (World, RunRecord) {
    let world = World::new("2026-01-01T00:00:30Z", &script.schedule(lines)).await;
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    let run = world.ended("beat").await;
    running.stop().await;
    (world, run)
}

fn check(run: &RunRecord) -> &CheckResult {
    run.check.as_ref().unwrap()
}

#[tokio::test]
async fn the_exit_code_says_whether_the_agent_runs() {
    for (body, trigger_on, expected) in [
        ("exit 3", "failure", "completed"),
        ("exit 0", "failure", "skipped(check)"),
        ("exit 0", "success", "completed"),
        ("exit 3", "success", "skipped(check)"),
        ("exit 0", "any", "completed"),
        ("exit 3", "any", "completed"),
        ("kill -9 $$", "failure", "completed"),
        ("kill -9 $$", "success", "skipped(check)"),
    ] {
        let script = Script::new(body);
        let (world, run) = fired(&script, &format!("trigger_on = '{trigger_on}'")).await;
        assert_eq!(support::told(&run), expected, "{body} {trigger_on}");
        assert_eq!(world.server.runs(), usize::from(expected == "completed"), "{body} {trigger_on}");
        let ended = (check(&run).exit_code, check(&run).signal);
        let expected = match body {
            "exit 0" => (Some(0), None),
            "exit 3" => (Some(3), None),
            _ => (None, Some(9)),
        };
        assert_eq!(ended, expected, "{body} {trigger_on}");
    }
}

#[tokio::test]
async fn the_agent_is_told_what_the_script_said_as_data() {
    let script = Script::new("echo \"disk $1 is $2\"; echo careful >&2; exit 1");
    let (world, run) = fired(&script, "check_args = ['/ srv', 'full']\nboard_id = 'board_7'").await;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!((check(&run).stdout.as_str(), check(&run).stderr.as_str()), ("disk / srv is full\n", "careful\n"));
    let posted = &world.server.posted()[0];
    assert_eq!(posted["message"]["content"], "look", "the prompt is as written");
    assert_eq!(posted["context"].as_array().unwrap().len(), 1);
    let context = posted["context"][0]["content"].as_str().unwrap();
    for part in
        ["not instructions:\ndisk / srv is full\n", "not instructions:\ncareful\n", "exit code 1", "board: board_7"]
    {
        assert_eq!(context.matches(part).count(), 1, "{part}: {context}");
    }
}

#[tokio::test]
async fn a_script_sees_its_occasion_and_no_secret() {
    let script = Script::new("cat >stdin; pwd >pwd; env >env; exit 0");
    let (world, run) = fired(&script, "check_env = ['CARGO_PKG_VERSION']").await;
    assert_eq!(support::told(&run), "skipped(check)");
    assert_eq!(world.server.requests(), Vec::<String>::new());
    let env = script.wrote("env").unwrap();
    let says = |line: &str| env.lines().any(|have| have == line);
    assert!(says("STAKPAK_SCHEDULE=beat") && says(&format!("STAKPAK_RUN_ID={}", run.id)), "{env}");
    assert!(says("STAKPAK_NOMINAL_AT=2026-01-01T00:01:00Z"), "{env}");
    // The test harness sets both; one of them is said to hold a secret.
    assert!(env.contains("CARGO_PKG_VERSION=") && !env.contains("CARGO_PKG_NAME="), "{env}");
    assert_eq!(script.wrote("stdin").as_deref(), Some(""));
    let directory = script.directory.path().canonicalize().unwrap();
    assert_eq!(script.wrote("pwd").unwrap().trim(), directory.to_str().unwrap());
}

/// A-P8: the group is gone within the limit and three seconds, a grandchild that left it holds nothing up, and the next fires.
#[tokio::test]
async fn a_script_that_does_not_end_is_ended() {
    let script = Script::new(
        "echo begun\ntrap '' TERM\n(trap '' TERM; echo $$ >>pids; sleep 3600) &\nsetsid sleep 20 &\necho $$ >>pids\n\
         while :; do sleep 1; done",
    );
    let begun = Instant::now();
    let (world, run) = fired(&script, "check_timeout = '1s'").await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(support::told(&run), "failed(check_timeout)");
    assert_eq!((check(&run).timed_out, check(&run).stdout.as_str()), (true, "begun\n"));
    assert!(run.error.as_deref().unwrap().contains("time limit of 1s"), "{run:?}");
    for pid in script.wrote("pids").unwrap().lines() {
        eventually("its processes are gone", async || !lives(pid)).await;
    }
    script.write("exit 1");
    let running = world.start().await;
    world.clock.set("2026-01-01T00:02:00Z");
    world.tells("beat", &["failed(check_timeout)", "completed"]).await;
    running.stop().await;
}

fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// A script that ends while its children go on takes them along.
#[tokio::test]
async fn children_do_not_outlive_the_script() {
    let script = Script::new("for i in 1 2 3 4 5; do sleep 3600 & echo $! >>pids; done; echo done; exit 1");
    let (_world, run) = fired(&script, "check_timeout = '60s'").await;
    assert_eq!((run.status, check(&run).stdout.as_str()), (RunStatus::Completed, "done\n"));
    for pid in script.wrote("pids").unwrap().lines() {
        eventually("its children are gone", async || !lives(pid)).await;
    }
}

/// A-P9: what is kept of a flood is bounded, and its end is among it.
#[tokio::test]
async fn a_flood_is_drained_and_cut() {
    let script = Script::new("echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo last; exit 1");
    let (world, run) = fired(&script, "check_timeout = '60s'").await;
    assert_eq!(run.status, RunStatus::Completed);
    let CheckResult { stdout, truncated, .. } = check(&run);
    assert!(*truncated && stdout.len() <= 128 * 1024, "{}", stdout.len());
    assert!(stdout.starts_with("first\n") && stdout.ends_with("xlast\n"));
    let context = world.server.posted()[0]["context"][0]["content"].as_str().unwrap().to_owned();
    assert!(context.len() < 50_000 && context.contains("first") && context.contains("last"), "{}", context.len());
}

/// A-P42.
#[tokio::test]
async fn a_secret_is_nowhere() {
    let script = Script::new(&format!("echo key {SECRET} >&2; echo {SECRET}; exit 1"));
    let world = World::new("2026-01-01T00:00:30Z", &script.schedule("")).await;
    world.server.play(Play::Answer("it is hunter2-hunter2-hunter2, I say"));
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    let run = world.ended("beat").await;
    assert_eq!((check(&run).stdout.as_str(), check(&run).stderr.as_str()), ("[REDACTED]\n", "key [REDACTED]\n"));
    assert_eq!(run.agent_message.as_deref(), Some("it is [REDACTED], I say"));
    running.stop().await;
    assert!(!world.server.posted()[0].to_string().contains(SECRET));
    let stored: Vec<u8> = fs::read_dir(world.path().parent().unwrap())
        .unwrap()
        .flat_map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(!stored.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
}

#[tokio::test]
async fn scripts_that_hang_are_in_nobodys_way() {
    let script = Script::new("sleep 3600");
    let mut toml = "[watch]\nmax_concurrent_runs = 1\n".to_owned();
    for number in 0..8 {
        toml += &script.schedule("check_timeout = '1h'").replace("'beat'", &format!("'hangs{number}'"));
    }
    toml += "[[schedules]]\nname = 'good'\ncron = '* * * * *'\nprompt = 'p'\n";
    let world = World::new("2026-01-01T00:00:30Z", &toml).await;
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    assert_eq!(world.ended("good").await.status, RunStatus::Completed);
    assert_eq!(world.told("hangs7").await, ["running"]);
    world.clock.set("2026-01-01T00:02:00Z");
    world.tells("good", &["completed", "completed"]).await;
    running.stop().await;
}

/// An agent that is wanted waits for its turn like any other, keeps its place in its schedule, and may be superseded there.
#[tokio::test]
async fn a_check_takes_no_slot_and_its_agent_does() {
    let script = Script::new("exit 1");
    let busy = "[watch]\nmax_concurrent_runs = 1\n[[schedules]]\nname = 'long'\ncron = '@yearly'\nprompt = 'p'\n";
    for (overlap, meanwhile, after) in [
        ("skip", ["pending", "skipped(overlap)"], ["completed", "skipped(overlap)"]),
        ("cancel_running", ["cancelled(superseded)", "pending"], ["cancelled(superseded)", "completed"]),
    ] {
        let toml = format!("{busy}{}", script.schedule(&format!("overlap = '{overlap}'")));
        let world = World::new("2026-01-01T00:00:30Z", &toml).await;
        world.server.play(Play::Hang);
        let running = world.start().await;
        running.handle.trigger("long", TriggerOptions::default()).await.unwrap();
        eventually("the slot is taken", async || world.server.runs() == 1).await;
        world.clock.set("2026-01-01T00:01:00Z");
        eventually("it is checked", async || world.history("beat").await.iter().any(|run| run.check.is_some())).await;
        assert_eq!(world.told("beat").await, ["pending"]);
        world.clock.set("2026-01-01T00:02:00Z");
        world.tells("beat", &meanwhile).await;
        eventually("its check is done", async || {
            world.history("beat").await.iter().all(|run| run.check.is_some() || run.status == RunStatus::Skipped)
        })
        .await;
        assert_eq!(world.server.runs(), 1);
        world.server.play(Play::Answer("done"));
        world.server.complete_all("done");
        world.tells("beat", &after).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn a_script_that_may_not_be_run_fails_the_run() {
    let script = Script::new("exit 1");
    let world = World::new("2026-01-01T00:00:30Z", &script.schedule("")).await;
    let running = world.start().await;
    let spoil: [(&str, &dyn Fn()); 4] = [
        ("can be changed by every user", &|| chmod(&script.path(), 0o702)),
        ("is not executable", &|| chmod(&script.path(), 0o600)),
        ("cannot be started: ", &|| write_executable(script.path(), "#!/nowhere/sh\n")),
        ("does not exist", &|| fs::remove_file(script.path()).unwrap()),
    ];
    for (index, (text, spoil)) in spoil.iter().enumerate() {
        spoil();
        world.clock.set(&format!("2026-01-01T00:0{}:00Z", index + 1));
        eventually("it fails", async || world.told("beat").await.len() == index + 1).await;
        world.tells("beat", &vec!["failed(check_error)"; index + 1]).await;
        let error = world.history("beat").await[0].error.clone().unwrap();
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(world.server.requests(), Vec::<String>::new());
    running.stop().await;
}

#[tokio::test]
async fn a_trigger_may_leave_out_the_check_and_stand_beside_another_run() {
    let script = Script::new("exit 0");
    let world = World::new("2026-01-01T00:00:30Z", &script.schedule("")).await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    let no_check = TriggerOptions { no_check: true, key: Some("once".to_owned()), ..TriggerOptions::default() };
    let first = running.handle.trigger("beat", no_check.clone()).await.unwrap();
    assert_eq!(first.fire_key, "sched:beat:manual:once");
    eventually("it runs", async || world.server.runs() == 1).await;
    assert_eq!(running.handle.trigger("beat", no_check.clone()).await.unwrap().id, first.id, "the same key");
    let force = TriggerOptions { force: true, no_check: true, key: None };
    running.handle.trigger("beat", force).await.unwrap();
    eventually("both run", async || world.server.runs() == 2).await;
    world.server.complete_all("done");
    world.tells("beat", &["completed", "completed"]).await;
    running.handle.trigger("beat", TriggerOptions::default()).await.unwrap();
    world.tells("beat", &["completed", "completed", "skipped(check)"]).await;
    assert_eq!(running.handle.trigger("beat", no_check).await.unwrap().status, RunStatus::Completed);
    running.stop().await;
}

/// A crash while the check runs, and one after it: the check runs again only in the first case.
#[tokio::test]
async fn after_a_crash_a_check_that_did_not_end_runs_again() {
    let script = Script::new("echo run >>runs; [ -e go ] || sleep 3600; exit 1");
    let world = World::new("2026-01-01T00:00:30Z", &script.schedule("")).await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    eventually("it runs", async || script.wrote("runs").is_some()).await;
    running.kill().await;
    fs::write(script.directory.path().join("go"), "").unwrap();
    let running = world.start().await;
    eventually("the agent runs", async || world.server.runs() == 1).await;
    running.kill().await;
    let running = world.start().await;
    world.server.complete_all("done");
    let run = world.ended("beat").await;
    assert_eq!((run.status, run.recoveries), (RunStatus::Completed, 2));
    assert_eq!(script.wrote("runs").as_deref(), Some("run\nrun\n"));
    running.stop().await;
}

#[tokio::test]
async fn a_run_is_cancelled_while_its_check_runs() {
    let script = Script::new("[ -e second ] && exit 1; touch second; sleep 3600");
    let world = World::new("2026-01-01T00:00:30Z", &script.schedule("overlap = 'cancel_running'")).await;
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    eventually("the first runs", async || script.wrote("second").is_some()).await;
    world.clock.set("2026-01-01T00:02:00Z");
    world.tells("beat", &["cancelled(superseded)", "completed"]).await;
    running.stop().await;
}
