//! `up -d`, `restart`, `down` and `logs` where no service manager answers, and the definitions for those that are not here.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::support::{Home, stderr, stdout, until};

/// A home whose service is stopped at the end, whatever the test comes to.
struct Stage(Home);

impl Drop for Stage {
    fn drop(&mut self) {
        self.0.run(&["down", "--timeout", "5s"]);
    }
}

impl Stage {
    fn new() -> Self {
        Self(Home::new())
    }

    /// What `up -d` says.
    fn detached(&self) -> Value {
        self.json(&["up", "-d", "--service", "process", "--bind", "127.0.0.1:0", "--json"])
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.0.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    fn pid(&self) -> Option<i64> {
        self.json(&["status", "--json"])["pid"].as_i64()
    }

    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.0.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        stderr(&output)
    }
}

fn pid(value: &Value) -> Pid {
    Pid::from_raw(i32::try_from(value.as_i64().unwrap()).unwrap())
}

#[test]
fn a_service_is_installed_restarted_and_removed() {
    let stage = Stage::new();
    let first = stage.detached();
    assert_eq!(first["service"]["backend"], "process", "{first}");
    let status = stage.json(&["status", "--json"]);
    assert_eq!((&status["mode"], &status["pid"]), (&"process".into(), &first["pid"]));
    assert_eq!(status["service"]["installed"], true);
    let again = stage.detached();
    assert_eq!((&again["already_running"], &again["pid"]), (&true.into(), &first["pid"]));

    let second = stage.json(&["restart", "--json"]);
    assert_ne!(second["pid"], first["pid"]);
    assert!(kill(pid(&first["pid"]), None).is_err(), "the old process is gone");

    let down = stage.json(&["down", "--json"]);
    assert_eq!(
        (&down["stopped"], &down["killed"], &down["uninstalled"]),
        (&second["pid"], &false.into(), &true.into())
    );
    assert!(kill(pid(&second["pid"]), None).is_err(), "the process is gone");
    assert_eq!(stage.json(&["status", "--json"])["service"]["installed"], false);
    assert_eq!(stage.json(&["down", "--json"])["stopped"], Value::Null, "not running is no error");
    assert!(stage.refused(&["restart"], 1).contains("stakpak up -d"));
}

#[test]
fn a_killed_process_is_started_again() {
    let stage = Stage::new();
    let first = stage.detached();
    kill(pid(&first["pid"]), Signal::SIGKILL).unwrap();
    let second = until("the next process", || stage.pid().filter(|pid| Some(*pid) != first["pid"].as_i64()));
    let status = stdout(&stage.0.run(&["status"]));
    assert!(status.contains("started 2 times"), "{status}");
    let down = stage.json(&["down", "--json"]);
    assert_eq!(down["stopped"], second);
}

