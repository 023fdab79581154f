//! What fires, what does not, and what the ledger says about it, against an agent server on a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use stakpak_client::StakpakClient;
use stakpak_protocol::{StopReason, ToolDecisionAction};
use stakpak_scheduler::{Clock, RunStatus, ScheduleState, Source, TriggerError, TriggerOptions};
use support::{
    World, at, eventually, read,
    server::{Death, Play},
};

const BEAT: &str = "[[schedules]]\nname = 'beat'\ncron = '* * * * *'\nprompt = 'status'\n";
const HOURLY: &str =
    "[[schedules]]\nname = 'beat'\ncron = '0 * * * *'\nprompt = 'status'\ntimezone = 'Europe/Berlin'\n";

#[tokio::test]
async fn a_fire_is_a_row_with_session_answer_and_usage() {
    let world = World::new("2026-01-01T00:30:30Z", HOURLY).await;
    world.server.play(Play::Answer("all is well"));
    let running = world.start().await;
    world.clock.set("2026-01-01T01:00:00Z");
    let run = world.ended("beat").await;
    assert_eq!((run.status, run.reason, run.source), (RunStatus::Completed, None, Source::Cron));
    assert_eq!(run.nominal_at, Some(at("2026-01-01T01:00:00Z")));
    assert_eq!(run.fire_key, "sched:beat:1767229200");
    assert_eq!(run.session_id, Some(world.server.session_of_run()));
    assert!(run.run_id.is_some());
    assert_eq!(run.agent_message.as_deref(), Some("all is well"));
    assert_eq!((run.stop_reason, run.turns), (Some(StopReason::Completed), Some(1)));
    assert_eq!(run.usage.map(|usage| usage.total_tokens), Some(17));
    assert_eq!(run.duration_ms, Some(0));

    assert_eq!(world.server.titles(), ["autopilot: beat"]);
    let posted = &world.server.posted()[0];
    assert_eq!(posted["message"]["content"], "status");
    assert_eq!(posted["overrides"]["profile"], "default");
    assert_eq!(posted["context"].as_array().unwrap().len(), 1);
    assert_eq!(posted["context"][0]["name"], "watch_schedule_context");
    assert_eq!(posted["context"][0]["priority"], "high");
    let context = posted["context"][0]["content"].as_str().unwrap();
    assert!(context.contains("nominal instant: 2026-01-01T02:00:00+01:00 (Europe/Berlin)"), "{context}");
    running.stop().await;
}

#[tokio::test]
async fn a_bad_schedule_does_not_keep_a_good_one_from_firing() {
    let toml = format!("[[schedules]]\nname = 'bad'\ncron = '0 25 * * *'\nprompt = 'p'\n{BEAT}");
    let world = World::new("2026-01-01T00:00:30Z", &toml).await;
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    assert_eq!(world.ended("beat").await.status, RunStatus::Completed);
    let list = running.handle.list().await.unwrap();
    assert_eq!(list[0].state, ScheduleState::Invalid);
    assert_eq!((list[0].errors[0].code, list[0].errors[0].line), ("E102", 3));
    assert_eq!(list[1].next_run_at, Some(at("2026-01-01T00:02:00Z")));
    assert!(matches!(
        running.handle.trigger("bad", TriggerOptions::default()).await,
        Err(TriggerError::Invalid { .. })
    ));
    assert!(matches!(
        running.handle.trigger("none", TriggerOptions::default()).await,
        Err(TriggerError::Unknown { .. })
    ));
    running.stop().await;
}

