//! What can go wrong with a database file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A failure of opening, reading or writing a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be opened as a database: missing rights, a lock, a file system without shared memory.
    #[error("could not open the database {}", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A file (the database, or a copy of it) could not be created or put in its place.
    #[error("could not create the file {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The database was written by a newer version of its owner. Nothing was changed.
    #[error("the database {} has version {found}, the newest known is {known}", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// `user_version` of the file.
        found: i32,
        /// The number of migrations known.
        known: usize,
    },
    /// The file is not a database, or its header or schema is damaged. Nothing was changed.
    #[error("the database {} is damaged", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A migration failed and was rolled back; those before it stay.
    #[error("migration {number} ({name}) failed")]
    Migration {
        /// The version the migration leads to.
        number: u32,
        /// Its name.
        name: &'static str,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A copy of the database could not be written.
    #[error("could not back up the database to {}", to.display())]
    Backup {
        /// Where the copy was to be.
        to: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A thread could not be started.
    #[error("could not start a database thread")]
    Thread(#[source] io::Error),
    /// A statement failed.
    #[error("a database statement failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The transaction of the group could not be begun or committed: nothing of the job can be read. After a failed
    /// sync of the disk it can come back only if the process ends before the next commit.
    #[error("could not commit to the database")]
    Commit(#[source] Arc<rusqlite::Error>),
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
    /// The job panicked; its changes were rolled back.
    #[error("a database job panicked")]
    Panicked,
}
