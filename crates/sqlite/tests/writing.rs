//! Writes share transactions, fail alone, and are there once they have resolved.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use stakpak_sqlite::rusqlite::Connection;
use stakpak_sqlite::{Database, Error, Migration};

const MIGRATIONS: &[Migration] = &[Migration {
    name: "note",
    sql: "CREATE TABLE note (id INTEGER PRIMARY KEY, \
          parent INTEGER REFERENCES note (id) DEFERRABLE INITIALLY DEFERRED)",
}];

fn open(folder: &Path) -> Database {
    Database::open(&folder.join("notes.db"), MIGRATIONS).unwrap()
}

fn insert(connection: &Connection, id: i64) -> Result<(), Error> {
    connection.prepare_cached("INSERT INTO note (id) VALUES (?1)")?.execute([id])?;
    Ok(())
}

fn select(connection: &Connection) -> Result<Vec<i64>, Error> {
    let mut statement = connection.prepare_cached("SELECT id FROM note ORDER BY id")?;
    let ids = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(ids)
}

type Write<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Puts the job into the queue before it returns.
fn queue<'a>(database: &'a Database, job: impl FnOnce(&Connection) -> Result<(), Error> + Send + 'static) -> Write<'a> {
    let mut write: Write<'a> = Box::pin(database.write(job));
    assert!(matches!(write.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    write
}

/// Keeps the writer inside a group until the sender is dropped.
fn hold(database: &Database) -> (mpsc::Sender<()>, Write<'_>) {
    let (release, released) = mpsc::channel::<()>();
    let write = queue(database, move |_| {
        released.recv().ok();
        Ok(())
    });
    (release, write)
}

#[tokio::test]
async fn jobs_that_wait_share_one_commit_and_fail_alone() {
    let folder = tempfile::tempdir().unwrap();
    for database in [open(folder.path()), Database::open_in_memory(MIGRATIONS).unwrap()] {
        let (release, held) = hold(&database);
        let mut writes: Vec<_> =
            (1..=50).map(|id| queue(&database, move |connection| insert(connection, id))).collect();
        writes.push(queue(&database, |connection| {
            insert(connection, 100)?;
            insert(connection, 1)
        }));
        writes.push(queue(&database, |connection| {
            insert(connection, 101)?;
            panic!("a job that panics")
        }));
        writes.push(queue(&database, |connection| insert(connection, 51)));
        drop(release);

        held.await.unwrap();
        let outcomes: Vec<_> = {
            let mut outcomes = Vec::new();
            for write in writes {
                outcomes.push(write.await);
            }
            outcomes
        };
        assert!(outcomes[..50].iter().all(Result::is_ok));
        assert!(matches!(outcomes[50], Err(Error::Sqlite(_))), "{:?}", outcomes[50]);
        assert!(matches!(outcomes[51], Err(Error::Panicked)), "{:?}", outcomes[51]);
        assert!(outcomes[52].is_ok());
        let stats = database.stats();
        assert_eq!((stats.commits, stats.failed_commits, stats.jobs, stats.waiting), (1, 0, 54, 0));
        assert_eq!((stats.commit_jobs.sum, stats.commit_microseconds.count()), (54, 1));
        assert_eq!(database.read(select).await.unwrap(), (1..=51).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_commit_that_fails_fails_its_whole_group_and_only_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path());
    let (release, held) = hold(&database);
    let good = queue(&database, |connection| insert(connection, 1));
    // Objects to a row that will not have been written.
    let objection = queue(&database, |connection| insert(connection, 1));
    let orphan = queue(&database, |connection| {
        connection.execute("INSERT INTO note (id, parent) VALUES (2, 99)", [])?;
        Ok(())
    });
    drop(release);

    for write in [held, good, objection, orphan] {
        let outcome = write.await;
        assert!(matches!(outcome, Err(Error::Commit(_))), "{outcome:?}");
    }
    let stats = database.stats();
    assert_eq!((stats.commits, stats.failed_commits, stats.jobs, stats.waiting), (0, 1, 0, 0));
    database.write(|connection| insert(connection, 3)).await.unwrap();
    assert_eq!(database.read(select).await.unwrap(), [3]);
}

/// One that fails before it changes anything fails alone; one that has changed something takes its group with it.
#[tokio::test]
async fn an_unguarded_job_never_leaves_half_of_itself() {
    let database = Database::open_in_memory(MIGRATIONS).unwrap();
    for (changes_first, written) in [(false, vec![1]), (true, vec![])] {
        let (release, held) = hold(&database);
        let neighbour = queue(&database, |connection| insert(connection, 1));
        let failing = database.write_unguarded(move |connection| {
            if changes_first {
                insert(connection, 2)?;
            }
            Err::<(), _>(Error::Closed)
        });
        let mut failing = Box::pin(failing);
        assert!(futures_util::poll!(failing.as_mut()).is_pending());
        drop(release);
        let (held, neighbour, failed) = (held.await, neighbour.await, failing.await);
        assert_eq!((held.is_ok(), neighbour.is_ok(), failed.is_err()), (!changes_first, !changes_first, true));
        assert_eq!(database.read(select).await.unwrap(), written);
        database.write(|connection| connection.execute("DELETE FROM note", []).map_err(Error::from)).await.unwrap();
    }
}

#[tokio::test]
async fn a_job_that_ends_the_transaction_does_not_pass_for_committed() {
    let database = Database::open_in_memory(MIGRATIONS).unwrap();
    let outcome = database
        .write(|connection| {
            insert(connection, 1)?;
            connection.execute_batch("ROLLBACK")?;
            Ok::<_, Error>(())
        })
        .await;
    assert!(matches!(outcome, Err(Error::Commit(_))), "{outcome:?}");
    database.write(|connection| insert(connection, 2)).await.unwrap();
    assert_eq!(database.read(select).await.unwrap(), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolved_write_is_seen_by_every_later_read() {
    let folder = tempfile::tempdir().unwrap();
    for database in [open(folder.path()), Database::open_in_memory(MIGRATIONS).unwrap()] {
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let database = database.clone();
                tokio::spawn(async move {
                    for id in (0..25).map(|round| task * 1000 + round) {
                        database.write(move |connection| insert(connection, id)).await.unwrap();
                        assert!(database.read(select).await.unwrap().contains(&id));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_sees_one_snapshot_and_blocks_no_write() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path());
    let (began, has_begun) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let reader = database.clone();
    let read = tokio::spawn(async move {
        let job = move |connection: &Connection| {
            let before = select(connection)?;
            began.send(()).unwrap();
            may_go_on.recv().unwrap();
            Ok::<_, Error>((before, select(connection)?))
        };
        reader.read(job).await.unwrap()
    });
    has_begun.await.unwrap();
    database.write(|connection| insert(connection, 1)).await.unwrap();
    go_on.send(()).unwrap();
    assert_eq!(read.await.unwrap(), (vec![], vec![]));
    assert_eq!(database.read(select).await.unwrap(), [1]);
}

#[tokio::test]
async fn a_read_cannot_write_and_survives_its_panic() {
    let folder = tempfile::tempdir().unwrap();
    for database in [open(folder.path()), Database::open_in_memory(MIGRATIONS).unwrap()] {
        let outcome = database.read(|connection| insert(connection, 1)).await;
        assert!(matches!(outcome, Err(Error::Sqlite(_))), "{outcome:?}");
        let outcome: Result<(), Error> = database.read(|_| panic!("a job that panics")).await;
        assert!(matches!(outcome, Err(Error::Panicked)), "{outcome:?}");
        database.write(|connection| insert(connection, 2)).await.unwrap();
        assert_eq!(database.read(select).await.unwrap(), [2]);
    }
}

#[tokio::test]
async fn closing_runs_what_waits_and_refuses_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path());
    let (release, held) = hold(&database);
    let write = queue(&database, |connection| insert(connection, 1));
    drop(release);
    database.clone().close();
    assert!(!folder.path().join("notes.db-wal").exists());
    held.await.unwrap();
    write.await.unwrap();
    assert!(matches!(database.write(|c| insert(c, 2)).await, Err(Error::Closed)));
    assert!(matches!(database.read(select).await, Err(Error::Closed)));
    assert_eq!(open(folder.path()).read(select).await.unwrap(), [1]);
}

#[tokio::test]
async fn a_job_may_own_the_last_handle() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path());
    let (release, released) = mpsc::channel::<()>();
    let owned = database.clone();
    drop(queue(&database, move |connection| {
        released.recv().ok();
        drop(owned);
        insert(connection, 1)
    }));
    drop(database);
    drop(release);

    let reopened = open(folder.path());
    let deadline = Instant::now() + Duration::from_secs(20);
    while reopened.read(select).await.unwrap() != [1] {
        assert!(Instant::now() < deadline, "the job was lost");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
