//! Runs that the chat gateway starts: at most one, whatever it answers and when, with the schedule's own settings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use serde_json::{Value, json};
use stakpak_protocol::ToolDecisionAction;
use stakpak_scheduler::{Decide, RunNumber, RunRecord, RunStatus};
use stakpak_test_support::write_executable;
use support::{Running, World, chat::Fate, eventually, server::Play, told};

/// A schedule named `beat` that runs each hour in a chat.
fn beat(lines: &str) -> String {
    format!(
        "[notifications]\nchannel = 'telegram'\ntarget = '42'\n\
         [[schedules]]\nname = 'beat'\ncron = '0 * * * *'\nprompt = 'look'\n{lines}\n"
    )
}

const KEY: &str = "sched:beat:1767229200";

/// A world in which the gateway is like that, and the only fire of the schedule has come.
async fn fired(toml: &str, fates: impl IntoIterator<Item = Fate>) -> (World, Running) {
    let world = World::new("2026-01-01T00:59:30Z", toml).await;
    world.server.chat.first(fates);
    let running = world.start().await;
    world.clock.set("2026-01-01T01:00:00Z");
    (world, running)
}

/// A-P17: everything that the schedule says reaches the run; the gateway is asked under the key of the fire.
#[tokio::test]
async fn the_gateway_is_asked_for_the_run_of_the_schedule() {
    let directory = tempfile::tempdir().unwrap();
    let check = directory.path().join("check.sh");
    write_executable(&check, "#!/bin/sh\necho 'disk is 91 % full'\nexit 3\n");
    let lines = format!(
        "check = '{}'\nprofile = 'ops'\nmodel = 'a/b'\nmax_turns = 7\nworkdir = '/srv'\nsandbox = true",
        check.display()
    );
    let (world, running) = fired(&beat(&lines), []).await;
    world.server.play(Play::Answer("old logs"));
    let run = world.ended("beat").await;
    assert_eq!((run.status, run.agent_message.as_deref()), (RunStatus::Completed, Some("old logs")));
    assert_eq!(run.session_id, Some(world.server.session_of_run()));
    assert_eq!(world.server.chat.asked(), [KEY], "and no notice of what the chat has seen");
    assert_eq!(run.notifications, []);
    let body = world.server.chat.shown().remove(0);
    assert_eq!((&body["channel"], &body["target"]), (&json!("telegram"), &json!({ "chat_id": "42" })));
    assert_eq!(body["text"], "▶️ **beat** triggered\ncron, 2026-01-01 01:00 UTC · check exit code 3");
    let said = json!({ "check_output": "disk is 91 % full", "schedule": "beat", "status": "triggered" });
    assert_eq!(body["context"], said);
    let mut interactive = body["interactive"].clone();
    let context = interactive["caller_context"].take();
    assert_eq!(
        interactive,
        json!({ "caller_context": null, "cwd": "/srv", "max_turns": 7, "model": "a/b", "profile": "ops",
                "prompt": "look", "sandbox": true, "session": "new", "title": "autopilot: beat" })
    );
    assert_eq!((&context[0]["name"], &context[0]["priority"]), (&json!("watch_schedule_context"), &json!("high")));
    let facts = context[0]["content"].as_str().unwrap();
    assert!(facts.contains("schedule: beat\nrun: 1\nsource: cron\n") && facts.contains("exit code 3"), "{facts}");
    assert!(!facts.contains("91 %"), "what the check said is told once: {facts}");
    running.stop().await;
}

/// A-P18: a gateway that answers late, or took the run and never says so, is asked again under the same key.
#[tokio::test]
async fn no_answer_is_no_refusal() {
    for fate in [Fate::Silent, Fate::Lost, Fate::Queued, Fate::Refused(500, "internal", None)] {
        let (world, running) = fired(&beat(""), [fate.clone()]).await;
        let run = world.ended("beat").await;
        assert_eq!(told(&run), "completed", "{fate:?}: {run:?}");
        let asked = world.server.chat.asked();
        assert!(asked.iter().all(|key| key == KEY), "{fate:?}: {asked:?}");
        assert_eq!((world.server.runs(), world.server.titles().len()), (1, 1), "{fate:?}");
        running.stop().await;
    }
}

/// A-P18: from then on only the gateway may start it, also when it is not there.
#[tokio::test]
async fn after_no_answer_an_absent_gateway_is_waited_for_until_the_timeout() {
    let (world, running) = fired(&beat("timeout = '10m'"), [Fate::Refused(500, "internal", None)]).await;
    world.server.chat.will(Fate::Away);
    eventually("it is asked again", async || world.server.chat.asked().len() > 2).await;
    assert_eq!(world.told("beat").await, ["running"]);
    world.clock.set("2026-01-01T01:10:00Z");
    let run = world.ended("beat").await;
    assert_eq!((told(&run).as_str(), world.server.runs()), ("failed(gateway_unreachable)", 0));
    assert!(world.server.requests().iter().all(|request| request != "POST /v1/sessions"));
    running.stop().await;
}

