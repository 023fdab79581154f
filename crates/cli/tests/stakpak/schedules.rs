//! `schedule …`: what it writes, what it shows, and how it exits.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use stakpak_test_support::{Reply, ScriptedLlm, write_executable};

use crate::{
    support::{Home, stderr, stdout, until},
    telegram::Stage,
};

struct Desk(Home);

impl Desk {
    fn new(file: &str) -> Self {
        let home = Home::new();
        home.write("autopilot.toml", file);
        Self(home)
    }

    fn uses(&self, llm: &ScriptedLlm) {
        self.0.write(
            "config.toml",
            &format!(
                "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
                llm.base_url()
            ),
        );
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.0.path(".stakpak/autopilot.toml")).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.0.run(&[&["schedule"], arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    fn done(&self, arguments: &[&str]) {
        let output = self.0.run(&[&["schedule"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    }

    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let before = self.file();
        let output = self.0.run(&[&["schedule"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stdout(&output));
        assert_eq!(self.file(), before, "{arguments:?}: a refused command writes nothing");
        stderr(&output)
    }
}

const FILE: &str = "# mine\n[defaults]\ntimezone = \"Europe/Stockholm\"\n\n[[schedules]]\nname = \"disk\"   # keep\n\
    cron = \"0 8 * * *\"\nprompt = \"look\"\nmodel = \"a/b\"\n\n[other]\nx = 1\n";

/// A-P30: an edit changes what was given, and not a byte else.
#[test]
fn an_edit_changes_only_what_is_given() {
    let desk = Desk::new(FILE);
    desk.done(&["edit", "disk", "--cron", "0 9 * * *"]);
    assert_eq!(desk.file(), FILE.replace("0 8", "0 9"));
    desk.done(&["disable", "disk"]);
    let disabled = FILE.replace("0 8", "0 9").replace("model = \"a/b\"\n", "model = \"a/b\"\nenabled = false\n");
    assert_eq!(desk.file(), disabled);
    desk.done(&["enable", "disk"]);
    assert_eq!(desk.file(), FILE.replace("0 8", "0 9"));
    desk.done(&["edit", "disk", "--every", "15m", "--unset", "model", "--overlap", "queue_one"]);
    let expected = FILE
        .replace("cron = \"0 8 * * *\"\n", "")
        .replace("model = \"a/b\"\n", "every = \"15m\"\noverlap = \"queue_one\"\n");
    assert_eq!(desk.file(), expected, "of cron, every and at there is one");
}

#[test]
fn what_would_be_invalid_is_not_written() {
    let desk = Desk::new(FILE);
    assert!(desk.refused(&["edit", "disk", "--cron", "99 * * * *"], 1).contains("cron"));
    assert!(desk.refused(&["edit", "disk", "--overlap", "sometimes"], 1).contains("queue_one"));
    assert!(desk.refused(&["edit", "disk", "--unset", "jitter"], 1).contains("has no key jitter"));
    assert!(desk.refused(&["edit", "nobody", "--cron", "* * * * *"], 1).contains("nobody"));
    assert!(desk.refused(&["enable", "nobody"], 1).contains("nobody"));
    assert!(desk.refused(&["add", "past", "--at", "2020-01-01T00:00:00Z", "--prompt", "x"], 1).contains("past"));
    desk.refused(&["add", "both", "--cron", "* * * * *", "--every", "5m", "--prompt", "x"], 2);
    desk.refused(&["add", "none", "--prompt", "x"], 2);
    desk.refused(&["edit", "disk", "--max-turns", "3", "--max-steps", "4"], 2);
}

#[test]
fn show_tells_each_value_with_its_origin() {
    let desk = Desk::new(FILE);
    let shown = desk.json(&["show", "disk"]);
    assert_eq!(
        (&shown["definition"]["timezone"], &shown["origins"]["timezone"]),
        (&"Europe/Stockholm".into(), &"[defaults]".into())
    );
    assert_eq!((&shown["definition"]["model"], &shown["origins"]["model"]), (&"a/b".into(), &"schedules.disk".into()));
    assert_eq!(
        (&shown["definition"]["profile"], &shown["origins"]["profile"]),
        (&"default".into(), &"built in".into())
    );
    assert_eq!(shown["next_fires"].as_array().unwrap().len(), 5);
    assert!(desk.refused(&["show", "nobody"], 1).contains("nobody"));
    assert!(desk.refused(&["show", "7"], 1).contains("no run 7"));
    assert!(desk.refused(&["show", "run:x"], 2).contains("not the number of a run"));
}

/// A-P3, A-P4 from outside: the preview is what fires, with the zone's rule for clock changes.
#[test]
fn next_previews_in_the_zone() {
    let desk = Desk::new(FILE);
    let fires = |arguments: &[&str]| desk.json(&[&["next"], arguments].concat())["next_fires"].clone();
    let of_schedule = fires(&["disk", "-n", "3"]);
    assert_eq!(of_schedule, fires(&["--cron", "0 8 * * *", "--tz", "Europe/Stockholm", "-n", "3"]));
    assert_ne!(of_schedule, fires(&["--cron", "0 8 * * *", "-n", "3"]));
    let text = stdout(&desk.0.run(&["schedule", "next", "disk", "-n", "1"]));
    assert!(text.contains("08:00:00 CE") && text.contains("UTC"), "{text}");
    desk.refused(&["next"], 2);
    desk.refused(&["next", "--cron", "x"], 2);
}

#[test]
fn a_triggered_run_can_be_waited_for() {
    let desk = Desk::new(FILE.replace("look", "uptime").replace("model = \"a/b\"\n", "").as_str());
    let refused = desk.refused(&["trigger", "disk", "--wait"], 1);
    assert!(refused.contains("nothing runs"), "{refused}");
    // Not running: stored.
    assert_eq!(desk.json(&["trigger", "disk"])["run"]["status"], "pending");
    let up = desk.0.up();
    until("the stored run", || (desk.json(&["show", "1"])["run"]["status"] == "completed").then_some(()));
    let run = desk.json(&["trigger", "disk", "--wait"])["run"].clone();
    assert_eq!(run["status"], "completed", "{run}");
    assert!(run["agent_message"].as_str().is_some_and(|text| !text.is_empty()), "{run}");
    let again = desk.json(&["show", &format!("run:{}", run["id"])]);
    assert_eq!(again["run"]["session_id"], run["session_id"]);
    up.kill();
}

/// A script adds a schedule and triggers it in the next line; the running instance reads the file some time later.
#[test]
fn what_was_added_just_now_can_be_triggered() {
    let desk = Desk::new("");
    let up = desk.0.up();
    desk.json(&["add", "fresh", "--every", "1h", "--prompt", "uptime"]);
    let run = desk.json(&["trigger", "fresh", "--wait"])["run"].clone();
    assert_eq!((&run["schedule_name"], &run["status"]), (&json!("fresh"), &json!("completed")), "{run}");
    assert!(desk.refused(&["trigger", "nobody"], 1).contains("nobody"));
    up.kill();
}

/// The same over HTTP, for chats and programs.
#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_seen_and_steered_over_http() {
    let desk = Desk::new(FILE.replace("look", "uptime").replace("model = \"a/b\"\n", "").as_str());
    let up = desk.0.up();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |method: reqwest::Method, path: &str, body: Option<Value>| {
        let request = http.request(method, format!("{}/v1/{path}", up.url)).bearer_auth(&up.token);
        let request = body.iter().fold(request, |request, body| request.json(body));
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
    let (status, listed) = ask(get.clone(), "schedules", None).await;
    assert_eq!((status, &listed["schedules"][0]["name"]), (200, &"disk".into()), "{listed}");
    let (_, paused) = ask(post.clone(), "schedules/disk/pause", Some(json!({ "for": "2h", "note": "night" }))).await;
    assert!(paused["until"].is_string(), "{paused}");
    assert_eq!(ask(get.clone(), "schedules/disk", None).await.1["state"], "paused");
    assert_eq!(ask(post.clone(), "schedules/disk/resume", None).await.0, 200);
    assert_eq!(ask(get.clone(), "schedules/disk", None).await.1["state"], "active");
    let (status, run) = ask(post.clone(), "schedules/disk/trigger", None).await;
    assert_eq!(status, 202, "{run}");
    let path = format!("schedule-runs/{}", run["id"]);
    while ask(get.clone(), &path, None).await.1["status"] != "completed" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (_, runs) = ask(get.clone(), "schedule-runs?schedule=disk&limit=1", None).await;
    assert_eq!((&runs["runs"][0]["id"], &runs["next_cursor"]), (&run["id"], &run["id"]));
    let (_, rest) = ask(get.clone(), &format!("schedule-runs?limit=1&cursor={}", run["id"]), None).await;
    assert_eq!((&rest["runs"], &rest["next_cursor"]), (&json!([]), &Value::Null));
    let (_, failed) = ask(get.clone(), "schedule-runs?status=failed", None).await;
    assert_eq!(failed["runs"], json!([]));
    for (method, path, body, expected) in [
        (&get, "schedules/nobody", None, 404),
        (&post, "schedules/nobody/pause", None, 404),
        (&post, "schedules/nobody/resume", None, 404),
        (&post, "schedules/disk/pause", Some(json!({ "for": "2h", "until": "2027-01-01T00:00:00Z" })), 400),
        (&post, "schedules/disk/pause", Some(json!({ "for": "soon" })), 400),
        (&get, "schedule-runs/99", None, 404),
        (&get, "schedule-runs?limit=0", None, 400),
        (&get, "schedule-runs?status=done", None, 400),
    ] {
        let (status, answer) = ask(method.clone(), path, body).await;
        assert_eq!(status, expected, "{path}: {answer}");
        assert!(answer["error"].is_string(), "{path}: {answer}");
    }
}

/// A home with a model that wants to write a file, which has to be approved, and says afterwards how it went.
async fn asking() -> (Desk, ScriptedLlm) {
    let desk = Desk::new(
        "[[schedules]]\nname = \"disk\"\ncron = \"@yearly\"\nprompt = \"tidy up\"\npause_on_approval = true\n\
         overlap = \"queue_all\"\n",
    );
    let llm = ScriptedLlm::start().await;
    llm.answer_with(|request| {
        if request.body.to_string().contains("call_1") {
            return Reply::text(["All is tidy."]);
        }
        Reply::tool_call("call_1", "stakpak__run_command", &json!({ "command": "echo tidied >> witness" }))
    });
    desk.uses(&llm);
    (desk, llm)
}

/// Each attempt is shown with its session and its end, under one run.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_failed_is_tried_again_and_its_attempts_are_shown() {
    let desk = Desk::new(
        "[[schedules]]\nname = \"disk\"\ncron = \"@yearly\"\nprompt = \"look\"\nretries = 1\nretry_on = \"any\"\n\
         retry_backoff = \"1s\"\n",
    );
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::status(400, &json!({ "error": { "message": "no such thing" } })));
    llm.always(Reply::text(["All is well."]));
    desk.uses(&llm);
    let up = desk.0.up();
    let output = desk.0.run(&["schedule", "trigger", "disk", "--wait"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run = desk.json(&["show", "run:1"])["run"].clone();
    let [first, second] = run["attempts"].as_array().unwrap().as_slice() else { panic!("{run}") };
    assert_eq!((&run["status"], &run["attempt"]), (&"completed".into(), &2.into()), "{run}");
    assert_eq!((&first["status"], &second["status"]), (&"failed".into(), &"completed".into()), "{run}");
    assert_ne!(first["session_id"], second["session_id"], "{run}");
    assert_eq!(second["session_id"], run["session_id"], "{run}");
    assert_eq!(desk.json(&["history", "disk"])["runs"][0]["attempts"], run["attempts"]);
    let shown = stdout(&desk.0.run(&["schedule", "show", "run:1"]));
    assert!(shown.contains("completed, attempt 2") && shown.contains("attempt 1  failed, session "), "{shown}");
    up.kill();
}

/// A-P15, A-P16: a run that waits outlives a kill; the command it tells to go on with is one, and what was approved runs, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_outlives_a_kill_and_is_approved_with_the_command_that_it_names() {
    let (desk, _llm) = asking().await;
    let up = desk.0.up();
    let output = desk.0.run(&["schedule", "trigger", "disk", "--wait"]);
    assert_eq!(output.status.code(), Some(10), "{}", stderr(&output));
    up.kill();
    let witness = desk.0.path("witness");
    assert!(!witness.exists());
    let shown = desk.json(&["show", "run:1"])["run"].clone();
    assert_eq!((&shown["status"], &shown["pause_reason"][0]["id"]), (&"paused".into(), &"call_1".into()), "{shown}");
    assert!(shown["approval_expires_at"].is_string(), "{shown}");
    assert!(desk.refused(&["resume", "run:1"], 2).contains("--approve-all"));
    assert!(desk.refused(&["resume", "disk", "--approve-all"], 2).contains("run:N"));
    assert!(desk.refused(&["resume", "1", "--approve", "call_9"], 1).contains("it waits with: call_1"));
    assert!(desk.refused(&["resume", "1", "--approve-all", "--wait"], 1).contains("nothing runs"));

    let up = desk.0.up();
    let hint = shown["resume_hint"].as_str().unwrap().to_owned();
    let words: Vec<&str> = hint.split(' ').skip(1).chain(["--wait", "--json"]).collect();
    let output = desk.0.run(&words);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let resumed: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let run = &resumed["run"];
    assert_eq!((&run["status"], &run["agent_message"]), (&"completed".into(), &"All is tidy.".into()), "{run}");
    assert_eq!(
        (&run["decisions"][0]["by"], &run["decisions"][0]["action"]),
        (&"cli".into(), &"accept".into()),
        "{run}"
    );
    assert_eq!(std::fs::read_to_string(witness).unwrap(), "tidied\n");
    assert!(desk.refused(&["resume", "1", "--reject-all"], 1).contains("cli approved call_1 at "));
    assert!(desk.refused(&["cancel", "run:1"], 1).contains("has ended: it is completed"));
    assert!(desk.refused(&["cancel", "disk"], 2).contains("not the number of a run"));
    up.kill();
}

/// The same over HTTP: one decision for a key; and a run that waits can be ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_is_rejected_or_ended_over_http() {
    let (desk, _llm) = asking().await;
    let up = desk.0.up();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = async |path: &str, key: Option<&str>, body: Value| {
        let request = http.post(format!("{}/v1/{path}", up.url)).bearer_auth(&up.token).json(&body);
        let request = key.iter().fold(request, |request, key| request.header("idempotency-key", *key));
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let status = |run: &str| desk.json(&["show", run])["run"]["status"].clone();
    post("schedules/disk/trigger", None, json!({})).await;
    until("the first waits", || (status("1") == "paused").then_some(()));
    let reject = json!({ "reject_all": true, "message": "not today", "by": "Ann" });
    let (code, run) = post("schedule-runs/1/resume", Some("k"), reject.clone()).await;
    assert_eq!((code, &run["decisions"][0]["by"]), (200, &"Ann".into()), "{run}");
    assert_eq!(post("schedule-runs/1/resume", Some("k"), reject).await.0, 200);
    let paused = post("schedules/disk/pause", Some("k"), json!({ "for": "1h" })).await;
    assert_eq!(post("schedules/disk/resume", Some("k"), json!({})).await.0, 200);
    assert_eq!(post("schedules/disk/pause", Some("k"), json!({ "for": "1h" })).await, paused);
    assert_eq!(post("schedules/disk/pause", Some("k"), json!({ "for": "2h" })).await.0, 409);
    assert_eq!(desk.json(&["list"])["schedules"][0]["state"], "active", "the pause was repeated, not made anew");
    let (code, late) = post("schedule-runs/1/resume", None, json!({ "approve_all": true })).await;
    assert!(code == 409 && late["error"].as_str().unwrap().contains("Ann rejected call_1"), "{code} {late}");
    until("it ends", || (status("1") == "completed").then_some(()));
    assert!(!desk.0.path("witness").exists());
    for (path, body, expected) in [
        ("schedule-runs/9/resume", json!({ "approve_all": true }), 404),
        ("schedule-runs/1/resume", json!({}), 400),
        ("schedule-runs/1/resume", json!({ "approve": "all" }), 400),
        ("schedule-runs/9/cancel", json!({}), 404),
        ("schedule-runs/1/cancel", json!({}), 409),
    ] {
        let (code, answer) = post(path, None, body).await;
        assert_eq!(code, expected, "{path}: {answer}");
    }
    post("schedules/disk/trigger", None, json!({})).await;
    until("the second waits", || (status("2") == "paused").then_some(()));
    let cancelled = desk.json(&["cancel", "2"])["run"].clone();
    assert_eq!((&cancelled["status"], &cancelled["reason"]), (&"cancelled".into(), &"user".into()), "{cancelled}");
    up.kill();
}

/// From a check that fails to the chat: the built binary runs the schedule, says how it went, and knows what an answer there is
/// about.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_schedule_found_is_told_in_the_chat() {
    const USER: i64 = 42;
    let stage = Stage::new().await;
    let check = stage.home.path("disk.sh");
    write_executable(&check, "#!/bin/sh\necho '/srv is 97 % full'\nexit 2\n");
    let file = stage.home.path(".stakpak/autopilot.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str(&format!(
        "[notifications]\nchannel = \"telegram\"\ntarget = \"{USER}\"\n\
         [[schedules]]\nname = \"disk\"\ncron = \"* * * * * *\"\nprompt = \"what fills the disk?\"\ninteraction = \"silent\"\ncheck = \"{}\"\n",
        check.display()
    ));
    std::fs::write(&file, &text).unwrap();
    let bodies = Arc::new(Mutex::new(Vec::new()));
    stage.llm.answer_with({
        let bodies = Arc::clone(&bodies);
        move |request| {
            let body = request.body.to_string();
            let of_schedule = body.contains("what fills the disk?");
            bodies.lock().unwrap().push(body);
            Reply::text([if of_schedule {
                "Old logs fill it: **8 GiB** in /srv/log."
            } else {
                "They are rotated now."
            }])
        }
    });
    let up = stage.up();
    let sent = stage.telegram.wait_for_sent(|sent| !sent.is_empty()).await;
    let listed: Value = serde_json::from_str(&stdout(&stage.home.run(&["schedule", "list", "--json"]))).unwrap();
    let told = json!({ "channel": "telegram", "hint": null, "ready": true, "route": "telegram:42", "state": "ready", "target": "42" });
    assert_eq!(listed["schedules"][0]["notification"], told);
    // One is enough.
    std::fs::write(&file, text.replace("\"* * * * * *\"", "\"@yearly\"")).unwrap();
    assert_eq!(sent[0].chat_id, USER);
    let lines: Vec<&str> = sent[0].text.lines().collect();
    assert_eq!(lines[0], "✅ disk completed", "{:?}", sent[0].text);
    assert!(lines[1].starts_with("cron, ") && lines[1].ends_with(" · check exit code 2"), "{:?}", sent[0].text);
    assert!(lines.contains(&"Old logs fill it: 8 GiB in /srv/log."), "{:?}", sent[0].text);
    assert_eq!(lines.last(), Some(&"stakpak schedule show run:1"));
    let notification = until("the delivery is known", || {
        let shown: Value =
            serde_json::from_str(&stdout(&stage.home.run(&["schedule", "show", "run:1", "--json"]))).unwrap();
        let notification = shown["run"]["notifications"][0].clone();
        (notification["state"] == "delivered").then_some(notification)
    });
    assert_eq!((&notification["event"], &notification["route"]), (&json!("completed"), &json!("telegram:42")));
    let shown = stdout(&stage.home.run(&["schedule", "show", "run:1"]));
    assert!(shown.contains("told  completed to telegram:42: delivered, sent once"), "{shown}");
    let list = stdout(&stage.home.run(&["schedule", "list"]));
    assert!(list.contains("NOTIFICATION") && list.contains("telegram:42"), "{list}");

    stage.telegram.say(USER, "do something about it");
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("rotated now"))).await;
    let bodies = bodies.lock().unwrap().clone();
    let reply = bodies.iter().find(|body| body.contains("do something about it")).unwrap();
    for part in ["schedule: disk", "/srv is 97 % full", "status: completed"] {
        assert!(reply.contains(part), "{part}: {reply}");
    }
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let metrics = http.get(format!("{}/metrics", up.url)).bearer_auth(&up.token).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("stakpak_outbox_deliveries_total{state=\"delivered\"}"), "{metrics}");
    assert!(metrics.contains("stakpak_outbox_pending "), "{metrics}");
}

