//! A fresh user: no configuration, no key, no network (A-P40, C-P67).

use std::{os::unix::fs::PermissionsExt, process::Stdio};

use crate::support::{Home, stderr, stdout, until};
use serde_json::Value;

const OFFLINE: &str = "ffline model";

#[test]
fn up_status_and_run_say_that_the_offline_model_answers() {
    let home = Home::new();
    let up = home.up();
    assert_eq!((&up.ready["model"], &up.ready["offline_model"]), (&Value::from("builtin/offline"), &Value::from(true)));
    let status = home.run(&["status"]);
    assert!(stdout(&status).contains(OFFLINE), "{}", stdout(&status));
    let json: Value = serde_json::from_str(&stdout(&home.run(&["status", "--json"]))).unwrap();
    assert_eq!((&json["healthy"], &json["model"]["offline"]), (&Value::from(true), &Value::from(true)));
    let run = home.run(&["run", "how full are my disks?"]);
    assert!(run.status.success());
    let df = std::process::Command::new("df").arg("-hP").output().unwrap();
    let root =
        stdout(&df).lines().find(|line| line.ends_with(" /")).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(stdout(&run).contains(&root) && stdout(&run).contains(OFFLINE), "{}", stdout(&run));
}

/// C-P67: what only looks answers without a question.
#[test]
fn the_offline_intents_answer_without_a_question() {
    let home = Home::new();
    let _up = home.up();
    for (prompt, expected) in
        [("help", "run <command>"), ("status", "load"), ("disk", "%"), ("memory", "Mem"), ("uptime", "load")]
    {
        let run = home.run(&["run", prompt]);
        assert!(run.status.success() && stdout(&run).contains(expected), "{prompt}: {}{}", stdout(&run), stderr(&run));
    }
}

/// C-P67: `run touch x` asks, runs once when allowed, says so when refused.
#[test]
fn a_command_asks_and_the_answer_decides() {
    let home = Home::new();
    for hosted_elsewhere in [true, false] {
        let up = hosted_elsewhere.then(|| home.up());
        let refused = home.run(&["run", "run touch refused"]);
        assert!(stdout(&refused).contains("not done"), "{}", stdout(&refused));
        assert!(!home.path("refused").exists());
        let allowed = home.run(&["run", "--approve-all", "run sh -c 'echo once >> allowed'"]);
        assert!(allowed.status.success(), "{}", stderr(&allowed));
        assert_eq!(std::fs::read_to_string(home.path("allowed")).unwrap(), "once\n");
        std::fs::remove_file(home.path("allowed")).unwrap();
        drop(up);
    }
}