/// What the gateway refuses takes place without it, with the same settings, and the chat hears how it went.
#[tokio::test]
async fn what_the_gateway_refuses_runs_silently() {
    let refusals = [
        Fate::Away,
        Fate::Refused(400, "invalid_interactive_prompt", None),
        Fate::Refused(403, "interactive_auth_required", None),
        Fate::Refused(404, "channel_not_found", None),
        Fate::Refused(502, "delivery_failed", None),
        Fate::Buried,
    ];
    for fate in refusals {
        let (world, running) = fired(&beat("profile = 'ops'"), [fate.clone()]).await;
        let run = world.ended("beat").await;
        assert_eq!(told(&run), "completed", "{fate:?}: {run:?}");
        assert_eq!(world.server.runs(), 1, "{fate:?}");
        assert_eq!(world.server.posted()[0]["overrides"]["profile"], "ops", "{fate:?}");
        assert_eq!(run.session_id, Some(world.server.session_of_run()), "{fate:?}");
        eventually("the chat is told", async || world.server.chat.headings() == ["✅ **beat** completed"]).await;
        running.stop().await;
    }
}

/// What the server refuses in the chat it refuses in earnest: the row says why.
#[tokio::test]
async fn a_run_that_the_server_refuses_has_its_reason() {
    let world = World::new("2026-01-01T00:59:30Z", &beat("")).await;
    world.server.chat.first([Fate::Buried]);
    world.server.play(Play::Refuse(400, "invalid_overrides"));
    let running = world.start().await;
    world.clock.set("2026-01-01T01:00:00Z");
    assert_eq!(told(&world.ended("beat").await), "failed(profile_invalid)");
    running.stop().await;
}

/// The gateway remembers a key for a day: later it is not asked again, whether it took the run or not.
#[tokio::test]
async fn a_hand_over_of_yesterday_is_not_repeated() {
    let (world, running) = fired(&beat("timeout = '3days'"), [Fate::Silent]).await;
    eventually("it is asked", async || world.server.chat.asked().len() == 1).await;
    running.kill().await;
    world.clock.set("2026-01-02T01:00:00Z");
    let running = world.start().await;
    eventually("it is given up", async || world.told("beat").await[0] == "unknown").await;
    // The fires of today are its own.
    assert_eq!(world.server.chat.asked().iter().filter(|key| *key == KEY).count(), 1);
    running.stop().await;
}

/// A run in a chat asks there. With `pause_on_approval` the row waits too, and whoever is first decides.
#[tokio::test]
async fn a_run_in_a_chat_is_decided_there_or_here() {
    let (world, running) = fired(&beat("pause_on_approval = true"), []).await;
    world.server.play(Play::Ask);
    eventually("it waits", async || world.told("beat").await == ["paused"]).await;
    let decide = Decide { approve_all: true, by: "cli".to_owned(), ..Decide::default() };
    running.handle.decide(RunNumber(1), decide).await.unwrap();
    let run = world.ended("beat").await;
    assert_eq!((run.status, world.server.decisions().len()), (RunStatus::Completed, 1));
    assert_eq!((run.decisions[0].action, run.decisions[0].by.as_str()), (ToolDecisionAction::Accept, "cli"));
    let told: Vec<Value> =
        world.server.chat.shown().into_iter().map(|body| body["context"]["status"].clone()).collect();
    assert_eq!(told, ["triggered", "paused"]);
    running.stop().await;
}

/// Without `pause_on_approval` the people of the chat decide, and the scheduler does not; the time limit goes on.
#[tokio::test]
async fn a_run_in_a_chat_that_does_not_pause_is_left_to_the_chat() {
    let (world, running) = fired(&beat("timeout = '10m'"), []).await;
    world.server.play(Play::Ask);
    let pending = || world.server.requests().iter().filter(|request| request.ends_with("/tools/pending")).count();
    eventually("it asks", async || pending() > 0).await;
    assert_eq!((world.told("beat").await, world.server.decisions().len()), (vec!["running".to_owned()], 0));
    world.clock.set("2026-01-01T01:10:00Z");
    let run = world.ended("beat").await;
    assert_eq!((run.status, world.server.decisions().len()), (RunStatus::TimedOut, 0));
    running.stop().await;
}

/// Each attempt is asked for under a key of its own, and has a session of its own.
#[tokio::test]
async fn another_attempt_is_another_run_in_the_chat() {
    let toml = beat("retries = 1\nretry_on = 'any'\nretry_backoff = '10s'");
    let world = World::new("2026-01-01T00:59:30Z", &toml).await;
    world.server.play(Play::Fail("overloaded"));
    let running = world.start().await;
    world.clock.set("2026-01-01T01:00:00Z");
    let waits = |run: &RunRecord| run.status == RunStatus::Pending && run.attempts.len() == 1;
    eventually("it is to be tried again", async || world.history("beat").await.first().is_some_and(waits)).await;
    world.server.play(Play::Answer("done"));
    world.clock.set("2026-01-01T01:01:00Z");
    let run = world.ended("beat").await;
    assert_eq!(told(&run), "completed");
    assert_eq!(world.server.chat.asked()[..2], [KEY.to_owned(), format!("{KEY}:a2")]);
    assert_eq!((world.server.runs(), world.server.titles().len(), run.attempts.len()), (2, 2, 2));
    running.stop().await;
}
