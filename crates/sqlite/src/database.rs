//! The handle that users of a database hold.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use crate::checkpoint::Checkpointer;
use crate::group::Request;
use crate::reader::Readers;
use crate::stats::Stats;
use crate::writer::Writer;
use crate::{Error, Migration, backup, migrate, open};

/// An open database; clones share it. It closes with its last handle, or with [`Database::close`].
#[derive(Clone, Debug)]
pub struct Database {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: Writer,
    /// None in memory, where there is only the writer's connection.
    readers: Option<Arc<Readers>>,
}

impl Database {
    /// Opens the file, or creates it with mode 0600 whatever the umask, and brings it to the newest version. Blocks; a
    /// few milliseconds when there is nothing to migrate. A file of an older version is first copied to
    /// `<file>.bak-v<old>`.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::Newer`] leave every byte of the file as it was.
    pub fn open(path: &Path, migrations: &'static [Migration]) -> Result<Self, Error> {
        Self::open_with(path, migrations, |_| Ok(()))
    }

    /// As [`Self::open`], with a look at the migrated file before anybody can read or write it: for what a migration cannot say in
    /// SQL. It runs at every open, in a transaction only where it begins one.
    ///
    /// # Errors
    /// As [`Self::open`], and what `prepare` fails with.
    pub fn open_with(
        path: &Path,
        migrations: &'static [Migration],
        prepare: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Self, Error> {
        let mut connection = open::writer(path, migrations.len())?;
        migrate::run(&connection, Some(path), migrations)?;
        prepare(&connection)?;
        let checkpointer = Checkpointer::start(open::checkpointer(path)?, &mut connection)?;
        let readers = Readers::new(path.into());
        let writer = Writer::start(connection, Some(checkpointer), Some(Arc::clone(&readers)))?;
        Ok(Self { inner: Arc::new(Inner { writer, readers: Some(readers) }) })
    }

    /// Opens a new database in memory that nobody else can see. Its reads wait for their turn among the writes.
    ///
    /// # Errors
    /// [`Error::Migration`], or a failure to start.
    pub fn open_in_memory(migrations: &'static [Migration]) -> Result<Self, Error> {
        Self::open_in_memory_with(migrations, |_| ())
    }

    /// As [`Self::open_in_memory`], with a look at the connection before the writer has it: for tests that watch what its
    /// statements do.
    ///
    /// # Errors
    /// As [`Self::open_in_memory`].
    pub fn open_in_memory_with(
        migrations: &'static [Migration],
        prepare: impl FnOnce(&mut Connection),
    ) -> Result<Self, Error> {
        let mut connection = open::in_memory()?;
        migrate::run(&connection, None, migrations)?;
        prepare(&mut connection);
        let writer = Writer::start(connection, None, None)?;
        Ok(Self { inner: Arc::new(Inner { writer, readers: None }) })
    }

    /// Runs `job` on the writer's thread, in one transaction with all other jobs that wait, and resolves once that is
    /// durable. A job that returns an error or panics is rolled back alone.
    ///
    /// The job must not end the transaction, leave a deferred constraint violated (the group would fail at its commit),
    /// or wait for this database. Once the future has been polled, the job runs even if the future is dropped.
    ///
    /// # Errors
    /// The job's own; [`Error::Commit`], [`Error::Panicked`], [`Error::Closed`] as `E`.
    pub async fn write<T, E>(&self, job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.send(job, true).await
    }

    /// Like [`Self::write`], at about two thirds of the cost: for jobs that check first, and then fail only when SQLite does. A
    /// job that fails after it has changed something takes the other jobs of its group with it; none of them is written.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_unguarded<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.send(job, false).await
    }

    async fn send<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        guarded: bool,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (request, answer) = Request::new(job, guarded);
        self.inner.writer.send(request)?;
        answer.await.unwrap_or_else(|_| Err(E::from(Error::Closed)))
    }

    /// Runs `job` on a read-only connection on a blocking thread of the Tokio runtime. It sees one snapshot, with every
    /// write that had resolved before.
    ///
    /// # Errors
    /// The job's own; [`Error::Open`], [`Error::Panicked`], [`Error::Closed`] as `E`.
    pub async fn read<T, E>(&self, job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        match &self.inner.readers {
            Some(readers) => readers.read(job).await,
            None => self.write(move |connection| without_writing(connection, job)).await,
        }
    }

    /// Copies the database to `to` (mode 0600) while it stays in use. The copy appears whole or not at all and replaces
    /// an older one. The write-ahead log cannot start over meanwhile and may exceed its limit.
    ///
    /// # Errors
    /// [`Error::Backup`], always for a database in memory; [`Error::Create`], also if `to` is a database in use.
    pub async fn backup(&self, to: &Path) -> Result<(), Error> {
        let to = to.to_owned();
        self.read(move |source| backup::copy(source, &to)).await
    }

    /// What the writer has done since the database was opened.
    pub fn stats(&self) -> Stats {
        self.inner.writer.stats()
    }

    /// Closes the database for all its handles: runs the writes that wait, moves the log into the file and ends the
    /// threads. Blocks until then. Reads that run come to their end on their own.
    pub fn close(self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        if let Some(readers) = &self.readers {
            readers.close();
        }
        self.writer.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn without_writing<T, E: From<Error>>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    struct Restore<'a>(&'a Connection);
    impl Drop for Restore<'_> {
        fn drop(&mut self) {
            if let Err(error) = self.0.pragma_update(None, "query_only", false) {
                tracing::error!(%error, "could not allow writes again");
            }
        }
    }
    connection.pragma_update(None, "query_only", true).map_err(Error::Sqlite)?;
    let _restore = Restore(connection);
    job(connection)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn a_database_that_rests_closes_its_readers() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("db"), &[]).unwrap();
        let readers = database.inner.readers.clone().unwrap();
        let version =
            || database.read(|connection| Ok::<_, Error>(connection.pragma_query_one::<i64>(None, "user_version")?));
        database.write(|_| Ok::<_, Error>(())).await.unwrap();
        assert_eq!((version().await.unwrap(), readers.idle()), (0, 1));
        let started = Instant::now();
        while readers.idle() > 0 {
            assert!(started.elapsed() < Duration::from_secs(30), "the reader is still open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(version().await.unwrap(), 0, "another is opened");
    }
}
