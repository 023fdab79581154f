//! Runs that failed are tried again: as often as the schedule says, each attempt in a session of its own, all in one row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::HashSet;

use chrono::TimeDelta;
use stakpak_scheduler::{Clock, HeldBy, Hold, RunRecord, RunStatus};
use support::{Running, World, eventually, server::Play, told};

const BEAT: &str =
    "[[schedules]]\nname = 'beat'\ncron = '0 * * * *'\nprompt = 'tidy up'\nretries = 2\nretry_backoff = '1m'\n";

async fn fired(more: &str, play: Play) -> (World, Running) {
    let world = World::new("2026-01-01T00:59:30Z", &format!("{BEAT}{more}\n")).await;
    world.server.play(play);
    let running = world.start().await;
    world.clock.set("2026-01-01T01:00:00Z");
    (world, running)
}

async fn first(world: &World) -> Option<RunRecord> {
    world.history("beat").await.pop()
}

/// Until so many attempts have ended, and the run waits for the next one.
async fn waits_after(world: &World, attempts: usize) {
    eventually("the attempt has ended", async || {
        first(world).await.is_some_and(|run| run.attempts.len() == attempts && run.status == RunStatus::Pending)
    })
    .await;
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_as_often_as_the_schedule_says() {
    let (world, running) = fired("", Play::Stumble("busy")).await;
    waits_after(&world, 1).await;
    let waiting = first(&world).await.unwrap();
    assert_eq!((waiting.attempt, waiting.error.as_deref()), (2, Some("busy")));
    world.clock.advance(TimeDelta::seconds(47));
    assert_eq!(world.server.runs(), 1, "not before four fifths of the wait");
    world.clock.advance(TimeDelta::seconds(26));
    waits_after(&world, 2).await;
    // It is active all the while.
    world.clock.set("2026-01-01T01:00:00Z");
    world.clock.advance(TimeDelta::minutes(10));
    let run = world.ended("beat").await;
    assert_eq!((told(&run).as_str(), run.attempt, run.attempts.len()), ("failed(agent_error)", 3, 3));
    let sessions: HashSet<_> = run.attempts.iter().map(|attempt| attempt.session_id.unwrap()).collect();
    assert_eq!((sessions.len(), world.server.runs(), world.history("beat").await.len()), (3, 3, 1));
    running.stop().await;
}

/// Also over a restart, and a fire meanwhile sees a run under way.
#[tokio::test]
async fn an_attempt_that_completes_is_the_outcome() {
    let (world, running) = fired("", Play::Stumble("busy")).await;
    waits_after(&world, 1).await;
    running.kill().await;
    let running = world.start().await;
    world.server.play(Play::Answer("done"));
    world.clock.advance(TimeDelta::seconds(80));
    let run = world.ended("beat").await;
    let statuses: Vec<_> = run.attempts.iter().map(|attempt| attempt.status).collect();
    assert_eq!((run.status, statuses), (RunStatus::Completed, vec![RunStatus::Failed, RunStatus::Completed]));
    assert_eq!(run.error, None);
    running.stop().await;
}

#[tokio::test]
async fn safe_repeats_nothing_that_may_have_had_an_effect_or_would_fail_again_and_any_does() {
    for (more, play, again) in [
        ("", Play::Fail("no"), false),
        ("", Play::Spoil("half done"), false),
        ("", Play::MaxTurns, false),
        ("retry_on = 'any'", Play::Fail("no"), true),
        ("retry_on = 'any'", Play::Spoil("half done"), true),
        ("retry_on = 'any'", Play::MaxTurns, true),
        ("retry_on = 'any'", Play::Refuse(400, "invalid_model"), false),
    ] {
        let point = format!("{more} {play:?}");
        let (world, running) = fired(more, play).await;
        if again {
            waits_after(&world, 1).await;
        } else {
            assert_eq!(world.ended("beat").await.attempt, 1, "{point}");
        }
        running.stop().await;
    }
}

/// The instant at which the only run is dispatched.
fn dispatch_at(world: &World) -> i64 {
    let connection = rusqlite::Connection::open(world.path()).unwrap();
    connection.query_row("SELECT dispatch_at FROM runs", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_server_that_asks_to_wait_longer_is_waited_for() {
    let (world, running) = fired("timeout = '10m'", Play::Busy(7200)).await;
    eventually("the server was asked", async || !world.server.requests().is_empty()).await;
    // The answer may still be on its way.
    eventually("the time is up", async || {
        world.clock.advance(TimeDelta::minutes(10));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        first(&world).await.is_some_and(|run| run.attempts.len() == 1)
    })
    .await;
    let run = first(&world).await.unwrap();
    let waits = dispatch_at(&world) - run.attempts[0].finished_at.timestamp_millis();
    assert_eq!((run.status, waits), (RunStatus::Pending, 7_200_000));
    running.stop().await;
}

#[tokio::test]
async fn a_schedule_that_was_paused_meanwhile_loses_no_attempt() {
    let (world, running) = fired("", Play::Stumble("busy")).await;
    waits_after(&world, 1).await;
    let hold = Hold { since: world.clock.now(), until: None, by: HeldBy::User, note: None };
    running.handle.hold("beat", hold, None).await.unwrap();
    running.handle.release("beat", None).await.unwrap();
    world.server.play(Play::Answer("done"));
    world.clock.advance(TimeDelta::seconds(80));
    assert_eq!(told(&world.ended("beat").await), "completed");
    running.stop().await;
}

/// What could not be found out is not tried again, and its row tells the truth once that is known.
#[tokio::test]
async fn an_attempt_whose_end_was_not_confirmed_is_corrected() {
    let (world, running) = fired("retry_on = 'any'\ntimeout = '10m'", Play::Stuck).await;
    eventually("it runs", async || first(&world).await.is_some_and(|run| run.run_id.is_some())).await;
    world.clock.advance(TimeDelta::minutes(10));
    eventually("nobody knows", async || {
        world.clock.advance(TimeDelta::minutes(1));
        first(&world).await.is_some_and(|run| run.status == RunStatus::Unknown)
    })
    .await;
    let of_attempts = |run: &RunRecord| run.attempts.iter().map(|attempt| attempt.status).collect::<Vec<_>>();
    assert_eq!(of_attempts(&first(&world).await.unwrap()), [RunStatus::Unknown]);
    world.server.play(Play::Hang);
    world.tells("beat", &["timed_out"]).await;
    assert_eq!(of_attempts(&first(&world).await.unwrap()), [RunStatus::TimedOut]);
    running.stop().await;
}

#[tokio::test]
async fn what_a_person_ended_is_not_tried_again() {
    let (world, running) = fired("retry_on = 'any'", Play::Stumble("busy")).await;
    waits_after(&world, 1).await;
    let id = first(&world).await.unwrap().id;
    assert_eq!(told(&running.handle.cancel(id, None).await.unwrap()), "cancelled(user)");
    world.clock.advance(TimeDelta::minutes(30));
    assert_eq!((told(&first(&world).await.unwrap()).as_str(), world.server.runs()), ("cancelled(user)", 1));
    running.stop().await;
}
