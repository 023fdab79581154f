//! A database file as one who only looks sees it: also beside the process that owns it, also when it is damaged.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::{Error, backup, open};

/// A connection that cannot change the file. SQLite may leave an empty log and its index beside it, as for any reader.
#[derive(Debug)]
pub struct ReadOnly {
    connection: Connection,
    path: PathBuf,
}

impl ReadOnly {
    /// Opens a file that exists. Only its header and its schema are looked at.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is no database, or torn; [`Error::Open`] if it is missing or may not be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { connection: open::read_only(path)?, path: path.into() })
    }

    /// The connection. A transaction that is held hinders the owner's log from starting over.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of migrations that the file has seen; 0 for a database of somebody else.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn version(&self) -> Result<i32, Error> {
        Ok(self.connection.pragma_query_one(None, "user_version")?)
    }

    /// Copies one snapshot to `to` (mode 0600), replacing an older copy. The copy is put in its place only when `check` is
    /// content with it.
    ///
    /// # Errors
    /// [`Error::Backup`], [`Error::Create`] (also if `to` is a database in use) as `E`, or that of `check`.
    pub fn backup<T, E: From<Error>>(
        &self,
        to: &Path,
        check: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let partial = backup::prepare(&self.connection, to)?;
        let checked = backup::reopen(&partial, to).map_err(E::from).and_then(|copy| check(&copy));
        match checked {
            Ok(answer) => backup::publish(&partial, to).map(|()| answer).map_err(E::from),
            Err(error) => {
                let removed = fs::remove_file(&partial);
                removed.unwrap_or_else(|error| tracing::warn!(%error, path = %partial.display(), "not removed"));
                Err(error)
            }
        }
    }
}
