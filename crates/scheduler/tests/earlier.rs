//! A ledger file that 0.3.x left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{path::Path, time::Duration};

use rusqlite::Connection;
use stakpak_scheduler::{HistoryFilter, Ledger, RunNumber, RunRecord, RunStatus};
use support::{World, at, eventually};

const TABLES: &str = "
    CREATE TABLE autopilot_state (id INTEGER PRIMARY KEY, pid INTEGER, last_heartbeat TEXT);
    CREATE TABLE pending_triggers (id INTEGER PRIMARY KEY, schedule_name TEXT NOT NULL, created_at TEXT NOT NULL);
    CREATE TABLE trigger_runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, schedule_name TEXT NOT NULL, status TEXT NOT NULL,
        started_at TEXT NOT NULL, finished_at TEXT, check_exit_code INTEGER, check_stdout TEXT, check_stderr TEXT,
        check_timed_out INTEGER DEFAULT 0, agent_session_id TEXT, error_message TEXT);
    INSERT INTO autopilot_state VALUES (1, 4711, '2026-01-01T00:00:00Z');
    INSERT INTO pending_triggers VALUES (1, 'beat', '2026-01-01 00:00:00');
    INSERT INTO trigger_runs (id, schedule_name, status, started_at, finished_at, check_exit_code, check_stdout,
                              agent_session_id, error_message) VALUES
        (3, 'beat', 'completed', '2026-01-01T00:00:00+00:00', '2026-01-01T00:02:00.500Z', 1, 'full',
         '0199f3c0-0000-7000-8000-000000000001', NULL),
        (4, 'beat', 'failed', '2026-01-01 00:05:00', '2026-01-01 00:05:01', NULL, NULL, NULL, 'no credit'),
        (5, 'gone', 'timed_out', '2026-01-01 00:06:00', '2026-01-01 00:07:00', NULL, NULL, NULL, NULL),
        (6, 'beat', 'skipped', '2026-01-01 00:08:00', NULL, 0, NULL, NULL, NULL),
        (7, 'beat', 'paused', '2026-01-01 00:09:00', NULL, NULL, NULL, NULL, NULL),
        (9, 'beat', 'running', '2026-01-01 00:10:00', NULL, NULL, NULL, NULL, NULL);";

const BEAT: &str = "[[schedules]]\nname = 'beat'\ncron = '* * * * *'\nprompt = 'status'\n";

/// Everything in the tables of 0.3.x.
fn old_tables(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut found = Vec::new();
    for table in ["autopilot_state", "pending_triggers", "trigger_runs"] {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values = (0..columns).map(|column| format!("{:?}", row.get_ref(column).unwrap()));
            found.push(format!("{table}: {}", values.collect::<Vec<_>>().join(", ")));
        }
    }
    found
}

async fn history(ledger: &Ledger) -> Vec<RunRecord> {
    ledger.history(HistoryFilter::default(), 100).await.unwrap()
}

/// A-P46: history shows the old runs under their numbers, and the file of 0.3.x is still whole, here and in a copy.
#[tokio::test]
async fn runs_of_0_3_are_in_the_history_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("autopilot.db");
    Connection::open(&path).unwrap().execute_batch(TABLES).unwrap();
    let before = old_tables(&path);
    for _ in 0..2 {
        let ledger = Ledger::open(&path).unwrap();
        let runs = history(&ledger).await;
        let told: Vec<_> = runs.iter().map(|run| (run.id.0, run.schedule.as_str(), run.status.as_str())).collect();
        assert_eq!(
            told,
            [
                (9, "beat", "unknown"),
                (7, "beat", "unknown"),
                (6, "beat", "skipped"),
                (5, "gone", "timed_out"),
                (4, "beat", "failed"),
                (3, "beat", "completed"),
            ]
        );
        let completed = &runs[5];
        assert_eq!((completed.started_at, completed.duration_ms), (Some(at("2026-01-01T00:00:00Z")), Some(120_500)));
        assert_eq!(completed.session_id.unwrap().to_string(), "0199f3c0-0000-7000-8000-000000000001");
        let check = completed.check.as_ref().unwrap();
        assert_eq!((check.exit_code, check.stdout.as_str()), (Some(1), "full"));
        assert_eq!((runs[4].error.as_deref(), runs[4].check.is_none()), (Some("no credit"), true));
        assert_eq!(runs[0].error.as_deref(), Some("it had not ended in 0.3.x"));
    }
    assert_eq!(old_tables(&path), before);
    assert_eq!(old_tables(&directory.path().join("autopilot.db.bak-v0")), before);
}

/// What minor versions of 0.3.x name otherwise or lack is no reason to refuse the file.
#[tokio::test]
async fn columns_that_are_not_there_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("autopilot.db");
    let sql = "CREATE TABLE trigger_runs (id INTEGER PRIMARY KEY, trigger_name TEXT, status TEXT, started_at INTEGER);
               INSERT INTO trigger_runs VALUES (1, 'beat', 'completed', 1767225600), (2, 'beat', 'odd', 1767225600000)";
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let runs = history(&Ledger::open(&path).unwrap()).await;
    assert_eq!(runs.iter().map(|run| run.status).collect::<Vec<_>>(), [RunStatus::Unknown, RunStatus::Completed]);
    assert!(runs.iter().all(|run| run.started_at == Some(at("2026-01-01T00:00:00Z")) && run.schedule == "beat"));
}

/// A run that 0.3.x left `running` holds up nobody; what it had pending is not run; new runs get new numbers, and old ones are let
/// go of like all others.
#[tokio::test]
async fn schedules_of_0_3_go_on() {
    let world = World::with_file("2026-01-01T00:20:30Z", BEAT, |path| {
        Connection::open(path).unwrap().execute_batch(TABLES).unwrap();
    })
    .await;
    let running = world.start().await;
    world.clock.set("2026-01-01T00:21:00Z");
    eventually("it runs", async || world.history("beat").await[0].status == RunStatus::Completed).await;
    let newest = world.history("beat").await.remove(0);
    assert_eq!((newest.id, world.server.runs()), (RunNumber(10), 1));
    running.stop().await;
    let old = stakpak_scheduler::Retention { age: Duration::from_secs(60), runs: None };
    world.clock.set("2026-01-01T00:30:00Z");
    assert_eq!(world.ledger.prune(old, at("2026-01-01T00:30:00Z")).await.unwrap(), 7);
}
