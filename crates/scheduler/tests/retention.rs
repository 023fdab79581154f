//! The ledger lets go of old runs, and of nothing that is still needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use chrono::TimeDelta;
use stakpak_scheduler::{Clock, Retention, RunNumber, RunRecord, RunStatus};
use support::{World, eventually, server::Play};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A world in which `beat` has fired at so many hours, one after the other.
async fn fired(fires: usize, more: &str) -> (World, support::Running) {
    let toml = format!("{more}\n[[schedules]]\nname = 'beat'\ncron = '0 1-5 * * *'\nprompt = 'status'\n");
    let world = World::new("2026-01-01T00:30:00Z", &toml).await;
    let running = world.start().await;
    for fire in 1..=fires {
        world.clock.advance(TimeDelta::minutes(if fire == 1 { 30 } else { 60 }));
        eventually("it has run", async || {
            let rows = world.history("beat").await;
            world.server.runs() == fire && rows[0].status == RunStatus::Completed
        })
        .await;
    }
    (world, running)
}

fn keys(world: &World) -> i64 {
    let connection = rusqlite::Connection::open(world.path()).unwrap();
    connection.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn runs_are_let_go_of_by_age_and_their_keys_stay_longer() {
    let (world, running) = fired(3, "").await;
    running.stop().await;
    let ledger = &world.ledger;
    let prune =
        async |age: u32| ledger.prune(Retention { age: DAY * age, runs: None }, world.clock.now()).await.unwrap();
    assert_eq!(prune(1).await, 0);
    world.clock.advance(TimeDelta::days(10));
    assert_eq!((prune(11).await, prune(9).await, prune(9).await), (0, 3, 0));
    assert_eq!(world.history("beat").await, []);
    let emptied = ledger.run(RunNumber(1)).await.unwrap().unwrap();
    assert_eq!((emptied.status, emptied.agent_message, emptied.agent_stdout), (RunStatus::Completed, None, None));
    // The same instants again do not run.
    world.clock.set("2026-01-01T00:30:00Z");
    rusqlite::Connection::open(world.path())
        .unwrap()
        .execute("UPDATE schedule_state SET cursor_at = ?1", [world.clock.now().timestamp_millis()])
        .unwrap();
    let running = world.start().await;
    world.clock.set("2026-01-01T03:00:00Z");
    world.clock.set("2026-01-01T04:00:00Z");
    eventually("the next instant has run", async || {
        world.history("beat").await.iter().any(|run| run.status == RunStatus::Completed)
    })
    .await;
    assert_eq!(world.server.runs(), 4);
    running.stop().await;
    assert_eq!(keys(&world), 4, "no row was added for the three");
    world.clock.advance(TimeDelta::days(34));
    assert_eq!((prune(9).await, keys(&world)), (1, 4));
    world.clock.advance(TimeDelta::days(2));
    assert_eq!((prune(9).await, keys(&world)), (0, 0));
}

#[tokio::test]
async fn the_newest_of_each_schedule_are_kept() {
    let (world, running) = fired(5, "").await;
    let retention = Retention { age: 900 * DAY, runs: Some(2) };
    assert_eq!(world.ledger.prune(retention, world.clock.now()).await.unwrap(), 3);
    let kept: Vec<_> = world.history("beat").await.iter().map(|run| run.id).collect();
    assert_eq!((kept, keys(&world)), (vec![RunNumber(5), RunNumber(4)], 5));
    running.stop().await;
}

/// A-P37: live runs are not touched, whatever their age.
#[tokio::test]
async fn a_run_that_has_not_ended_stays_as_it_is() {
    let (world, running) = fired(1, "").await;
    world.server.play(Play::Hang);
    world.clock.advance(TimeDelta::minutes(60));
    eventually("it runs", async || {
        let run = world.history("beat").await.swap_remove(0);
        run.status == RunStatus::Running && run.run_id.is_some()
    })
    .await;
    let before = world.history("beat").await;
    running.kill().await;
    world.clock.advance(TimeDelta::days(400));
    let all = Retention { age: Duration::ZERO, runs: Some(0) };
    assert_eq!(world.ledger.prune(all, world.clock.now()).await.unwrap(), 1);
    assert_eq!(world.history("beat").await, &before[..1]);
}

#[tokio::test]
async fn a_scheduler_lets_go_by_itself_every_hour() {
    let (world, running) = fired(5, "[watch]\nhistory_max_runs = 2\n").await;
    world.clock.advance(TimeDelta::hours(1));
    eventually("old runs are gone", async || world.history("beat").await.len() == 2).await;
    running.stop().await;
}

/// Ninety days unless the file says less.
#[tokio::test]
async fn a_scheduler_lets_go_of_what_is_older_than_the_file_says() {
    let (world, running) = fired(5, "[watch]\nhistory_retention = '2h'\n").await;
    world.clock.advance(TimeDelta::hours(1));
    let is_there = |runs: &[RunRecord], id| runs.iter().any(|run| run.id == RunNumber(id));
    eventually("old runs are gone", async || {
        let runs = world.history("beat").await;
        !is_there(&runs, 1) && is_there(&runs, 5)
    })
    .await;
    running.stop().await;
}
