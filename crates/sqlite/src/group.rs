//! One transaction for all jobs that wait.
//!
//! * A guarded job runs inside its own savepoint; one that fails or panics rolls back alone.
//! * The others save SQLite the copies of pages that a savepoint costs: one that fails after it has changed something takes
//!   the group with it.
//! * No job is answered before the group has committed. If it cannot, every job of the group is told so, also one that
//!   had failed: what it had objected to may have been written by its neighbour and be gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rusqlite::{Connection, ffi};
use tokio::sync::oneshot;

use crate::Error;

/// The first job of a group waits for all that follow it; at some ten microseconds each, this many cost it no more
/// than the sync that it has to wait for anyway.
const MOST_JOBS: usize = 256;

/// Bounds what one commit adds to the write-ahead log, see `checkpoint`: 1 MiB behind its first job, in pages of the
/// usual size. Looked at every [`MEASURE_EVERY`] jobs.
const MOST_PAGES: i64 = 256;
const MEASURE_EVERY: usize = 8;

/// A job in the queue, whatever its types.
pub(crate) trait Task: Send {
    /// Whether the job needs a savepoint: it may fail after it has changed something.
    fn is_guarded(&self) -> bool;
    /// Runs the job. False asks for its changes to be rolled back.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Answers the caller, if it still waits.
    fn settle(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>);
}

/// A job with the way to its caller.
pub(crate) struct Request<T, E, F> {
    guarded: bool,
    job: Option<F>,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Request<T, E, F> {
    pub(crate) fn new(job: F, guarded: bool) -> (Box<Self>, oneshot::Receiver<Result<T, E>>) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Self { guarded, job: Some(job), outcome: None, reply }), answer)
    }
}

impl<T, E, F> Task for Request<T, E, F>
where
    T: Send,
    E: From<Error> + Send,
    F: FnOnce(&Connection) -> Result<T, E> + Send,
{
    fn is_guarded(&self) -> bool {
        self.guarded
    }

    fn run(&mut self, connection: &Connection) -> bool {
        let Some(job) = self.job.take() else { return false };
        // The connection stays whole: the savepoint takes back what the job has done to it.
        let outcome =
            catch_unwind(AssertUnwindSafe(|| job(connection))).unwrap_or_else(|_| Err(E::from(Error::Panicked)));
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn settle(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>) {
        let answer = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(E::from(Error::Closed)),
            (Err(error), _) => Err(E::from(Error::Commit(error))),
        };
        // A caller that has gone away has no use for it.
        self.reply.send(answer).ok();
    }
}

/// Runs `first` and the jobs waiting behind it in one transaction. Every job taken from the queue is in `group`
/// afterwards, also after an error; none has been answered.
pub(crate) fn commit(
    connection: &Connection,
    first: Box<dyn Task>,
    queue: &Receiver<Box<dyn Task>>,
    group: &mut Vec<Box<dyn Task>>,
) -> rusqlite::Result<()> {
    group.push(first);
    execute(connection, "BEGIN IMMEDIATE")?;
    let mut most = i64::MAX;
    while let Some(task) = group.last_mut() {
        if task.is_guarded() {
            run_guarded(connection, task.as_mut())?;
        } else {
            run_unguarded(connection, task.as_mut())?;
        }
        if group.len() >= MOST_JOBS || (group.len().is_multiple_of(MEASURE_EVERY) && pages(connection)? >= most) {
            break;
        }
        let Ok(next) = queue.try_recv() else { break };
        // Alone, a job is not measured: SQLite compiles a pragma anew each time.
        if group.len() == 1 {
            most = pages(connection)? + MOST_PAGES;
        }
        group.push(next);
    }
    execute(connection, "COMMIT")
}

fn run_guarded(connection: &Connection, task: &mut dyn Task) -> rusqlite::Result<()> {
    execute(connection, "SAVEPOINT job")?;
    if !task.run(connection) {
        execute(connection, "ROLLBACK TO job")?;
    }
    // Fails if SQLite (disk full) or the job itself has ended the transaction, and the group with it.
    execute(connection, "RELEASE job")
}

fn run_unguarded(connection: &Connection, task: &mut dyn Task) -> rusqlite::Result<()> {
    let before = connection.total_changes();
    if !task.run(connection) && connection.total_changes() != before {
        let reason = "a job failed after it had changed something".to_owned();
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), Some(reason)));
    }
    if connection.is_autocommit() {
        // Disk full, for one: SQLite has rolled everything back.
        let reason = "the transaction of the group has ended".to_owned();
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), Some(reason)));
    }
    Ok(())
}

/// Leaves the transaction of a group that failed.
pub(crate) fn abandon(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = execute(connection, "ROLLBACK")
    {
        tracing::error!(%error, "could not roll back");
    }
}

/// Pages of the database that are in use, with those that this transaction has added.
fn pages(connection: &Connection) -> rusqlite::Result<i64> {
    let number = |pragma| connection.pragma_query_one::<i64>(None, pragma);
    Ok(number("page_count")? - number("freelist_count")?)
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