/// The question at a terminal: shown with the full command, answered with y or n.
#[test]
fn the_terminal_is_asked() {
    let home = Home::new();
    for (answer, done) in [("y", true), ("n", false)] {
        let command = format!("{} run 'run touch asked-{answer}'", env!("CARGO_BIN_EXE_stakpak"));
        // `script` gives the command a terminal of its own.
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env_clear().env("HOME", home.directory.path());
        script
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("SHELL", "/bin/sh")
            .current_dir(home.directory.path());
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, format!("{answer}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        let shown = stdout(&output);
        assert!(shown.contains(&format!("touch asked-{answer}")) && shown.contains("[y/N]"), "{shown}");
        assert_eq!(home.path(&format!("asked-{answer}")).exists(), done, "{shown}");
        assert_eq!(shown.contains("not done"), !done, "{shown}");
    }
}

/// P51: the token is private, stays the same, and `--no-auth` leaves no trace and needs loopback.
#[test]
fn the_token_is_private_and_stays() {
    let home = Home::new();
    let first = home.up();
    let path = home.path(".stakpak/autopilot/token");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(first.token.len(), 64);
    let token = first.token.clone();
    first.kill();
    let open = home.up_with(&["--no-auth"]);
    let anonymous = stakpak_client::StakpakClient::new(&open.url, "");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(anonymous.list_sessions()).unwrap();
    assert_eq!(open.stop(), Some(0));
    let second = home.up();
    assert_eq!(second.token, token);
    runtime.block_on(stakpak_client::StakpakClient::new(&second.url, "").list_sessions()).unwrap_err();
    drop(second);
    let refused = home.run(&["up", "--no-auth", "--bind", "0.0.0.0:0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("loopback"), "{}", stderr(&refused));
    for file in ["config.toml", "autopilot.toml", "autopilot/runtime.json"] {
        let text = std::fs::read_to_string(home.path(&format!(".stakpak/{file}"))).unwrap_or_default();
        assert!(!text.contains("no_auth") && !text.contains(&token), "{file}: {text}");
    }
}

#[test]
fn up_beside_up_says_where_it_is() {
    let home = Home::new();
    let up = home.up();
    let second = home.run(&["up"]);
    assert_eq!(second.status.code(), Some(0));
    assert!(stdout(&second).contains(&up.url), "{}", stdout(&second));
}

#[test]
fn a_taken_port_names_the_process() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let home = Home::new();
    let up = home.run(&["up", "--bind", &address]);
    assert_eq!(up.status.code(), Some(1));
    let said = stderr(&up);
    assert!(said.contains(&listener.local_addr().unwrap().port().to_string()), "{said}");
    assert!(said.contains(&std::process::id().to_string()), "{said}");
    assert!(!home.path(".stakpak/autopilot.toml").exists(), "nothing was written");
}

/// A file that does not parse: file, line, what is expected; exit 1; the file is untouched.
#[test]
fn broken_files_are_named_and_left_alone() {
    for (file, text, place) in [
        ("config.toml", "[profiles.default\nmodel = 1\n", "config.toml:1:"),
        ("autopilot.toml", "[server]\nlisten = 127.0.0.1\n", "autopilot.toml:2:"),
        ("autopilot.toml", "[server]\nlisten = \"nowhere\"\n", "autopilot.toml:2:"),
    ] {
        let home = Home::new();
        home.write(file, text);
        for command in [vec!["up"], vec!["schedule", "add", "x", "--cron", "* * * * *", "--prompt", "y"]] {
            if file == "config.toml" && command[0] == "schedule" {
                continue;
            }
            let output = home.run(&command);
            assert_eq!(output.status.code(), Some(1), "{command:?}: {}", stdout(&output));
            assert!(stderr(&output).contains(place), "{command:?}: {}", stderr(&output));
            assert_eq!(std::fs::read_to_string(home.path(&format!(".stakpak/{file}"))).unwrap(), text);
        }
    }
}

/// One bad schedule disables only itself (A-P1 from outside).
#[test]
fn a_bad_schedule_disables_only_itself() {
    let home = Home::new();
    home.write(
        "autopilot.toml",
        "[[schedules]]\nname = \"bad\"\ncron = \"99 * * * *\"\nprompt = \"x\"\n\n[[schedules]]\nname = \"good\"\ncron = \"* * * * * *\"\nprompt = \"uptime\"\n",
    );
    let _up = home.up();
    let run = until("the good schedule to fire", || {
        let history: Value =
            serde_json::from_str(&stdout(&home.run(&["schedule", "history", "good", "--json"]))).unwrap();
        history["runs"].as_array().unwrap().iter().find(|run| run["status"] == "completed").cloned()
    });
    assert!(run["agent_message"].as_str().unwrap().contains("load"), "{run}");
    assert!(run["session_id"].is_string());
    let list = stdout(&home.run(&["schedule", "list"]));
    assert!(list.contains("invalid") && list.contains("autopilot.toml:3:"), "{list}");
}

/// A day's budget from outside: as many runs as it has, then fires are left out, and status says what today took.
#[test]
fn a_budget_that_is_used_up_leaves_fires_out() {
    let home = Home::new();
    home.write(
        "autopilot.toml",
        "[budget]\ntokens_per_day = 100000000\nruns_per_day = 2\n\n[[schedules]]\nname = \"beat\"\ncron = \"* * * * * *\"\nprompt = \"uptime\"\n",
    );
    let _up = home.up();
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&stdout(&home.run(arguments))).unwrap() };
    let skipped = until("a fire that is left out", || {
        let history = json(&["schedule", "history", "beat", "--json"]);
        history["runs"].as_array().unwrap().iter().find(|run| run["reason"] == "budget").cloned()
    });
    let why = "the budget of all schedules together is used up: 2 of 2 runs a day";
    assert_eq!((&skipped["status"], &skipped["error_message"]), (&Value::from("skipped"), &Value::from(why)));
    let budget = until("both runs to end", || {
        let budget = json(&["status", "--json"])["budget"].clone();
        (budget["spent_tokens_today"].as_u64().unwrap() > 0).then_some(budget)
    });
    assert_eq!((&budget["runs_today"], &budget["limits"]["runs_per_day"]), (&Value::from(2), &Value::from(2)));
    let status = stdout(&home.run(&["status"]));
    assert!(status.contains("2 of 2 runs today"), "{status}");
}

