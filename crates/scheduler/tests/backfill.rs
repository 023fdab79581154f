//! Instants that have passed are run when somebody asks for it: each once, oldest first, all or none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use chrono::TimeDelta;
use stakpak_scheduler::{
    Backfill, BackfillError, Backfilled, Clock, HeldBy, Hold, Overlap, Retention, RunStatus, Source, backfill,
};
use support::{World, at, eventually, server::Play};

const HOURLY: &str = "[[schedules]]\nname = 'beat'\ncron = '0 * * * *'\nprompt = 'tidy up'\njitter = '20m'\n";

fn hours(from: u32, to: u32) -> Backfill {
    Backfill {
        from: format!("2026-01-01T{from:02}:00:00Z"),
        to: format!("2026-01-01T{to:02}:00:00Z"),
        limit: 100,
        overlap: Overlap::QueueAll,
        force: false,
        dry_run: false,
        key: None,
    }
}

async fn fill(world: &World, what: Backfill) -> Result<Backfilled, BackfillError> {
    backfill(&world.schedules(), &world.ledger, "beat", what, world.clock.now()).await
}

/// Hours of the rows that a backfill made, in the order of their numbers.
async fn filled(world: &World) -> Vec<String> {
    let mut rows = world.history("beat").await;
    rows.reverse();
    let made = rows.iter().filter(|row| row.source == Source::Backfill);
    made.map(|row| row.nominal_at.unwrap().format("%H").to_string()).collect()
}

#[tokio::test]
async fn the_instants_of_a_time_are_run_oldest_first_and_one_at_a_time() {
    let world = World::new("2026-01-01T09:10:00Z", HOURLY).await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    let made = running.handle.backfill("beat", hours(3, 6)).await.unwrap();
    assert_eq!((made.instants.len(), made.run_ids.len(), made.left_out), (3, 3, 0), "`to` is not meant");
    for expected in
        [["running", "pending", "pending"], ["completed", "running", "pending"], ["completed", "completed", "running"]]
    {
        world.tells("beat", &expected).await;
        let place = expected.iter().position(|status| *status == "running").unwrap();
        eventually("it runs", async || world.server.runs() == place + 1).await;
        world.server.complete_all("done");
    }
    world.tells("beat", &["completed"; 3]).await;
    assert_eq!(filled(&world).await, ["03", "04", "05"]);
    let context = world.server.posted()[0]["context"][0]["content"].as_str().unwrap().to_owned();
    assert!(context.contains("source: backfill\nnominal instant: 2026-01-01T03:00:00Z"), "{context}");
    running.stop().await;
}

#[tokio::test]
async fn instants_that_have_a_run_are_left_out_and_missed_ones_are_not() {
    let world = World::new("2026-01-01T00:30:00Z", HOURLY).await;
    let running = world.start().await;
    world.clock.set("2026-01-01T01:20:00Z");
    world.tells("beat", &["completed"]).await;
    running.stop().await;
    // 2 to 8 pass while nobody is there; 9 is caught up on.
    world.clock.set("2026-01-01T09:20:00Z");
    let running = world.start().await;
    eventually("nine has run", async || {
        world.history("beat").await.iter().filter(|row| row.status == RunStatus::Completed).count() == 2
    })
    .await;
    let missed = world.history("beat").await.iter().filter(|row| row.status == RunStatus::Missed).count();
    assert_eq!(missed, 7);
    let made = running.handle.backfill("beat", hours(0, 9)).await.unwrap();
    assert_eq!(
        (made.left_out, made.instants.len()),
        (1, 8),
        "0 was before the schedule, 1 has run, 2 to 8 were missed"
    );
    let again = running.handle.backfill("beat", hours(0, 9)).await.unwrap();
    assert_eq!((again.left_out, again.instants.len()), (9, 0));
    eventually("all have run", async || world.server.runs() == 10).await;
    let missed = world.history("beat").await.iter().filter(|row| row.status == RunStatus::Missed).count();
    assert_eq!(missed, 7, "what was written stays");
    let forced = running.handle.backfill("beat", Backfill { force: true, ..hours(0, 2) }).await.unwrap();
    assert_eq!((forced.left_out, forced.instants.len()), (0, 2));
    eventually("they run once more", async || world.server.runs() == 12).await;
    running.stop().await;
}

/// An instant whose output was let go of has run all the same.
#[tokio::test]
async fn an_instant_that_history_no_longer_shows_has_a_run() {
    let world = World::new("2026-01-01T00:30:00Z", HOURLY).await;
    let running = world.start().await;
    world.clock.set("2026-01-01T01:20:00Z");
    world.tells("beat", &["completed"]).await;
    running.stop().await;
    world.clock.set("2026-01-03T00:00:00Z");
    let day = Retention { age: std::time::Duration::from_secs(24 * 3600), runs: None };
    assert_eq!(world.ledger.prune(day, world.clock.now()).await.unwrap(), 1);
    let made = fill(&world, hours(1, 2)).await.unwrap();
    assert_eq!((made.left_out, made.run_ids.len()), (1, 0));
}

