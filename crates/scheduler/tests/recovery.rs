//! What a start does with each kind of row that the last process left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::HashSet;

use chrono::TimeDelta;
use stakpak_protocol::RunState;
use stakpak_scheduler::{RunRecord, RunStatus};
use support::{
    Running, World, eventually,
    server::{Death, Play},
    told,
};

const BEAT: &str = "[[schedules]]\nname = 'beat'\ncron = '0 * * * *'\nprompt = 'status'\n";

/// A world in which the instant of the schedule has come, with no scheduler yet.
async fn due(more: &str) -> World {
    let world = World::new("2026-01-01T00:59:30Z", &format!("{BEAT}{more}\n")).await;
    world.start().await.stop().await;
    world.clock.set("2026-01-01T01:00:00Z");
    world
}

async fn killed_at(world: &World, death: Death) {
    world.server.die(Some(death));
    let running = world.start().await;
    world.server.died().await;
    running.kill().await;
    world.server.die(None);
}

async fn last(world: &World, name: &str) -> Option<RunRecord> {
    world.history(name).await.into_iter().next()
}

async fn until_it_runs(world: &World, recoveries: u32) {
    eventually("it runs", async || {
        last(world, "beat")
            .await
            .is_some_and(|run| run.run_id.is_some() && (run.status, run.recoveries) == (RunStatus::Running, recoveries))
    })
    .await;
}

async fn killed_while_it_runs(world: &World) {
    world.server.play(Play::Hang);
    let running = world.start().await;
    until_it_runs(world, 0).await;
    running.kill().await;
}

#[tokio::test]
async fn a_pending_row_is_dispatched_as_planned() {
    let second =
        "[[schedules]]\nname = 'second'\ncron = '0 * * * *'\nprompt = 'status'\n[watch]\nmax_concurrent_runs = 1";
    let world = due(second).await;
    killed_while_it_runs(&world).await;
    let pending = last(&world, "second").await.unwrap();
    assert_eq!((pending.status, world.server.runs()), (RunStatus::Pending, 1));
    let running = world.start().await;
    until_it_runs(&world, 1).await;
    assert_eq!(last(&world, "second").await.unwrap().status, RunStatus::Pending, "its turn has not come");
    world.server.play(Play::Answer("done"));
    world.server.complete_all("done");
    let run = world.ended("second").await;
    assert_eq!((run.id, run.status, run.recoveries), (pending.id, RunStatus::Completed, 0));
    running.stop().await;
}

/// The check phase has its test beside the other checks: `after_a_crash_a_check_that_did_not_end_runs_again`.
#[tokio::test]
async fn a_row_without_a_session_gets_one_under_the_same_key() {
    for after_effect in [false, true] {
        let world = due("").await;
        killed_at(&world, Death { at: 0, after_effect }).await;
        assert_eq!(last(&world, "beat").await.unwrap().session_id, None);
        let running = world.start().await;
        let run = world.ended("beat").await;
        assert_eq!((run.status, run.recoveries), (RunStatus::Completed, 1));
        assert_eq!((world.server.titles().len(), world.server.runs()), (1, 1), "after its effect: {after_effect}");
        running.stop().await;
    }
}

