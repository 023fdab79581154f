//! Keeping the write-ahead log small without making commits wait.
//!
//! * Past [`SOFT_LIMIT`] a thread of its own copies the log into the database (`PASSIVE`: blocks nobody). When it catches
//!   up with the writer, the next commit starts the log over.
//! * A writer that never pauses is never caught up with. Past [`HARD_LIMIT`] it therefore stops between two groups until
//!   the little that is left is copied and no reader needs the log (`RESTART`).
//! * A group adds at most about 1 MiB (see `group`), so the log stays under 4 MiB unless one job or a long read
//!   exceeds it; afterwards it is cut back.

use std::ffi::c_int;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

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
    /// Pages in the log after the last commit that wrote; SQLite tells the writer's connection.
    logged: Arc<AtomicI64>,
    frame: i64,
    restart_at: i64,
}

impl Checkpointer {
    /// For the log that `writer` writes, with a connection of its own.
    pub(crate) fn start(connection: Connection, writer: &mut Connection) -> Result<Self, Error> {
        let logged = Arc::new(AtomicI64::new(0));
        let told = Arc::clone(&logged);
        writer.wal_hook(Some(move |_: &mut Wal, pages: c_int| {
            told.store(pages.into(), Ordering::Relaxed);
            Ok(())
        }))?;
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
        Ok(Self { connection, signal, thread, logged, frame: page + FRAME_HEADER, restart_at: HARD_LIMIT })
    }

    /// Looks at the log after a commit.
    pub(crate) fn after_commit(&mut self) {
        let size = self.logged.load(Ordering::Relaxed) * self.frame;
        if size < HARD_LIMIT {
            self.restart_at = HARD_LIMIT;
        }
        if size >= self.restart_at {
            if checkpoint(&self.connection, "PRAGMA wal_checkpoint(RESTART)") {
                self.restart_at = HARD_LIMIT;
                self.logged.store(0, Ordering::Relaxed);
            } else {
                self.restart_at = size + SOFT_LIMIT;
            }
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
    match connection.query_row(pragma, [], |row| row.get::<_, bool>("busy")) {
        Ok(busy) => !busy,
        Err(error) => {
            tracing::warn!(%error, pragma, "checkpoint failed; the write-ahead log grows until one succeeds");
            false
        }
    }
}