#[tokio::test]
async fn a_request_that_is_too_large_or_makes_no_sense_writes_nothing() {
    let world = World::new("2026-01-02T00:10:00Z", HOURLY).await;
    let refused = async |what| fill(&world, what).await.unwrap_err().to_string();
    let text = refused(Backfill { limit: 22, ..hours(0, 23) }).await;
    assert!(text.starts_with("23 instants of `beat` would be run, and the limit is 22"), "{text}");
    let late = Backfill { to: "2026-01-02T01:00:00Z".to_owned(), ..hours(0, 23) };
    assert!(refused(late).await.contains("`to`: lies in the future"));
    assert!(refused(hours(5, 5)).await.contains("`from`: must be before"));
    assert!(refused(Backfill { from: "monday".to_owned(), ..hours(0, 5) }).await.contains("`from`: expected a time"));
    assert!(refused(Backfill { limit: 0, ..hours(0, 5) }).await.contains("`limit`"));
    let ages = Backfill { from: "1900-01-01T00:00:00Z".to_owned(), ..hours(0, 5) };
    assert!(refused(ages).await.contains("more than 100000 instants"));
    let nobody = backfill(&world.schedules(), &world.ledger, "nobody", hours(0, 5), world.clock.now()).await;
    assert!(nobody.unwrap_err().to_string().contains("nobody"));
    let dry = fill(&world, Backfill { dry_run: true, ..hours(0, 23) }).await.unwrap();
    assert_eq!((dry.instants.len(), dry.run_ids.len()), (23, 0));
    assert_eq!(world.history("beat").await, []);
}

/// A caller that got no answer asks once more.
#[tokio::test]
async fn a_request_that_is_repeated_under_its_key_makes_nothing_twice() {
    let world = World::new("2026-01-01T09:10:00Z", HOURLY).await;
    let keyed = |what| Backfill { key: Some("k".to_owned()), force: true, ..what };
    let made = fill(&world, keyed(hours(0, 3))).await.unwrap();
    let before = rows(&world);
    assert_eq!((fill(&world, keyed(hours(0, 3))).await.unwrap(), rows(&world)), (made.clone(), before));
    let other = fill(&world, keyed(hours(0, 4))).await;
    assert!(matches!(other, Err(BackfillError::KeyReused)), "{other:?}");
    let more = fill(&world, Backfill { force: true, ..hours(0, 3) }).await.unwrap();
    assert_eq!((more.instants, rows(&world)), (made.instants, before + 3));
}

fn rows(world: &World) -> i64 {
    let connection = rusqlite::Connection::open(world.path()).unwrap();
    connection.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap()
}

/// A kill after the answer loses nothing, and no instant fires a second time when the cursor passes over it.
#[tokio::test]
async fn what_was_written_runs_at_the_next_start() {
    let world = World::new("2026-01-01T00:30:00Z", HOURLY).await;
    let running = world.start().await;
    running.kill().await;
    world.clock.set("2026-01-01T03:05:00Z");
    // The instant at 3 is due by itself as well.
    let made = fill(&world, Backfill { to: "2026-01-01T03:01:00Z".to_owned(), ..hours(1, 3) }).await.unwrap();
    assert_eq!(made.instants, ["01", "02", "03"].map(|hour| at(&format!("2026-01-01T{hour}:00:00Z"))));
    let running = world.start().await;
    eventually("all have run", async || {
        let rows = world.history("beat").await;
        rows.iter().filter(|row| row.status == RunStatus::Completed).count() == 3
    })
    .await;
    world.clock.advance(TimeDelta::minutes(30));
    assert_eq!((world.server.runs(), rows(&world)), (3, 3));
    running.stop().await;
}

/// Who asks for it knows that it is paused; a pause, also one after too many failures, ends what waits.
#[tokio::test]
async fn a_paused_schedule_can_be_filled_and_a_pause_stops_it() {
    let world = World::new("2026-01-01T09:10:00Z", HOURLY).await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    let hold = || Hold { since: world.clock.now(), until: None, by: HeldBy::User, note: None };
    running.handle.hold("beat", hold(), None).await.unwrap();
    running.handle.backfill("beat", hours(0, 3)).await.unwrap();
    world.tells("beat", &["running", "pending", "pending"]).await;
    running.handle.release("beat", None).await.unwrap();
    world.clock.advance(TimeDelta::minutes(1));
    running.handle.hold("beat", hold(), None).await.unwrap();
    eventually("it runs", async || world.server.runs() == 1).await;
    world.server.complete_all("done");
    world.tells("beat", &["completed", "skipped(paused)", "skipped(paused)"]).await;
    running.stop().await;
}

/// The rows of a backfill follow the policy that was asked for, those of the schedule its own.
#[tokio::test]
async fn the_policy_of_a_backfill_is_its_own() {
    let toml = format!("{HOURLY}overlap = 'queue_one'\ntimeout = '5h'\n");
    let world = World::new("2026-01-01T09:10:00Z", &toml).await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    running.handle.backfill("beat", Backfill { overlap: Overlap::Skip, ..hours(0, 2) }).await.unwrap();
    world.tells("beat", &["running", "skipped(overlap)"]).await;
    running.handle.backfill("beat", hours(4, 6)).await.unwrap();
    world.tells("beat", &["running", "skipped(overlap)", "pending", "pending"]).await;
    world.clock.set("2026-01-01T10:25:00Z");
    world.tells("beat", &["running", "skipped(overlap)", "pending", "pending", "pending"]).await;
    running.stop().await;
}
