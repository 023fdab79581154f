//! What chats are told of scheduled runs: every outcome under its own name, once, whatever the gateway does meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;

use chrono::TimeDelta;
use serde_json::{Value, json};
use stakpak_scheduler::{
    Clock, Event, HeldBy, Hold, Notification, NotificationState, OutboxCounts, RunRecord, RunStatus,
};
use stakpak_test_support::write_executable;
use support::{
    Running, SECRET, World, at,
    chat::Fate,
    eventually,
    server::{Death, Play},
};

/// A schedule named `beat` that runs each hour beside the chat that is told of it.
fn beat(lines: &str) -> String {
    format!(
        "[notifications]\nchannel = 'telegram'\ntarget = '42'\n\
         [[schedules]]\nname = 'beat'\ncron = '0 * * * *'\nprompt = 'look'\ninteraction = 'silent'\n{lines}\n"
    )
}

async fn started(toml: &str) -> (World, Running) {
    let world = World::new("2026-01-01T00:59:30Z", toml).await;
    let running = world.start().await;
    (world, running)
}

/// The newest run, once it has ended.
async fn fire(world: &World, now: &str) -> RunRecord {
    let before = world.history("beat").await.len();
    world.clock.set(now);
    eventually("it fires", async || world.history("beat").await.len() > before).await;
    world.ended("beat").await
}

/// The notifications of the newest run, once they have all come to an end.
async fn settled(world: &World) -> Vec<Notification> {
    let mut told = Vec::new();
    eventually("every notification has ended", async || {
        told = world.history("beat").await.remove(0).notifications;
        !told.is_empty() && told.iter().all(|told| told.state != NotificationState::Pending)
    })
    .await;
    told
}

/// The only notification, once it was sent so often and waits for its next time.
async fn attempted(world: &World, attempts: u32) -> Notification {
    let connection = rusqlite::Connection::open(world.path()).unwrap();
    eventually("it was sent, and waits", async || {
        let sql = "SELECT 1 FROM outbox WHERE attempts = ?1 AND next_at > ?2";
        connection.query_row(sql, (attempts, world.clock.now().timestamp_millis()), |_| Ok(())).is_ok()
    })
    .await;
    let mut told = world.history("beat").await.remove(0).notifications;
    assert_eq!(told.len(), 1, "{told:?}");
    told.remove(0)
}

/// How long the only notification is still to wait.
fn waits(world: &World) -> TimeDelta {
    let connection = rusqlite::Connection::open(world.path()).unwrap();
    let next_at = connection.query_row("SELECT next_at FROM outbox", [], |row| row.get(0)).unwrap();
    TimeDelta::milliseconds(next_at) - TimeDelta::milliseconds(world.clock.now().timestamp_millis())
}

/// Headings of what the chat was shown, once there are so many and nothing is left to be told.
async fn headings(world: &World, count: usize) -> Vec<String> {
    eventually("the chat is told", async || {
        world.server.chat.shown().len() >= count && world.ledger.outbox(world.clock.now()).await.unwrap().pending == 0
    })
    .await;
    world.server.chat.headings()
}

fn script(body: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("check.sh");
    write_executable(&path, format!("#!/bin/sh\n{body}\n"));
    let line = format!("check = '{}'", path.display());
    (directory, line)
}

/// A-P42: what a check or an agent lets slip is not told.
#[tokio::test]
async fn the_chat_is_told_how_it_went_and_a_later_run_there_what_it_was_about() {
    let (_directory, check) = script(&format!("echo 'disk is 91 % full {SECRET}'; exit 3"));
    let (world, running) = started(&beat(&check)).await;
    world.server.play(Play::Answer("I removed **old** logs. hunter2-hunter2-hunter2"));
    fire(&world, "2026-01-01T01:00:00Z").await;
    let told = settled(&world).await;
    let delivered = Notification {
        event: Event::Completed,
        route: "telegram:42".to_owned(),
        state: NotificationState::Delivered,
        attempts: 1,
        last_error: None,
        delivered_at: Some(at("2026-01-01T01:00:00Z")),
    };
    assert_eq!(told, [delivered]);
    assert_eq!(world.server.chat.asked(), ["notify:1:completed"]);
    let body = world.server.chat.shown().remove(0);
    let text = body["text"].as_str().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "✅ **beat** completed");
    assert!(
        lines[1].starts_with("cron, 2026-01-01 01:00 UTC · took ") && lines[1].ends_with("check exit code 3"),
        "{text}"
    );
    assert!(lines[3].starts_with("I removed **old** logs. "), "{text}");
    assert_eq!(lines.last(), Some(&"`stakpak schedule show run:1`"));
    assert_eq!((&body["channel"], &body["target"]), (&json!("telegram"), &json!({ "chat_id": "42" })));
    let context = &body["context"];
    assert_eq!((&context["schedule"], &context["status"]), (&json!("beat"), &json!("completed")));
    assert!(context["check_output"].as_str().unwrap().contains("91 % full"), "{context}");
    assert!(context["summary"].as_str().unwrap().contains("old"), "{context}");
    assert!(!body.to_string().contains(SECRET), "{body}");
    running.stop().await;
}