#[test]
fn schedules_are_edited_in_place() {
    let home = Home::new();
    home.write("autopilot.toml", "# mine\n[server] # keep\n");
    let add = |name: &str, cron: &str| home.run(&["schedule", "add", name, "--cron", cron, "--prompt", "status"]);
    assert!(add("beat", "* * * * *").status.success());
    let again = add("beat", "* * * * *");
    assert!(!again.status.success() && stderr(&again).contains("--replace"), "{}", stderr(&again));
    let bad = add("other", "99 * * * *");
    assert!(!bad.status.success() && stderr(&bad).contains("nothing was written"), "{}", stderr(&bad));
    let text = std::fs::read_to_string(home.path(".stakpak/autopilot.toml")).unwrap();
    assert!(text.starts_with("# mine\n[server] # keep\n"), "{text}");
    assert!(!text.contains("other"), "{text}");
    let trigger: Value = serde_json::from_str(&stdout(&home.run(&["schedule", "trigger", "beat", "--json"]))).unwrap();
    assert_eq!(trigger["run"]["status"], "pending", "stored until the next start: {trigger}");
    let _up = home.up();
    until("the stored run", || {
        let history: Value =
            serde_json::from_str(&stdout(&home.run(&["schedule", "history", "beat", "--json"]))).unwrap();
        history["runs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|run| run["source"] == "manual" && run["status"] == "completed")
            .then_some(())
    });
    let now: Value = serde_json::from_str(&stdout(&home.run(&["schedule", "trigger", "beat", "--json"]))).unwrap();
    assert_eq!(now["ok"], true, "{now}");
    assert!(home.run(&["schedule", "remove", "beat"]).status.success());
    assert_eq!(home.run(&["schedule", "remove", "beat"]).status.code(), Some(1));
    assert_eq!(
        std::fs::read_to_string(home.path(".stakpak/autopilot.toml")).unwrap().trim(),
        "# mine\n[server] # keep"
    );
}

#[test]
fn ctrl_c_and_sigterm_drain() {
    let home = Home::new();
    let up = home.up();
    assert_eq!(up.stop(), Some(0));
    assert!(!home.path(".stakpak/autopilot/runtime.json").exists());
}

/// Commands that only look take the lock for a moment; `up` is not misled by that, nor by facts of a process that was killed.
#[test]
fn looking_never_keeps_up_from_starting() {
    let home = Home::new();
    home.up().kill();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    home.run(&["schedule", "list"]);
                    home.run(&["status"]);
                }
            });
        }
        for _ in 0..5 {
            home.up().kill();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// `stakpak … | head -1`: whoever stops reading is not told off.
#[test]
fn a_closed_stdout_is_no_error() {
    let home = Home::new();
    for arguments in [vec!["schedule", "list"], vec!["status"], vec!["completion", "bash"], vec!["run", "status"]] {
        let mut child = home.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(!stderr(&output).contains("panicked"), "{arguments:?}: {}", stderr(&output));
    }
}

/// What is mistaken is refused by its name, with what to do instead.
#[test]
fn mistakes_are_told_with_their_remedy() {
    let home = Home::new();
    for (arguments, parts) in [
        (&["init", "--non-interactive"][..], &["stakpak autopilot init --non-interactive"][..]),
        (&["auth", "login", "--provider", "opnai", "--api-key", "k"], &["--provider", "openai", "--endpoint"]),
        (&["set", "--machine-name", " "], &["--machine-name", "not blank"]),
        (&["set", "--machine-name", "two\nlines"], &["--machine-name", "one line"]),
    ] {
        let refused = home.run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        let said = stderr(&refused);
        assert!(parts.iter().all(|part| said.contains(part)), "{arguments:?}: {said}");
    }
    home.write("autopilot.toml", "[server]\nmcp = true\n[server]\nmcp = false\n");
    let listed = stderr(&home.run(&["schedule", "list"]));
    assert!(listed.contains("autopilot.toml:3:") && listed.contains("`server` is there already"), "{listed}");
}

/// What a schedule still lacks is told when it is written, and where it will be told.
#[test]
fn what_a_new_schedule_lacks_is_said_at_once() {
    let home = Home::new();
    let add = |name: &str, more: &[&str]| {
        let all = [&["schedule", "add", name, "--cron", "@daily", "--prompt", "p"], more].concat();
        let added = home.run(&all);
        assert!(added.status.success(), "{}", stderr(&added));
        stdout(&added)
    };
    let said = add("a", &["--profile", "gone", "--notify-channel", "slack"]);
    for part in ["\"gone\"", "schedule edit a --profile", "--notify-target", "stakpak channel add slack"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    home.write("autopilot.toml", "[channels.telegram]\ntoken = \"1:a\"\nallow_users = [1]\n");
    let said = add("b", &["--notify-channel", "telegram", "--notify-target", "42"]);
    assert!(said.contains("told  telegram:42") && !said.contains("note"), "{said}");
}

/// A file that cannot be read does not hide the instance from `doctor`.
#[test]
fn doctor_sees_the_instance_beside_a_broken_file() {
    let home = Home::new();
    let up = home.up();
    home.write("autopilot.toml", "[server\n");
    let told = stdout(&home.run(&["doctor"]));
    let owner = told.lines().find(|line| line.contains("lock_owner")).unwrap();
    assert!(owner.contains(&format!("(process {})", up.child.id())), "{told}");
}