/// `trigger --dry-run` runs the check, tells what the run would be, and leaves no trace.
#[test]
fn a_dry_run_tells_all_and_writes_nothing() {
    let desk = Desk::new("");
    let check = desk.0.path("check.sh");
    write_executable(&check, "#!/bin/sh\necho 97 percent\nexit 3\n");
    let schedule =
        "[[schedules]]\nname = \"disk\"\ncron = \"@daily\"\nprompt = \"look at it\"\nmodel = \"builtin/offline\"\n";
    desk.0.write("autopilot.toml", &format!("{schedule}check = \"{}\"\n", check.display()));
    let dry = desk.json(&["trigger", "disk", "--dry-run"]);
    let what = &dry["preview"];
    assert_eq!((&what["would_start"], &what["check"]["exit_code"]), (&json!(true), &json!(3)), "{dry}");
    assert_eq!((&what["message"], &dry["profile"]), (&json!("look at it"), &json!("default")), "{dry}");
    assert_eq!(dry["model"], "builtin/offline");
    assert!(what["context"].as_str().unwrap().contains("97 percent"), "{dry}");
    assert!(!desk.0.path(".stakpak/autopilot/autopilot.db").exists(), "no ledger is made");

    let without = desk.json(&["trigger", "disk", "--dry-run", "--no-check"]);
    assert_eq!((&without["preview"]["check"], &without["preview"]["would_start"]), (&Value::Null, &json!(true)));
    write_executable(&check, "#!/bin/sh\nexit 0\n");
    let idle = desk.json(&["trigger", "disk", "--dry-run"]);
    assert_eq!(idle["preview"]["would_start"], false);
    desk.refused(&["trigger", "disk", "--dry-run", "--wait"], 2);
}