/// A-P41: what fails at first arrives once, at the pace that was promised.
#[tokio::test]
async fn a_notification_that_fails_five_times_arrives_once() {
    let (world, running) = started(&beat("")).await;
    // The client repeats a request twice by itself.
    world.server.chat.first(vec![Fate::Refused(503, "dispatcher_unavailable", None); 15]);
    assert_eq!(fire(&world, "2026-01-01T01:00:00Z").await.status, RunStatus::Completed);
    for (attempts, seconds) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 80)] {
        let told = attempted(&world, attempts).await;
        assert_eq!(told.state, NotificationState::Pending);
        assert_eq!(world.server.chat.asked().len(), attempts as usize * 3, "not before its time");
        assert_eq!(waits(&world), TimeDelta::seconds(seconds));
        world.clock.advance(TimeDelta::seconds(seconds));
    }
    assert_eq!(settled(&world).await[0].state, NotificationState::Delivered);
    assert_eq!(world.server.chat.headings(), ["✅ **beat** completed"]);
    running.stop().await;
}

/// A-P41: killed at every request, before and after its effect: one agent run, and the chat is told once.
#[tokio::test]
async fn a_crash_between_outcome_and_delivery_loses_and_doubles_nothing() {
    for after_effect in [false, true] {
        for at in 0.. {
            let (world, running) = started(&beat("")).await;
            running.stop().await;
            world.clock.set("2026-01-01T01:00:00Z");
            world.server.die(Some(Death { at, after_effect }));
            let running = world.start().await;
            let died = tokio::select! {
                () = world.server.died() => true,
                () = async { drop(headings(&world, 1).await); settled(&world).await; } => false,
            };
            running.kill().await;
            let point = format!("request {at} of {:?}, after its effect: {after_effect}", world.server.requests());
            world.server.die(None);
            let running = world.start().await;
            assert_eq!(world.ended("beat").await.status, RunStatus::Completed, "{point}");
            assert_eq!(settled(&world).await[0].state, NotificationState::Delivered, "{point}");
            assert_eq!(world.server.chat.headings(), ["✅ **beat** completed"], "{point}");
            assert_eq!((world.server.runs(), world.history("beat").await.len()), (1, 1), "{point}");
            running.stop().await;
            if !died {
                assert!(at >= 5, "the last request is that to the gateway: {point}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_the_gateway_has_queued_is_asked_for_until_it_is_told() {
    for (state, expected, error) in [
        ("sent", NotificationState::Delivered, None),
        ("failed", NotificationState::Failed, Some("bot was blocked")),
        ("unknown", NotificationState::Failed, Some("bot was blocked")),
    ] {
        let (world, running) = started(&beat("")).await;
        let chat = &world.server.chat;
        chat.will(Fate::Queued);
        chat.deliveries_are(json!({ "delivery_id": "d-1", "state": "sending" }));
        fire(&world, "2026-01-01T01:00:00Z").await;
        attempted(&world, 1).await;
        world.clock.advance(TimeDelta::seconds(5));
        eventually("it is asked for", async || chat.looked_at() == 1).await;
        chat.deliveries_are(json!({ "delivery_id": "d-1", "state": state, "error": error }));
        eventually("it is asked for again", async || {
            world.clock.advance(TimeDelta::seconds(5));
            chat.looked_at() > 1
        })
        .await;
        let told = settled(&world).await.remove(0);
        assert_eq!((told.state, told.attempts), (expected, 1), "{state}");
        assert_eq!(told.last_error.as_deref(), error, "{state}");
        assert_eq!(chat.asked().len(), 1, "never sent a second time");
        running.stop().await;
    }
}

/// A delivery that the gateway no longer knows is sent again, under the same key.
#[tokio::test]
async fn a_lost_delivery_is_sent_again() {
    let (world, running) = started(&beat("")).await;
    world.server.chat.will(Fate::Queued);
    fire(&world, "2026-01-01T01:00:00Z").await;
    attempted(&world, 1).await;
    world.clock.advance(TimeDelta::seconds(5));
    eventually("it is asked for", async || world.server.chat.looked_at() == 1).await;
    eventually("it is sent again", async || {
        world.clock.advance(TimeDelta::seconds(5));
        world.server.chat.asked().len() == 2
    })
    .await;
    assert_eq!(world.server.chat.asked(), ["notify:1:completed"; 2]);
    running.stop().await;
}

#[tokio::test]
async fn a_gateway_that_asks_to_wait_is_waited_for() {
    let (world, running) = started(&beat("")).await;
    world.server.chat.first([Fate::Refused(429, "rate_limited", Some("60"))]);
    fire(&world, "2026-01-01T01:00:00Z").await;
    attempted(&world, 1).await;
    assert_eq!(waits(&world), TimeDelta::seconds(60));
    world.clock.advance(TimeDelta::seconds(60));
    assert_eq!(settled(&world).await[0].state, NotificationState::Delivered);
    running.stop().await;
}

/// Without a gateway rows wait; they are given up when nobody would want to know any more.
#[tokio::test]
async fn what_cannot_be_delivered_in_time_expires() {
    for away in [Fate::Away, Fate::Refused(503, "dispatcher_unavailable", Some("300"))] {
        let toml = beat("").replace("[notifications]", "[notifications]\nmax_age = '1h'");
        let (world, running) = started(&toml).await;
        world.server.chat.will(away);
        fire(&world, "2026-01-01T01:00:00Z").await;
        let told = attempted(&world, 1).await;
        assert_eq!(told.state, NotificationState::Pending);
        let counts = running.handle.outbox().await.unwrap();
        assert_eq!(counts, OutboxCounts { pending: 1, failed: 0 });
        world.clock.set("2026-01-01T01:59:59Z");
        assert!(attempted(&world, 2).await.last_error.is_some());
        world.clock.set("2026-01-01T02:00:00Z");
        eventually("it is given up", async || {
            let run = world.ledger.run(stakpak_scheduler::RunNumber(1)).await.unwrap().unwrap();
            run.notifications[0].state == NotificationState::Expired && run.notifications[0].last_error.is_some()
        })
        .await;
        assert_eq!(world.server.chat.shown(), Vec::<Value>::new());
        eventually("it is counted", async || running.handle.deliveries().get("expired") == Some(&1)).await;
        running.stop().await;
    }
}

/// What is refused for good is not sent again; history says why, without secrets, and the run is none the worse.
#[tokio::test]
async fn a_refused_notification_is_given_up_at_once() {
    for (status, code) in [
        (400, "invalid_target"),
        (401, "unauthorized"),
        (403, "host_not_allowed"),
        (404, "channel_not_found"),
        (502, "delivery_failed"),
    ] {
        let (world, running) = started(&beat("")).await;
        world.server.chat.will(Fate::Refused(status, code, None));
        let run = fire(&world, "2026-01-01T01:00:00Z").await;
        assert_eq!(run.status, RunStatus::Completed);
        let told = settled(&world).await.remove(0);
        assert_eq!((told.state, told.attempts), (NotificationState::Failed, 1), "{code}");
        let reason = told.last_error.unwrap();
        assert!(reason.contains(&format!("({code})")) && !reason.contains(SECRET), "{reason}");
        assert_eq!(world.server.chat.asked().len(), 1, "{code}");
        assert_eq!(running.handle.outbox().await.unwrap(), OutboxCounts { pending: 0, failed: 1 });
        running.stop().await;
    }
}

/// A gateway that never answers is in nobody's way.
#[tokio::test]
async fn delivery_delays_no_run() {
    let (world, running) = started(&beat("")).await;
    world.server.chat.will(Fate::Silent);
    for hour in 1..4 {
        let run = fire(&world, &format!("2026-01-01T0{hour}:00:00Z")).await;
        assert_eq!(run.status, RunStatus::Completed);
    }
    assert_eq!(world.server.chat.asked(), ["notify:1:completed"], "one at a time");
    running.stop().await;
}

/// What happens to a schedule, by name: told or not as `notify_on` says.
#[tokio::test]
async fn every_outcome_has_its_name_and_its_listeners() {
    let (_directory, check) =
        script("case $(cat \"$(dirname \"$0\")/says\") in wait) sleep 60;; no) exit 0;; esac; exit 1");
    let says = |what: &str| fs::write(_directory.path().join("says"), what).unwrap();
    for (notify_on, expected) in [
        (
            "'all'",
            vec!["❌ **beat** failed", "✅ **beat** completed again", "❌ **beat** failed", "⏭️ **beat** missed"],
        ),
        ("'failures'", vec!["❌ **beat** failed", "❌ **beat** failed", "⏭️ **beat** missed"]),
        ("'completions'", vec!["✅ **beat** completed"]),
        ("['completed', 'started']", vec!["▶️ **beat** started", "▶️ **beat** started", "✅ **beat** completed"]),
        ("['skipped']", vec!["⏭️ **beat** skipped"]),
    ] {
        let lines = format!("{check}\ncheck_timeout = '1s'\ncatchup = 'none'\nnotify_on = {notify_on}");
        let (world, running) = started(&beat(&lines)).await;
        says("yes");
        world.server.play(Play::Fail("no more disk"));
        fire(&world, "2026-01-01T01:00:00Z").await;
        world.server.play(Play::Answer("done"));
        fire(&world, "2026-01-01T02:00:00Z").await;
        says("wait");
        assert_eq!(support::told(&fire(&world, "2026-01-01T03:00:00Z").await), "failed(check_timeout)");
        says("no");
        assert_eq!(support::told(&fire(&world, "2026-01-01T04:00:00Z").await), "skipped(check)");
        world.clock.set("2026-01-01T07:30:00Z");
        world
            .tells(
                "beat",
                &[
                    "failed(agent_error)",
                    "completed",
                    "failed(check_timeout)",
                    "skipped(check)",
                    "missed(window)",
                    "missed(window)",
                    "missed(policy)",
                ],
            )
            .await;
        assert_eq!(headings(&world, expected.len()).await, expected, "{notify_on}");
        running.stop().await;
    }
    let none = beat("notify_on = 'none'");
    let (world, running) = started(&none).await;
    fire(&world, "2026-01-01T01:00:00Z").await;
    assert_eq!(world.history("beat").await[0].notifications, []);
    running.stop().await;
}

/// A-P7: missed instants are announced once a gap, with their number.
#[tokio::test]
async fn a_gap_is_told_once() {
    let (world, running) = started(&beat("catchup = 'none'")).await;
    running.stop().await;
    world.clock.set("2026-01-01T06:30:00Z");
    let running = world.start().await;
    headings(&world, 1).await;
    let text = world.server.chat.shown()[0]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("6 runs did not take place, from 2026-01-01 01:00 UTC to 2026-01-01 06:00 UTC."), "{text}");
    assert!(text.ends_with("`stakpak schedule history beat`"), "{text}");
    fire(&world, "2026-01-01T07:00:00Z").await;
    assert_eq!(headings(&world, 2).await, ["⏭️ **beat** missed", "✅ **beat** completed"]);
    running.stop().await;
}

/// A-P44: who is responsible hears that a schedule gave up, and how it goes on, where `[notifications]` says.
#[tokio::test]
async fn a_schedule_that_pauses_itself_says_so() {
    let (world, running) =
        started(&beat("pause_after_failures = 2\nnotify_channel = 'slack'\nnotify_target = '#own'")).await;
    world.server.play(Play::Fail("boom"));
    fire(&world, "2026-01-01T01:00:00Z").await;
    fire(&world, "2026-01-01T02:00:00Z").await;
    headings(&world, 3).await;
    let mut shown = world.server.chat.shown();
    shown.sort_by_key(|body| body["channel"].as_str().map(str::to_owned));
    let target = |body: &Value| body["target"].clone();
    assert_eq!(
        shown.iter().map(target).collect::<Vec<_>>(),
        [json!({ "channel": "#own" }), json!({ "channel": "#own" }), json!({ "chat_id": "42" })]
    );
    let text = shown[2]["text"].as_str().unwrap();
    assert!(text.starts_with("⏸️ **beat** is paused") && text.contains("2 runs in a row failed"), "{text}");
    assert!(text.contains("boom") && text.ends_with("`stakpak schedule resume beat`"), "{text}");
    running.stop().await;
}

#[tokio::test]
async fn a_pause_is_told_each_time_and_a_cancel_by_a_person_is_not() {
    let (world, running) = started(&beat("pause_on_approval = true")).await;
    world.server.play(Play::Ask);
    world.clock.set("2026-01-01T01:00:00Z");
    headings(&world, 1).await;
    let text = world.server.chat.shown()[0]["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("⏸️ **beat** paused") && text.contains("decide about `"), "{text}");
    assert!(text.ends_with("`stakpak schedule resume run:1 --approve-all`"), "{text}");
    assert_eq!(world.server.chat.asked(), ["notify:1:paused"]);
    // A restart does not tell it again.
    running.stop().await;
    let running = world.start().await;
    let session = world.server.session_of_run().to_string();
    let client = stakpak_client::StakpakClient::new(&world.server.url, "");
    let run = world.history("beat").await.remove(0).run_id.unwrap().to_string();
    client.cancel_run(&session, &run).await.unwrap();
    assert_eq!(support::told(&world.ended("beat").await), "cancelled(user)");
    assert_eq!(world.server.chat.headings(), ["⏸️ **beat** paused"]);
    running.stop().await;
}

#[tokio::test]
async fn a_mode_of_changes_tells_changes() {
    let toml = beat("notify_on = 'all'").replace("[notifications]", "[notifications]\nmode = 'change'");
    let (world, running) = started(&toml).await;
    for (hour, play) in (1..7).zip([
        Play::Answer("a"),
        Play::Answer("b"),
        Play::Fail("c"),
        Play::Fail("d"),
        Play::Answer("e"),
        Play::Answer("f"),
    ]) {
        world.server.play(play);
        fire(&world, &format!("2026-01-01T0{hour}:00:00Z")).await;
    }
    assert_eq!(
        headings(&world, 3).await,
        ["✅ **beat** completed", "❌ **beat** failed", "✅ **beat** completed again"]
    );
    running.stop().await;
}

/// A run keeps the version it was started with; what was never started is told as the file says.
#[tokio::test]
async fn skipped_and_superseded_runs_are_told() {
    let (world, running) =
        started(&beat("timeout = '3h'\noverlap = 'cancel_running'\nnotify_on = ['cancelled', 'skipped']")).await;
    world.server.play(Play::Hang);
    world.clock.set("2026-01-01T01:00:00Z");
    eventually("it runs", async || world.history("beat").await.first().is_some_and(|run| run.run_id.is_some())).await;
    world.clock.set("2026-01-01T02:00:00Z");
    assert_eq!(headings(&world, 1).await, ["🚫 **beat** cancelled"]);
    let hold = Hold { since: at("2026-01-01T02:30:00Z"), until: None, by: HeldBy::User, note: None };
    running.handle.hold("beat", hold, None).await.unwrap();
    world.clock.set("2026-01-01T03:00:00Z");
    assert_eq!(headings(&world, 2).await[1], "⏭️ **beat** skipped");
    running.stop().await;
}

/// Once a change, where `[notifications]` says, and without secrets.
#[tokio::test]
async fn a_file_that_cannot_be_used_is_told_once() {
    let (world, running) = started(&beat("")).await;
    let problem = format!("autopilot.toml:3:1: error[E001] {SECRET} is no key");
    running.handle.config_invalid(&problem).await.unwrap();
    running.handle.config_invalid(&problem).await.unwrap();
    headings(&world, 1).await;
    running.handle.reload(world.schedules());
    world.clock.advance(TimeDelta::seconds(1));
    running.handle.config_invalid(&problem).await.unwrap();
    assert_eq!(headings(&world, 2).await, ["⚠️ **autopilot.toml cannot be used**"; 2]);
    let text = world.server.chat.shown()[0]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("E001") && !text.contains(SECRET), "{text}");
    running.stop().await;
}