/// A-P29: a broken file does not hold up who wants it stopped, and a restart that cannot work leaves what runs alone.
#[test]
fn a_broken_file_stops_a_restart_but_no_end() {
    let stage = Stage::new();
    let running = stage.detached();
    stage.0.write("autopilot.toml", "[server\n");
    assert!(stage.refused(&["restart"], 1).contains("autopilot.toml:1"));
    kill(pid(&running["pid"]), None).expect("it runs on");
    assert_eq!(stage.json(&["down", "--json"])["stopped"], running["pid"]);
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing_behind() {
    let stage = Stage::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let error = stage.refused(&["up", "-d", "--service", "process", "--bind", &bind], 1);
    assert!(error.contains("is taken by"), "{error}");
    // Passes all checks before the start, and fails in it.
    stage.0.write("autopilot/journal.db", "this is no database, whatever its name says; it is longer than a header\n");
    let error = stage.refused(&["up", "-d", "--service", "process", "--bind", "127.0.0.1:0"], 1);
    assert!(error.contains("it does not start") && error.contains("journal.db"), "{error}");
    let status = stage.json(&["status", "--json"]);
    assert_eq!((&status["service"]["installed"], &status["pid"]), (&false.into(), &Value::Null));
}

/// A-P27, A-P28: what is dangerous holds for one start in a terminal.
#[test]
fn dangerous_flags_are_refused_for_a_service() {
    let stage = Stage::new();
    for flag in ["--no-auth", "--auto-approve-all"] {
        assert!(stage.refused(&["up", "-d", flag], 2).contains(flag));
    }
    assert!(!stage.0.path(".stakpak/autopilot/service.json").exists());
}

/// A-P38, A-P32: the service has the variables that it needs, or its start is refused by name; their values are in one
/// private file and nowhere else.
#[test]
fn a_service_has_the_variables_it_refers_to() {
    let stage = Stage::new();
    stage.0.write(
        "config.toml",
        "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\n\
         api_endpoint = \"http://127.0.0.1:9\"\napi_key = \"${MY_KEY}\"\n",
    );
    let up = ["up", "-d", "--service", "process", "--bind", "127.0.0.1:0", "--json"];
    let with_key = |more: &[&str]| {
        let mut command: Command = stage.0.command(&up);
        command.args(more).env("MY_KEY", "sk-very-secret").output().unwrap()
    };
    let refused = with_key(&[]);
    assert_eq!(refused.status.code(), Some(1));
    let error = stderr(&refused);
    assert!(error.contains("config.toml: profiles.default.providers.my.api_key needs the variable MY_KEY"), "{error}");

    let installed = with_key(&["--import-env"]);
    assert!(installed.status.success(), "{}", stderr(&installed));
    let said = stderr(&installed) + &stdout(&installed);
    assert!(said.contains("MY_KEY") && !said.contains("sk-very-secret"), "{said}");
    let environment = std::fs::read_to_string(stage.0.path(".stakpak/autopilot/env")).unwrap();
    assert!(environment.contains("MY_KEY=\"sk-very-secret\""), "{environment}");
    let pid = stage.pid().unwrap();
    let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let variables: Vec<&[u8]> = variables.split(|byte| *byte == 0).collect();
    assert!(variables.contains(&&b"MY_KEY=sk-very-secret"[..]));
    for file in ["config.toml", "autopilot/service.json"] {
        let text = std::fs::read_to_string(stage.0.path(&format!(".stakpak/{file}"))).unwrap();
        assert!(!text.contains("sk-very-secret"), "{file}");
    }
}

/// A-P25: an open event stream does not hold it up, and nothing has to be killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_does_not_hold_up_the_end() {
    let stage = Stage::new();
    let running = stage.detached();
    let token = std::fs::read_to_string(stage.0.path(".stakpak/autopilot/token")).unwrap();
    let client = stakpak_client::StakpakClient::new(running["url"].as_str().unwrap(), token.trim());
    let session = client.create_session("reader").await.unwrap();
    let mut events = client.subscribe_events(&session.id.to_string(), Some(0)).await.unwrap();
    let reading = tokio::spawn(async move { while events.next_event().await.is_some() {} });
    let down = tokio::task::block_in_place(|| stage.json(&["down", "--json"]));
    assert_eq!((&down["stopped"], &down["killed"]), (&running["pid"], &false.into()));
    reading.abort();
}