/// Without the check, and beside a run that is active, when that is asked for; history shows how a check ended.
#[test]
fn trigger_takes_no_check_and_force() {
    let desk = Desk::new("");
    let check = desk.0.path("check.sh");
    write_executable(&check, "#!/bin/sh\nexit 3\n");
    let schedule = "[[schedules]]\nname = \"a\"\ncron = \"@yearly\"\nprompt = \"status\"\ntrigger_on = \"success\"\n";
    desk.0.write("autopilot.toml", &format!("{schedule}check = \"{}\"\n", check.display()));
    let up = desk.0.up();
    let run = desk.json(&["trigger", "a", "--wait"])["run"].clone();
    assert_eq!((&run["status"], &run["check"]["exit_code"]), (&json!("skipped"), &json!(3)));
    let run = desk.json(&["trigger", "a", "--wait", "--no-check"])["run"].clone();
    assert_eq!((&run["status"], &run["check"]), (&json!("completed"), &Value::Null), "{run}");
    let history = stdout(&desk.0.run(&["schedule", "history", "a"]));
    let head: Vec<&str> = history.lines().next().unwrap().split_whitespace().collect();
    let at = head.iter().position(|word| *word == "CHECK").unwrap();
    assert_eq!(head[at - 1], "REASON", "{history}");
    assert!(history.lines().any(|line| line.contains("skipped") && line.contains(" 3 ")), "{history}");
    let of = |filter: &[&str]| -> Vec<i64> {
        let history = desk.json(&[&["history", "a"], filter].concat());
        history["runs"].as_array().unwrap().iter().map(|run| run["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(
        (of(&["--status", "skipped"]), of(&["--status", "completed"]), of(&["--status", "failed"])),
        (vec![1], vec![2], vec![])
    );
    assert_eq!((of(&["--since", "1h"]), of(&["--since", "2100-01-01T00:00:00Z"])), (vec![2, 1], vec![]));
    assert!(desk.refused(&["history", "a", "--status", "done"], 2).contains("expected one of pending"));

    let go = desk.0.path("go");
    write_executable(&check, format!("#!/bin/sh\nuntil [ -e {} ]; do sleep 0.05; done\nexit 3\n", go.display()));
    desk.json(&["trigger", "a"]);
    let active = || desk.json(&["history", "a"])["runs"][0]["status"] == "running";
    until("the check of the first", || active().then_some(()));
    assert!(desk.refused(&["trigger", "a"], 1).contains("is active"));
    let forced = desk.json(&["trigger", "a", "--force", "--no-check", "--wait"])["run"].clone();
    assert_eq!(forced["status"], "completed", "{forced}");
    std::fs::write(go, "").unwrap();
    // A check that still looked for the file when all is taken down would look for ever.
    until("the end of the check", || (desk.json(&["show", "run:3"])["run"]["status"] == "skipped").then_some(()));
    drop(up);
}

/// A-P7: instants that share a row stand in the history where they belong: behind the missed ones of their gap, before older runs.
#[test]
fn history_shows_the_missed_instants_that_have_no_rows_of_their_own() {
    let desk = Desk::new("[[schedules]]\nname = \"a\"\ncron = \"@yearly\"\nprompt = \"status\"\n");
    let up = desk.0.up();
    (0..2).for_each(|_| drop(desk.json(&["trigger", "a", "--wait"])));
    up.kill();
    let ledger = rusqlite::Connection::open(desk.0.path(".stakpak/autopilot/autopilot.db")).unwrap();
    let sql = "UPDATE runs SET nominal_at = id * 1000000";
    assert_eq!(ledger.execute(sql, []).unwrap(), 2);
    let sql = "INSERT INTO missed_ranges VALUES ('a', 1100000, 1900000, 312, 'window'), ('b', 1, 2, 7, 'limit')";
    ledger.execute(sql, []).unwrap();
    let range = json!({ "schedule_name": "a", "from": "1970-01-01T00:18:20Z", "to": "1970-01-01T00:31:40Z",
                        "count": 312, "reason": "window" });
    assert_eq!(desk.json(&["history", "a"])["missed_ranges"], json!([range]));
    assert_eq!(desk.json(&["history", "--all"])["missed_ranges"].as_array().unwrap().len(), 2);
    assert_eq!(
        desk.json(&["history", "a", "--limit", "1"])["missed_ranges"],
        json!([]),
        "it is older than what is shown"
    );
    let shown = stdout(&desk.0.run(&["schedule", "history", "a"]));
    let first_words: Vec<&str> =
        shown.lines().skip(1).take(3).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(first_words, ["2", "-", "1"], "{shown}");
    let row = shown.lines().nth(2).unwrap();
    assert!(row.contains("00:18:20 UTC to 1970-01-01 00:31:40 UTC") && row.contains("missed, 312 times"), "{shown}");
}

/// A-P37: `clean` takes out what has ended, beside a running instance, and touches nothing that has not.
#[tokio::test(flavor = "multi_thread")]
async fn clean_takes_out_runs_that_have_ended_and_no_other() {
    let (desk, _llm) = asking().await;
    let up = desk.0.up();
    assert_eq!(desk.0.run(&["schedule", "trigger", "disk", "--wait"]).status.code(), Some(10));
    desk.done(&["resume", "run:1", "--approve-all", "--wait"]);
    assert_eq!(desk.0.run(&["schedule", "trigger", "disk", "--wait"]).status.code(), Some(10));
    let waiting = desk.json(&["show", "run:2"])["run"].clone();
    assert_eq!(desk.json(&["clean"])["pruned"], 0, "nothing is 90 days old");
    assert_eq!(desk.json(&["clean", "--older-than-days", "0"])["pruned"], 1);
    assert_eq!(desk.json(&["history", "--all"])["runs"], json!([waiting]));
    desk.done(&["resume", "run:2", "--approve-all", "--wait"]);
    up.kill();
}

/// Yesterday's midnights in the place of runs that nobody was there for: stored without an instance, over HTTP beside one.
#[tokio::test(flavor = "multi_thread")]
async fn instants_that_have_passed_are_run_afterwards() {
    let desk = Desk::new("[[schedules]]\nname = \"beat\"\nevery = \"6h\"\nprompt = \"uptime\"\n");
    let days = |from: &str, to: &str| [format!("2026-01-{from}T00:00:00Z"), format!("2026-01-{to}T00:00:00Z")];
    let [from, to] = days("01", "02");
    let asked = ["backfill", "beat", "--from", &from, "--to", &to];
    let dry = desk.json(&[&asked[..], &["--dry-run"]].concat());
    assert_eq!(dry["backfill"]["instants"].as_array().unwrap().len(), 4, "{dry}");
    let refused = desk.refused(&[&asked[..], &["--limit", "3"]].concat(), 1);
    assert!(refused.contains("4 instants"), "{refused}");
    desk.refused(&["backfill", "nobody", "--from", &from, "--to", &to], 1);
    desk.refused(&["backfill", "beat", "--from", "monday", "--to", &to], 1);
    desk.refused(&[&asked[..], &["--overlap", "sometimes"]].concat(), 2);
    assert_eq!(desk.json(&["history", "beat"])["runs"], json!([]));
    assert_eq!(desk.json(&asked)["backfill"]["run_ids"], json!([1, 2, 3, 4]));
    let up = desk.0.up();
    let completed = |count| {
        until("the runs", || {
            let runs = desk.json(&["history", "beat"])["runs"].as_array().unwrap().clone();
            (runs.len() == count && runs.iter().all(|run| run["status"] == "completed")).then_some(runs)
        })
    };
    let runs = completed(4);
    assert_eq!((&runs[3]["source"], &runs[3]["nominal_at"]), (&json!("backfill"), &json!("2026-01-01T00:00:00Z")));
    let text = stdout(&desk.0.run(&["schedule", "backfill", "beat", "--from", &from, "--to", &days("02", "03")[1]]));
    assert!(text.contains("4 runs made") && text.contains("4 left out"), "{text}");
    completed(8);

    let client = up.client().with_idempotency_key("once");
    let [from, to] = days("05", "06");
    let body = json!({ "from": from, "to": to });
    let made = client.backfill_schedule("beat", &body).await.unwrap();
    assert_eq!(client.backfill_schedule("beat", &body).await.unwrap(), made);
    completed(12);
    let reused = client.backfill_schedule("beat", &json!({ "from": from, "to": to, "force": true })).await.unwrap_err();
    assert_eq!(reused.status(), Some(409), "{reused}");
    let many =
        up.client().backfill_schedule("beat", &json!({ "from": "2020-01-01T00:00:00Z", "to": to })).await.unwrap_err();
    assert_eq!(many.status(), Some(400), "{many}");
    up.kill();
}

/// 7.7: where the day of its profile is used up, a run is skipped, and that is no failure of the schedule.
#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_day_of_the_profile_skips_the_run() {
    let desk = Desk::new("");
    let llm = ScriptedLlm::start().await;
    llm.always(Reply::text(["All is well."]));
    desk.uses(&llm);
    let config = std::fs::read_to_string(desk.0.path(".stakpak/config.toml")).unwrap();
    let budget = "[profiles.default]\nbudget = { runs_per_day = 1 }\n";
    desk.0.write("config.toml", &config.replace("[profiles.default]\n", budget));
    desk.done(&["add", "look", "--cron", "@yearly", "--prompt", "look"]);
    let _up = desk.0.up();
    let run = || -> Value {
        let output = desk.0.run(&["schedule", "trigger", "look", "--wait", "--json"]);
        serde_json::from_str::<Value>(&stdout(&output)).unwrap()["run"].clone()
    };
    assert_eq!(run()["status"], "completed");
    let second = run();
    assert_eq!((&second["status"], &second["reason"]), (&"skipped".into(), &"budget".into()), "{second}");
    assert!(second.to_string().contains("profiles.default.budget.runs_per_day"), "{second}");
    assert_eq!(llm.requests().len(), 1);
}

/// C-P17 from outside: an answer of the test's model takes 12 tokens in and 5 out.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_cost_is_told_and_bounded() {
    let desk = Desk::new("[budget]\nusd_per_day = 10.0\n");
    let llm = ScriptedLlm::start().await;
    llm.always(Reply::text(["All is well."]));
    desk.uses(&llm);
    desk.done(&["add", "money", "--cron", "@yearly", "--prompt", "look", "--budget-usd-per-day", "5"]);
    assert!(desk.file().contains("budget = { usd_per_day = 5.0 }"), "{}", desk.file());
    desk.done(&["add", "poor", "--cron", "@yearly", "--prompt", "look", "--budget-usd-per-day", "0.0001"]);
    let up = desk.0.up();
    let run = |name: &str| -> Value {
        let output = desk.0.run(&["schedule", "trigger", name, "--wait", "--json"]);
        serde_json::from_str::<Value>(&stdout(&output)).unwrap()["run"].clone()
    };
    let unpriced = run("money");
    assert_eq!((&unpriced["status"], &unpriced["reason"]), (&"failed".into(), &"price_unknown".into()), "{unpriced}");
    drop(up);
    let config = std::fs::read_to_string(desk.0.path(".stakpak/config.toml")).unwrap();
    desk.0.write("config.toml", &format!("{config}[cost.\"my/test\"]\ninput = 100.0\noutput = 200.0\n"));
    let _up = desk.0.up();
    let priced = run("money");
    assert_eq!((&priced["status"], &priced["cost_usd"]), (&"completed".into(), &json!(0.0022)), "{priced}");
    let poor = run("poor");
    assert_eq!((&poor["status"], &poor["reason"]), (&"failed".into(), &"budget_exceeded".into()), "{poor}");
    assert_eq!(llm.requests().len(), 1, "nothing is asked that may cost more than is left");
    let history = stdout(&desk.0.run(&["schedule", "history", "--all"]));
    assert!(history.contains("COST") && history.contains("$0.0022"), "{history}");
    let status: Value = serde_json::from_str(&stdout(&desk.0.run(&["status", "--json"]))).unwrap();
    let (spent, limits) = (&status["budget"]["spent_usd_today"], &status["budget"]["limits"]["usd_per_day"]);
    assert_eq!((spent, limits), (&json!(0.0022), &json!(10.0)), "{status}");
    let status = stdout(&desk.0.run(&["status"]));
    assert!(status.contains("0.0022 of 10 USD today"), "{status}");
    let shown = desk.json(&["show", "money"]);
    assert_eq!(shown["definition"]["budget"]["usd_per_day"], json!(5.0));
    assert_eq!(shown["origins"]["usd_per_day"], "schedules.budget.usd_per_day");
}
