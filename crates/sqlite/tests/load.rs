//! The log stays small and copies stay whole while many tasks write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::Path;

use stakpak_sqlite::rusqlite::Connection;
use stakpak_sqlite::{Database, Error, Migration};
use tokio::task::JoinSet;

const MIGRATIONS: &[Migration] =
    &[Migration { name: "blob", sql: "CREATE TABLE blob (id INTEGER PRIMARY KEY, bytes BLOB)" }];

fn insert(connection: &Connection, size: usize) -> Result<(), Error> {
    connection.prepare_cached("INSERT INTO blob (bytes) VALUES (?1)")?.execute([vec![7_u8; size]])?;
    Ok(())
}

fn count(connection: &Connection) -> Result<i64, Error> {
    Ok(connection.query_row("SELECT count(*) FROM blob", [], |row| row.get(0))?)
}

fn log_size(path: &Path) -> u64 {
    fs::metadata(path.with_extension("db-wal")).unwrap().len()
}

/// Returns the largest size of the log that any of the writing tasks has seen.
async fn write_much(database: &Database, path: &Path, tasks: usize, rounds: usize, size: usize) -> u64 {
    let mut writers = JoinSet::new();
    for _ in 0..tasks {
        let (database, path) = (database.clone(), path.to_owned());
        writers.spawn(async move {
            let mut largest = 0;
            for _ in 0..rounds {
                database.write(move |connection| insert(connection, size)).await.unwrap();
                largest = largest.max(log_size(&path));
            }
            largest
        });
    }
    writers.join_all().await.into_iter().max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_stays_small_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = Database::open(&path, MIGRATIONS).unwrap();
    let reading = {
        let database = database.clone();
        tokio::spawn(async move {
            loop {
                database.read(count).await.unwrap();
            }
        })
    };
    // Large groups first, then again into the pages that a deletion has freed, then groups of a single job.
    let mut largest = write_much(&database, &path, 200, 8, 16 << 10).await;
    database.write(|connection| connection.execute("DELETE FROM blob", []).map_err(Error::from)).await.unwrap();
    largest = largest.max(write_much(&database, &path, 200, 8, 16 << 10).await);
    largest = largest.max(write_much(&database, &path, 1, 300, 16 << 10).await);
    reading.abort();
    let stats = database.stats();
    assert!(stats.jobs > 2 * stats.commits, "{stats:?}");
    assert!(largest <= 4 << 20, "the log grew to {largest} bytes");
    assert!(largest >= 1 << 20, "the log was never used: {largest} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_made_under_load_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = Database::open(&path, MIGRATIONS).unwrap();
    let writing = {
        let database = database.clone();
        tokio::spawn(async move {
            loop {
                let pair = |connection: &Connection| {
                    insert(connection, 3000)?;
                    insert(connection, 3000)
                };
                database.write(pair).await.unwrap();
            }
        })
    };
    let to = folder.path().join("copy.db");
    for _ in 0..5 {
        let before = database.read(count).await.unwrap();
        database.backup(&to).await.unwrap();
        let copy = Connection::open(&to).unwrap();
        let sound: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        let copied = count(&copy).unwrap();
        assert!(copied >= before && copied % 2 == 0, "{before} rows before, {copied} copied");
    }
    writing.abort();
}

#[tokio::test]
async fn a_database_in_use_is_not_replaced_by_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = Database::open(&path, MIGRATIONS).unwrap();
    database.write(|connection| insert(connection, 1)).await.unwrap();
    let outcome = database.backup(&path).await;
    assert!(matches!(outcome, Err(Error::Create { .. })), "{outcome:?}");
    assert_eq!(database.read(count).await.unwrap(), 1);
}
