//! Reading connections, opened when first needed and kept until the database rests.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::{Error, open};

/// More readers than this would wait for the same disk and processors.
const MOST_READERS: usize = 4;

/// The readers of one file.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(MOST_READERS));
        Arc::new(Self { path, idle: Mutex::default(), permits })
    }

    pub(crate) async fn read<T, E, F>(self: &Arc<Self>, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Error::Closed)?;
        let readers = Arc::clone(self);
        let running = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            readers.run(job)
        });
        running
            .await
            .unwrap_or_else(|failure| Err(E::from(if failure.is_panic() { Error::Panicked } else { Error::Closed })))
    }

    /// Refuses new reads; those that run come to their end.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Closes the connections that nobody uses: they are cheap to open, and each holds pages and statements.
    pub(crate) fn rest(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    #[cfg(test)]
    pub(crate) fn idle(&self) -> usize {
        self.idle.lock().unwrap().len()
    }

    /// A connection whose job panics is dropped with it, and its transaction with the connection.
    fn run<T, E: From<Error>>(&self, job: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = waiting.map_or_else(|| open::reader(&self.path), Ok)?;
        execute(&connection, "BEGIN").map_err(Error::Sqlite)?;
        let outcome = job(&connection);
        if execute(&connection, "ROLLBACK").is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            // Asked under the lock, so that no connection outlives `close`.
            if !self.permits.is_closed() {
                idle.push(connection);
            }
        }
        outcome
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
