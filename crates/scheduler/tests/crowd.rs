//! Very many schedules that are due in the same minute.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use rusqlite::Connection;
use support::World;

const SCHEDULES: u32 = 200;
const AT_ONCE: u32 = 7;
/// Seconds over which they are spread.
const JITTER: u32 = 40;
const STEP: u32 = 5;

/// What the ledger says at one moment.
#[derive(Debug)]
struct Look {
    running: u32,
    /// Due, and not started.
    waiting: u32,
    /// Of those that wait, how many should have come before one that has started.
    overtaken: u32,
    started: u32,
}

fn look(ledger: &Connection, now: i64) -> Look {
    let sql = "SELECT count(*) FILTER (WHERE status = 'running'),
                      count(*) FILTER (WHERE status = 'pending' AND dispatch_at <= ?1),
                      count(*) FILTER (WHERE status = 'pending' AND (dispatch_at, schedule) <
                        (SELECT dispatch_at, schedule FROM runs WHERE status <> 'pending'
                         ORDER BY dispatch_at DESC, schedule DESC LIMIT 1)),
                      count(*) FILTER (WHERE status <> 'pending')
               FROM runs";
    let look = |row: &rusqlite::Row<'_>| {
        Ok(Look { running: row.get(0)?, waiting: row.get(1)?, overtaken: row.get(2)?, started: row.get(3)? })
    };
    ledger.query_row(sql, [now], look).unwrap()
}

/// A-P45, through the whole scheduler: never more at once than may, spread over the jitter, in the order of their times and names, none lost and none doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fires_of_one_minute_take_their_turns() {
    let entry = |n| format!("[[schedules]]\nname = 's{n:05}'\ncron = '1 0 * * *'\nprompt = 'p'\n");
    let entries: String = (0..SCHEDULES).map(entry).collect();
    let toml = format!("[watch]\nmax_concurrent_runs = {AT_ONCE}\n[defaults]\njitter = '{JITTER}s'\n{entries}");
    let world = World::new("2026-01-01T00:00:30Z", &toml).await;
    let running = world.start().await;
    let ledger = Connection::open(world.path()).unwrap();
    let (mut started, mut most) = (Vec::new(), 0);
    for second in (0..=JITTER).step_by(STEP as usize) {
        world.clock.set(&format!("2026-01-01T00:01:{second:02}Z"));
        let now = support::at(&format!("2026-01-01T00:01:{second:02}Z")).timestamp_millis();
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            let look = look(&ledger, now);
            assert!(look.running <= AT_ONCE && look.overtaken == 0, "{look:?}");
            most = most.max(look.running);
            let is_planned = ledger.query_row("SELECT count(*) = ?1 FROM runs", [SCHEDULES], |row| row.get(0));
            if is_planned.unwrap() && look.running + look.waiting == 0 {
                started.push(look.started);
                break;
            }
            assert!(Instant::now() < deadline, "they do not end: {look:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(most, AT_ONCE, "slots are used");
    let steps: Vec<u32> = started.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let share = SCHEDULES * STEP / JITTER;
    assert!(steps.iter().all(|step| (share / 2..share * 2).contains(step)), "not spread: {started:?}");
    let completed =
        "SELECT count(*), count(DISTINCT schedule), count(DISTINCT session_id) FROM runs WHERE status = 'completed'";
    let counts = ledger.query_row(completed, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    assert_eq!(counts.unwrap(), (SCHEDULES, SCHEDULES, SCHEDULES));
    assert_eq!(world.server.runs(), SCHEDULES as usize);
    running.stop().await;
}