/// Also when the server no longer knows the key of the message.
#[tokio::test]
async fn a_row_with_a_session_only_learns_its_run_or_posts_again() {
    for after_effect in [false, true] {
        let world = due("").await;
        killed_at(&world, Death { at: 1, after_effect }).await;
        let found = last(&world, "beat").await.unwrap();
        assert!(found.session_id.is_some() && found.run_id.is_none());
        world.server.forget_keys();
        let running = world.start().await;
        let run = world.ended("beat").await;
        assert_eq!((run.status, run.recoveries), (RunStatus::Completed, 1));
        assert_eq!((world.server.runs(), run.session_id), (1, found.session_id), "after its effect: {after_effect}");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_row_with_both_ids_is_followed() {
    let world = due("").await;
    killed_while_it_runs(&world).await;
    world.server.die(None);
    let running = world.start().await;
    until_it_runs(&world, 1).await;
    world.server.complete_all("done");
    assert_eq!(told(&world.ended("beat").await), "completed");
    assert!(world.server.requests().iter().all(|request| !request.starts_with("POST")), "nothing is sent again");
    running.stop().await;
}

#[tokio::test]
async fn a_run_that_is_not_to_survive_a_crash_is_cancelled_and_has_failed() {
    let world = due("on_crash = 'fail'\nretries = 2\nretry_on = 'any'").await;
    killed_while_it_runs(&world).await;
    let running = world.start().await;
    let run = world.ended("beat").await;
    assert_eq!((told(&run).as_str(), run.attempt), ("failed(crash_limit)", 1));
    assert!(run.error.unwrap().contains("on_crash"));
    assert_eq!((world.server.state_of_run(), world.server.runs()), (RunState::Cancelled, 1));
    running.stop().await;
}

/// What is recorded at the server is the truth.
#[tokio::test]
async fn a_run_that_is_not_to_survive_a_crash_and_had_ended_is_reported_as_it_ended() {
    let world = due("on_crash = 'fail'").await;
    killed_while_it_runs(&world).await;
    world.server.complete_all("done");
    let running = world.start().await;
    assert_eq!(told(&world.ended("beat").await), "completed");
    running.stop().await;
}

#[tokio::test]
async fn a_paused_row_stays_and_does_not_count() {
    let world = due("pause_on_approval = true\non_crash = 'fail'\napproval_timeout = '30m'").await;
    world.server.play(Play::Ask);
    let paused = async || last(&world, "beat").await.is_some_and(|run| run.status == RunStatus::Paused);
    for _ in 0..5 {
        let running = world.start().await;
        eventually("it waits", paused).await;
        running.kill().await;
    }
    let running = world.start().await;
    world.clock.advance(TimeDelta::minutes(30));
    let run = world.ended("beat").await;
    assert_eq!((told(&run).as_str(), run.recoveries, world.server.runs()), ("completed", 0, 1), "its time is armed");
    running.stop().await;
}

async fn killed_four_times(more: &str) -> (World, Running) {
    let world = due(more).await;
    killed_while_it_runs(&world).await;
    for crashes in 1..4 {
        let running = world.start().await;
        until_it_runs(&world, crashes).await;
        running.kill().await;
    }
    let running = world.start().await;
    (world, running)
}

/// A-P44. It counts as a failure, and the agent does not go on unseen.
#[tokio::test]
async fn the_fourth_recovery_fails_the_run_and_cancels_it() {
    let (world, running) = killed_four_times("retries = 3\nretry_on = 'any'\npause_after_failures = 1").await;
    let run = world.ended("beat").await;
    assert_eq!((told(&run).as_str(), run.recoveries, run.attempt), ("failed(crash_limit)", 3, 1));
    eventually("the agent is cancelled", async || world.server.state_of_run() == RunState::Cancelled).await;
    world.clock.set("2026-01-01T02:00:00Z");
    world.tells("beat", &["failed(crash_limit)", "skipped(paused)"]).await;
    assert_eq!(world.server.runs(), 1);
    running.stop().await;
}

/// Each attempt has its own session over a crash, too.
#[tokio::test]
async fn a_further_attempt_that_was_under_way_goes_on_as_that_attempt() {
    let world = due("retries = 1\nretry_backoff = '1m'").await;
    world.server.play(Play::Stumble("busy"));
    let running = world.start().await;
    eventually("it waits for its next attempt", async || {
        last(&world, "beat").await.is_some_and(|run| (run.attempt, run.status) == (2, RunStatus::Pending))
    })
    .await;
    running.kill().await;
    world.clock.advance(TimeDelta::minutes(2));
    killed_while_it_runs(&world).await;
    let running = world.start().await;
    world.server.complete_all("done");
    let run = world.ended("beat").await;
    let sessions: HashSet<_> = run.attempts.iter().map(|attempt| attempt.session_id.unwrap()).collect();
    assert_eq!((told(&run).as_str(), run.recoveries, sessions.len()), ("completed", 1, 2));
    assert_eq!(world.server.runs(), 2);
    running.stop().await;
}