#[tokio::test]
async fn an_overlap_is_recorded_with_the_run_in_the_way() {
    let world = World::new("2026-01-01T00:00:30Z", BEAT).await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    eventually("the first runs", async || world.server.runs() == 1).await;
    world.clock.set("2026-01-01T00:02:00Z");
    eventually("the second is skipped", async || world.told("beat").await == ["running", "skipped(overlap)"]).await;
    let rows = world.history("beat").await;
    assert_eq!(rows[0].blocking_run, Some(rows[1].id));
    let refused = running.handle.trigger("beat", TriggerOptions::default()).await.unwrap();
    assert_eq!((refused.status, refused.blocking_run), (RunStatus::Skipped, Some(rows[1].id)));

    world.server.complete_all("late");
    eventually("the first ends", async || world.told("beat").await[0] == "completed").await;
    world.server.play(Play::Answer("again"));
    world.clock.set("2026-01-01T00:03:00Z");
    eventually("the next fires", async || {
        world.told("beat").await == ["completed", "skipped(overlap)", "skipped(overlap)", "completed"]
    })
    .await;
    assert_eq!(world.server.runs(), 2);
    running.stop().await;
}

#[tokio::test]
async fn only_so_many_run_at_once_and_the_rest_waits_in_order() {
    let entry = |name: &str| format!("[[schedules]]\nname = '{name}'\ncron = '* * * * *'\nprompt = 'p'\n");
    let toml = format!("[watch]\nmax_concurrent_runs = 2\n{}{}{}", entry("a"), entry("b"), entry("c"));
    let world = World::new("2026-01-01T00:00:30Z", &toml).await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    eventually("two run", async || world.server.runs() == 2).await;
    assert_eq!(world.told("c").await, ["pending"]);
    let status = running.handle.status().await.unwrap();
    assert_eq!((status.active_runs, status.queued_runs), (2, 1));
    world.server.play(Play::Answer("done"));
    world.server.complete_all("done");
    assert_eq!(world.ended("c").await.status, RunStatus::Completed);
    assert_eq!(world.server.runs(), 3);
    running.stop().await;
}