#[test]
fn the_log_is_shown_in_the_order_of_time_and_goes_on() {
    let stage = Stage::new();
    let line = |second: u32, level: &str, text: &str| format!("2026-01-31T08:00:{second:02}.5Z {level:>5} x: {text}\n");
    let server = line(1, "INFO", "one") + &line(3, "WARN", "three session=abc") + "  more of three\n";
    stage.0.write("autopilot/logs/server.log.1", &line(0, "ERROR", "zero session=abc"));
    stage.0.write("autopilot/logs/server.log", &server);
    stage.0.write("autopilot/logs/gateway.log", &line(2, "DEBUG", "two"));
    let words = |arguments: &[&str]| {
        let text = stdout(&stage.0.run(&[&["logs"], arguments].concat()));
        let names = ["zero", "one", "two", "more of three", "three"];
        let word = |line: &str| names.iter().find(|name| line.contains(*name)).copied();
        text.lines().filter_map(word).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(words(&[]), ["zero", "one", "two", "three", "more of three"]);
    assert_eq!(words(&["-n", "2"]), ["two", "three", "more of three"]);
    assert_eq!(words(&["-c", "gateway"]), ["two"]);
    assert_eq!(words(&["--level", "warn"]), ["zero", "three", "more of three"]);
    assert_eq!(words(&["--session", "abc", "-n", "1"]), ["three", "more of three"]);
    assert_eq!(words(&["--since", "2026-01-31T08:00:02Z"]), ["two", "three", "more of three"]);
    let json = stage.json(&["logs", "--json", "-n", "1"]);
    assert_eq!(json["lines"][0]["component"], "server");
    assert!(stage.refused(&["logs", "--since", "yesterday"], 2).contains("a duration such as 2h"));

    let follow = stage.0.command(&["logs", "-f", "-n", "1", "-c", "gateway"]).stdout(Stdio::piped()).spawn();
    let mut follow = follow.unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    // What comes after this line is shown, whatever happens to the file.
    assert!(lines.next().unwrap().unwrap().contains("two"));
    std::fs::rename(stage.0.path(".stakpak/autopilot/logs/gateway.log"), stage.0.path("moved")).unwrap();
    stage.0.write("autopilot/logs/gateway.log", &line(4, "INFO", "after the turn"));
    assert!(lines.next().unwrap().unwrap().contains("after the turn"));
    follow.kill().unwrap();
    follow.wait().unwrap();
}

/// A-P29: `status` tells of a broken file beside everything else, and `logs` shows what was logged, running or stopped.
#[test]
fn a_broken_file_is_told_by_status_beside_everything_else() {
    let good = "[[schedules]]\nname = \"yearly\"\ncron = \"0 0 1 1 *\"\nprompt = \"x\"\n";
    for (text, place, is_listed) in [
        (format!("{good}[server\n"), "autopilot.toml:5:", false),
        (format!("{good}[server]\nlisten = \"nowhere\"\n"), "autopilot.toml:6:", true),
        (format!("{good}[gateway]\napproval_mode = 7\n"), "autopilot.toml:6:", true),
        ("schedules = 7\n".to_owned(), "autopilot.toml:1:", false),
    ] {
        let home = Home::new();
        home.write("autopilot.toml", good);
        let up = home.up();
        home.write("autopilot.toml", &text);
        let status = || {
            let people = home.run(&["status"]);
            assert_eq!(people.status.code(), Some(1), "{text}");
            let (said, told) = (stdout(&people), home.run(&["status", "--json"]));
            assert!(said.contains(place) && said.contains("autopilot.toml cannot be read"), "{text}: {said}");
            let json: Value = serde_json::from_str(&stdout(&told)).unwrap();
            assert_eq!((&json["ok"], &json["scheduler"]["config_valid"]), (&false.into(), &false.into()), "{json}");
            assert!(json["scheduler"]["error"].as_str().unwrap().contains(place), "{json}");
            let names = json["schedules"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect::<Vec<_>>();
            assert_eq!(names, if is_listed { vec![Value::from("yearly")] } else { vec![] }, "{text}");
            (said, json)
        };
        let (said, json) = status();
        assert!(said.contains("server     running") && said.contains("goes on with what it read"), "{said}");
        assert!(json["pid"].is_number() && json["server"]["reachable"] == true, "{json}");
        assert!(home.run(&["logs"]).status.success());
        up.stop();
        assert!(status().0.contains("not running"));
        let logs = home.run(&["logs"]);
        assert!(logs.status.success() && !stdout(&logs).is_empty(), "{}", stderr(&logs));
    }
}
