//! Keeping the write-ahead log small without making commits wait.
//!
//! * Past [`SOFT_LIMIT`] a thread of its own copies the log into the database (`PASSIVE`: blocks nobody). When it catches
//!   up with the writer, the next commit starts the log over.
//! * A writer that never pauses is never caught up with. Past [`HARD_LIMIT`] it therefore stops between two groups until
//!   the little that is left is copied and no reader needs the log (`RESTART`).
//! * A group adds at most about 1 MiB (see `group`), so the log stays under 4 MiB unless one job or a long read
//!   exceeds it; afterwards it is cut back.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;

use crate::Error;

const SOFT_LIMIT: i64 = 2 << 20;
const HARD_LIMIT: i64 = 3 << 20;

/// How long the writer waits for readers that still need the log. A reader that takes longer (a backup) must not stop
/// all writes: the next try comes after another [`SOFT_LIMIT`] of growth.
const PATIENCE: Duration = Duration::from_millis(100);

/// Bytes the log spends on a page besides its content.
const FRAME_HEADER: i64 = 24;

/// Owned by the writer's thread.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    /// Both sides checkpoint through it, because SQLite refuses a second checkpoint instead of waiting.
    connection: Arc<Mutex<Connection>>,
    signal: SyncSender<()>,
    thread: JoinHandle<()>,
    frame: i64,
    restart_at: i64,
}

impl Checkpointer {
    pub(crate) fn start(connection: Connection) -> Result<Self, Error> {
        connection.busy_timeout(PATIENCE)?;
        let page: i64 = connection.pragma_query_one(None, "page_size")?;
        let connection = Arc::new(Mutex::new(connection));
        // One place: a signal that waits already says everything a second one would.
        let (signal, signals) = mpsc::sync_channel(1);
        let shared = Arc::clone(&connection);
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".into())
            .spawn(move || copy_when_told(&signals, &shared))
            .map_err(Error::Thread)?;
        Ok(Self { connection, signal, thread, frame: page + FRAME_HEADER, restart_at: HARD_LIMIT })
    }

    /// Looks at the log after a commit of `writer`.
    pub(crate) fn after_commit(&mut self, writer: &Connection) {
        let size = match run(writer, "PRAGMA wal_checkpoint(NOOP)") {
            Ok(log) => log.frames * self.frame,
            Err(error) => return tracing::warn!(%error, "could not measure the write-ahead log"),
        };
        if size < HARD_LIMIT {
            self.restart_at = HARD_LIMIT;
        }
        if size >= self.restart_at {
            let restarted = checkpoint(&self.connection, "PRAGMA wal_checkpoint(RESTART)");
            self.restart_at = if restarted { HARD_LIMIT } else { size + SOFT_LIMIT };
        } else if size >= SOFT_LIMIT {
            // A full channel is a signal not yet taken.
            self.signal.try_send(()).ok();
        }
    }

    /// Ends the thread and moves the whole log into the database.
    pub(crate) fn finish(self) {
        drop(self.signal);
        if self.thread.join().is_err() {
            tracing::warn!("the checkpoint thread panicked");
        }
        checkpoint(&self.connection, "PRAGMA wal_checkpoint(TRUNCATE)");
    }
}

fn copy_when_told(signals: &Receiver<()>, connection: &Mutex<Connection>) {
    while signals.recv().is_ok() {
        checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)");
    }
}

/// True if the checkpoint did all that its mode promises.
fn checkpoint(connection: &Mutex<Connection>, pragma: &str) -> bool {
    let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
    match run(&connection, pragma) {
        Ok(log) => !log.busy,
        Err(error) => {
            tracing::warn!(%error, pragma, "checkpoint failed; the write-ahead log grows until one succeeds");
            false
        }
    }
}

struct Log {
    busy: bool,
    frames: i64,
}

fn run(connection: &Connection, pragma: &str) -> rusqlite::Result<Log> {
    connection.prepare_cached(pragma)?.query_row([], |row| Ok(Log { busy: row.get(0)?, frames: row.get(1)? }))
}