#[tokio::test]
async fn after_a_pause_the_newest_instant_fires_and_the_others_are_missed() {
    let world = World::new("2026-01-01T00:30:00Z", HOURLY).await;
    world.start().await.stop().await;
    world.clock.set("2026-01-01T03:20:00Z");
    let running = world.start().await;
    eventually("it catches up", async || world.told("beat").await == ["missed(window)", "missed(window)", "completed"])
        .await;
    assert_eq!(world.history("beat").await[0].nominal_at, Some(at("2026-01-01T03:00:00Z")));
    assert_eq!(world.server.runs(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_clock_set_back_fires_nothing_twice() {
    let world = World::new("2026-01-01T09:59:30Z", HOURLY).await;
    let running = world.start().await;
    world.clock.set("2026-01-01T10:00:00Z");
    world.ended("beat").await;
    for time in ["2026-01-01T08:30:00Z", "2026-01-01T09:00:00Z", "2026-01-01T10:00:00Z", "2026-01-01T10:30:00Z"] {
        world.clock.set(time);
        // The loop has been round when a trigger of another kind has been served.
        running.handle.reload(world.schedules());
        world.tracked().await;
    }
    running.stop().await;
    world.clock.set("2026-01-01T08:59:59Z");
    let running = world.start().await;
    assert_eq!(running.handle.list().await.unwrap()[0].next_run_at, Some(at("2026-01-01T11:00:00Z")));
    world.clock.set("2026-01-01T11:00:00Z");
    eventually("the next fires", async || world.told("beat").await == ["completed", "completed"]).await;
    let nominal: Vec<_> = world.history("beat").await.into_iter().map(|run| run.nominal_at.unwrap()).collect();
    assert_eq!(nominal, [at("2026-01-01T11:00:00Z"), at("2026-01-01T10:00:00Z")]);
    assert_eq!(world.server.runs(), 2);
    running.stop().await;
}

#[tokio::test]
async fn the_end_of_a_stream_is_no_outcome() {
    let world = World::new("2026-01-01T00:00:30Z", BEAT).await;
    world.server.play(Play::CutStreams);
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    let streams = || world.server.requests().iter().filter(|request| request.ends_with("/events")).count();
    eventually("streams were cut again and again", async || streams() >= 4).await;
    assert_eq!(world.told("beat").await, ["running"]);
    world.server.play(Play::Hang);
    world.server.complete_all("after all");
    assert_eq!(world.ended("beat").await.agent_message.as_deref(), Some("after all"));
    running.stop().await;
}

#[tokio::test]
async fn outcomes_are_those_that_the_server_recorded() {
    let refused = [
        (Play::Fail("no credit"), "failed(agent_error)", "no credit"),
        (Play::MaxTurns, "failed(max_turns)", "stopped after 1 turns, the most allowed"),
        (Play::Repeat, "failed(max_turns)", "no_progress.stop"),
        (Play::Refuse(400, "invalid_overrides"), "failed(profile_invalid)", "refused: invalid_overrides"),
        (Play::Refuse(400, "invalid_model"), "failed(model_unavailable)", "refused: invalid_model"),
        (Play::Refuse(403, "forbidden"), "failed(server_rejected)", "refused: forbidden"),
    ];
    for (play, expected, error) in refused {
        let world = World::new("2026-01-01T00:00:30Z", BEAT).await;
        world.server.play(play);
        let running = world.start().await;
        world.clock.set("2026-01-01T00:01:00Z");
        let run = world.ended("beat").await;
        assert_eq!(support::told(&run), expected);
        assert!(run.error.as_deref().unwrap().contains(error), "{run:?}");
        assert!(run.session_id.is_some());
        running.stop().await;
    }
}

#[tokio::test]
async fn a_run_over_its_time_is_cancelled_and_confirmed() {
    let world = World::new("2026-01-01T00:00:30Z", &format!("{BEAT}timeout = '90s'\n")).await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    eventually("it runs", async || world.history("beat").await.first().is_some_and(|run| run.run_id.is_some())).await;
    world.clock.set("2026-01-01T00:02:29Z");
    eventually("it still runs", async || world.told("beat").await == ["running", "skipped(overlap)"]).await;
    world.clock.set("2026-01-01T00:02:30Z");
    eventually("it ends", async || world.told("beat").await[0] == "timed_out").await;
    let run = world.history("beat").await.pop().unwrap();
    assert_eq!(run.stop_reason, Some(StopReason::Cancelled));
    assert_eq!(run.agent_message.as_deref(), Some("stopped"));
    running.stop().await;
}

/// A-P10: a message whose answer is lost may have started a run. It is found under the same key and cancelled.
#[tokio::test]
async fn a_run_whose_message_had_no_answer_in_time_is_cancelled_too() {
    let world = World::new("2026-01-01T00:00:30Z", &format!("{BEAT}timeout = '90s'\n")).await;
    world.server.play(Play::Hang);
    world.server.die(Some(Death { at: 1, after_effect: true }));
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    world.server.died().await;
    assert!(world.server.requests()[1].ends_with("/messages"), "{:?}", world.server.requests());
    world.clock.set("2026-01-01T00:02:30Z");
    eventually("it ends", async || world.told("beat").await[0] == "timed_out").await;
    assert_eq!(world.server.runs(), 1);
    running.stop().await;
}

/// A-P10: a process that dies after the cancel leaves a run whose time was over, not one that a person cancelled; also if the
/// clock is set back meanwhile.
#[tokio::test]
async fn a_run_over_its_time_is_told_as_such_after_a_crash() {
    let world = World::new("2026-01-01T00:00:30Z", &format!("{BEAT}timeout = '90s'\n")).await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    eventually("it is followed", async || world.server.requests().len() == 4).await;
    world.server.die(Some(Death { at: 1, after_effect: true }));
    world.clock.set("2026-01-01T00:02:30Z");
    world.server.died().await;
    assert!(world.server.requests()[1].ends_with("/cancel"), "{:?}", world.server.requests());
    running.kill().await;
    world.server.die(None);
    world.clock.set("2026-01-01T00:01:30Z");
    let running = world.start().await;
    eventually("it ends", async || world.told("beat").await[0] == "timed_out").await;
    running.stop().await;
}

/// A-P10: what somebody cancelled at the server while nobody was here is no timeout, however late that is learnt.
#[tokio::test]
async fn a_run_that_was_cancelled_in_its_time_is_told_as_such_after_it() {
    let world = World::new("2026-01-01T00:00:30Z", &format!("{BEAT}timeout = '90s'\n")).await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    eventually("it is followed", async || world.server.requests().len() == 4).await;
    running.kill().await;
    let run = world.history("beat").await.remove(0);
    let client = StakpakClient::new(&world.server.url, "");
    client.cancel_run(&run.session_id.unwrap().to_string(), &run.run_id.unwrap().to_string()).await.unwrap();
    world.clock.set("2026-01-01T00:02:45Z");
    let running = world.start().await;
    eventually("it ends", async || world.told("beat").await[0] == "cancelled(user)").await;
    running.stop().await;
}

#[tokio::test]
async fn a_call_that_asks_is_rejected_with_a_reason_for_the_model() {
    let world = World::new("2026-01-01T00:00:30Z", BEAT).await;
    world.server.play(Play::Ask);
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    let run = world.ended("beat").await;
    assert_eq!((run.status, run.agent_message.as_deref()), (RunStatus::Completed, Some("done")));
    let decision = &world.server.decisions()[0].decisions.values().next().unwrap().clone();
    assert_eq!(decision.action, ToolDecisionAction::Reject);
    let reason = decision.content.as_deref().unwrap();
    for part in ["`remove`", "removes files", "`auto_approve` of profile `default`", "pause_on_approval"] {
        assert!(reason.contains(part), "{reason}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_run_that_waits_for_a_person_is_paused_and_its_time_stands_still() {
    let toml = format!(
        "[watch]\nmax_concurrent_runs = 1\n{BEAT}pause_on_approval = true\ntimeout = '90s'\n\
                        [[schedules]]\nname = 'other'\ncron = '@yearly'\nprompt = 'p'\n"
    );
    let world = World::new("2026-01-01T00:00:30Z", &toml).await;
    world.server.play(Play::Ask);
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    eventually("it pauses", async || world.told("beat").await == ["paused"]).await;
    assert_eq!(world.history("beat").await[0].pause_reason.as_ref().unwrap()[0]["id"], "call_1");
    assert_eq!(world.server.decisions(), []);
    // It holds no slot, and outlives both its time limit and the process.
    world.server.play(Play::Answer("done"));
    running.handle.trigger("other", TriggerOptions::default()).await.unwrap();
    assert_eq!(world.ended("other").await.status, RunStatus::Completed);
    running.kill().await;
    world.clock.set("2026-01-01T00:01:59Z");
    let running = world.start().await;
    world.clock.set("2026-01-01T06:00:00Z");
    eventually("later fires see it", async || world.told("beat").await.last().unwrap() == "skipped(overlap)").await;
    assert_eq!(world.told("beat").await[0], "paused");
    world.server.complete_all("a person said yes");
    eventually("it ends", async || world.told("beat").await[0] == "completed").await;
    running.stop().await;
}

#[tokio::test]
async fn a_trigger_while_nothing_runs_is_started_by_the_next_scheduler() {
    let world = World::new("2026-01-01T00:00:30Z", &format!("{HOURLY}enabled = false\n")).await;
    let set = world.schedules();
    let row =
        stakpak_scheduler::trigger(&set, &world.ledger, "beat", TriggerOptions::default(), at("2026-01-01T00:00:30Z"))
            .await
            .unwrap();
    assert_eq!((row.status, row.source, row.nominal_at), (RunStatus::Pending, Source::Manual, None));
    assert_eq!(world.server.runs(), 0);
    let running = world.start().await;
    let run = world.ended("beat").await;
    assert_eq!((run.id, run.status), (row.id, RunStatus::Completed));
    let now = running.handle.trigger("beat", TriggerOptions::default()).await.unwrap();
    eventually("it ends too", async || {
        running.handle.run(now.id).await.unwrap().unwrap().status == RunStatus::Completed
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_reload_holds_for_the_next_fire() {
    let mut world = World::new("2026-01-01T00:00:30Z", BEAT).await;
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    world.ended("beat").await;
    world.toml = "[[schedules]]\nname = 'beat'\ncron = '* * * * *'\nprompt = 'changed'\n\
                  [[schedules]]\nname = 'new'\ncron = '* * * * *'\nprompt = 'new'\n"
        .to_owned();
    running.handle.reload(read(&world.toml, at("2026-01-01T00:01:00Z")));
    world.tracked().await;
    world.clock.set("2026-01-01T00:02:00Z");
    world.ended("new").await;
    eventually("both", async || world.told("beat").await == ["completed", "completed"]).await;
    let mut prompts: Vec<_> =
        world.server.posted().iter().map(|body| body["message"]["content"].as_str().unwrap().to_owned()).collect();
    prompts.sort_unstable();
    assert_eq!(prompts, ["changed", "new", "status"]);

    // Removed and added again: nothing of the time between fires, and nothing fires twice.
    running.handle.reload(read("", at("2026-01-01T00:02:00Z")));
    world.untracked("beat").await;
    world.clock.set("2026-01-01T00:03:30Z");
    running.handle.reload(world.schedules());
    world.tracked().await;
    world.clock.set("2026-01-01T00:04:00Z");
    eventually("it fires again", async || world.told("beat").await.len() == 3).await;
    let nominal = world.history("beat").await[0].nominal_at;
    assert_eq!(nominal, Some(at("2026-01-01T00:04:00Z")));
    running.stop().await;
}

/// Who watches over the process learns that the loop lives, how late it is, that it is gone, and what ended.
#[tokio::test]
async fn the_pulse_lasts_as_long_as_the_loop_and_ends_are_counted() {
    let world = World::new("2026-01-01T00:00:30Z", BEAT).await;
    let scheduler = world.scheduler();
    assert!(scheduler.handle().pulse().is_none() && scheduler.handle().loops() == 0);
    let running = world.start().await;
    let handle = running.handle.clone();
    eventually("a sign of life", async || handle.pulse().is_some_and(|pulse| pulse.is_alive())).await;
    assert_eq!(handle.status().await.unwrap().heartbeat_at, Some(world.clock.now()));

    let completed = ("beat".to_owned(), "completed");
    for (ends, now) in [(1, "2026-01-01T00:01:00Z"), (2, "2026-01-01T00:02:04Z")] {
        world.clock.set(now);
        eventually("the end is counted", async || handle.ended_runs().get(&completed) == Some(&ends)).await;
    }
    let pulse = handle.pulse().unwrap();
    assert_eq!((pulse.last_lateness.as_secs(), pulse.lag.as_secs()), (4, 0));

    world.clock.set("2026-01-01T01:00:00Z");
    let missed = ("beat".to_owned(), "missed");
    eventually("what was missed is counted", async || handle.ended_runs().get(&missed) == Some(&57)).await;
    running.kill().await;
    assert!(handle.pulse().is_none() && handle.loops() == 1);
}

#[tokio::test]
async fn an_interval_fires_at_its_multiples() {
    let toml = "[[schedules]]\nname = 'beat'\nevery = '90m'\nprompt = 'status'\n";
    let world = World::new("2026-01-01T00:30:30Z", toml).await;
    let running = world.start().await;
    assert_eq!(running.handle.list().await.unwrap()[0].next_run_at, Some(at("2026-01-01T01:30:00Z")));
    world.clock.set("2026-01-01T01:30:00Z");
    let run = world.ended("beat").await;
    assert_eq!((run.status, run.nominal_at), (RunStatus::Completed, Some(at("2026-01-01T01:30:00Z"))));
    let context = world.server.posted()[0]["context"][0]["content"].as_str().unwrap().to_owned();
    assert!(context.contains("when: every 1h 30m"), "{context}");
    running.stop().await;
}

#[tokio::test]
async fn one_instant_fires_once_and_is_done() {
    let toml = "[[schedules]]\nname = 'once'\nat = '2026-01-01T02:00'\ntimezone = 'Europe/Berlin'\nprompt = 'p'\n";
    let world = World::new("2026-01-01T00:30:00Z", toml).await;
    let state = async |handle: &stakpak_scheduler::Handle| handle.list().await.unwrap()[0].state;
    let running = world.start().await;
    assert_eq!(state(&running.handle).await, ScheduleState::Active);
    world.clock.set("2026-01-01T01:00:00Z");
    assert_eq!(world.ended("once").await.nominal_at, Some(at("2026-01-01T01:00:00Z")));
    assert_eq!(state(&running.handle).await, ScheduleState::Done);
    running.stop().await;
    // Read again long after: it did its work.
    world.clock.set("2026-02-01T00:00:00Z");
    let running = world.start().await;
    assert_eq!(state(&running.handle).await, ScheduleState::Done);
    assert_eq!(world.told("once").await, ["completed"]);
    running.stop().await;
}

#[tokio::test]
async fn one_instant_that_had_passed_when_it_was_first_seen_never_fires() {
    let toml = format!("[[schedules]]\nname = 'once'\nat = '2026-01-01T00:00:00Z'\nprompt = 'p'\n{BEAT}");
    let world = World::new("2026-01-01T00:00:05Z", &toml).await;
    let scheduler = world.scheduler();
    let handle = scheduler.handle();
    let work = tokio::spawn(async move { scheduler.run(tokio_util::sync::CancellationToken::new()).await });
    eventually("the loop lives", async || handle.pulse().is_some()).await;
    world.clock.set("2026-01-01T00:01:00Z");
    world.ended("beat").await;
    let once = &handle.list().await.unwrap()[0];
    assert_eq!((once.state, once.errors[0].code, once.errors[0].line), (ScheduleState::Invalid, "E103", 3));
    assert_eq!(world.history("once").await, []);
    work.abort();
}

#[tokio::test]
async fn a_prompt_file_is_read_at_each_fire() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("prompt.md");
    let toml = format!("[[schedules]]\nname = 'beat'\ncron = '* * * * *'\nprompt_file = '{}'\n", file.display());
    let world = World::new("2026-01-01T00:00:30Z", &toml).await;
    let running = world.start().await;
    for (now, text, outcome) in [
        ("2026-01-01T00:01:00Z", Some(" first\n"), "completed"),
        ("2026-01-01T00:02:00Z", Some("second"), "completed"),
        ("2026-01-01T00:03:00Z", Some("  "), "failed(agent_error)"),
        ("2026-01-01T00:04:00Z", None, "failed(agent_error)"),
    ] {
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        world.clock.set(now);
        let nominal = at(now);
        eventually("it ends", async || {
            let rows = world.history("beat").await;
            rows.iter().any(|row| row.nominal_at == Some(nominal) && support::told(row) == outcome)
        })
        .await;
    }
    let sent: Vec<_> = world.server.posted().iter().map(|body| body["message"]["content"].clone()).collect();
    assert_eq!(sent, [" first\n", "second"]);
    assert!(world.history("beat").await[0].error.as_ref().unwrap().contains("prompt.md cannot be read: No such file"));
    running.stop().await;
}

/// A-P22: without isolation the run fails; it is never started unprotected.
#[tokio::test]
async fn a_sandbox_is_asked_for_and_its_absence_is_a_failure() {
    let world = World::new("2026-01-01T00:00:30Z", &format!("{BEAT}sandbox = true\n")).await;
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    assert_eq!(world.ended("beat").await.status, RunStatus::Completed);
    assert_eq!(world.server.posted()[0]["sandbox"], true);
    world.server.play(Play::Refuse(503, "sandbox_unavailable"));
    world.clock.set("2026-01-01T00:02:00Z");
    eventually("it fails", async || world.told("beat").await[1..] == ["failed(sandbox_unavailable)"]).await;
    assert_eq!(world.server.runs(), 1);
    running.stop().await;
}
