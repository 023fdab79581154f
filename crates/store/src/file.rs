//! The journal's file beside its owner: looked at and copied, never changed. No epoch is taken.

use std::path::{Path, PathBuf};

use stakpak_sqlite::ReadOnly;

use crate::{
    inspect::{Health, inspect},
    schema::MIGRATIONS,
};

/// Why a journal's file could not be looked at or copied. It was not changed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is no database or torn, may not be read, or the copy could not be written.
    #[error(transparent)]
    Database(#[from] stakpak_sqlite::Error),
    /// A database, but no journal.
    #[error("{} is a database, but not a journal", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A journal of another version.
    #[error("the journal {} has version {found}, this program reads version {known}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Version of the file.
        found: i32,
        /// The version that can be read.
        known: usize,
    },
    /// The copy would have been damaged, and was thrown away.
    #[error("the copy would be damaged ({0}); an older copy was not replaced")]
    Copy(Box<Health>),
}

/// A journal's file, opened for reading only; its owner may be at work.
#[derive(Debug)]
pub struct JournalFile {
    file: ReadOnly,
}

impl JournalFile {
    /// Opens a file that exists.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn open_read_only(path: &Path) -> Result<Self, FileError> {
        let file = ReadOnly::open(path)?;
        let found = file.version()?;
        if found == 0 {
            return Err(FileError::Foreign { path: path.into() });
        }
        let known = MIGRATIONS.len();
        if usize::try_from(found) != Ok(known) {
            return Err(FileError::Version { path: path.into(), found, known });
        }
        Ok(Self { file })
    }

    /// Looks at every page and every row, a session at a time, so that the owner's log can start over in between.
    #[must_use]
    pub fn check(&self) -> Health {
        inspect(self.file.connection())
    }

    /// Copies the journal as it is at one moment to `to` (mode 0600), replacing what is there, and looks at every page and row
    /// of the copy before it gets its name.
    ///
    /// # Errors
    /// The copy could not be written, would be damaged, or `to` is a database in use.
    pub fn backup(&self, to: &Path) -> Result<Health, FileError> {
        self.file.backup(to, |copy| {
            let health = inspect(copy);
            if health.is_whole() { Ok(health) } else { Err(FileError::Copy(Box::new(health))) }
        })
    }
}
