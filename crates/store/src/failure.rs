//! The error inside a database job: a [`JournalError`] that the database's own errors convert to.

use stakpak_agent_core::JournalError;

#[derive(Debug)]
pub(crate) struct Failure(JournalError);

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self(storage(error))
    }
}

impl From<stakpak_sqlite::Error> for Failure {
    fn from(error: stakpak_sqlite::Error) -> Self {
        Self(storage(error))
    }
}

impl From<Failure> for JournalError {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

/// The storage, or what should have gone into it, failed with `error`.
pub(crate) fn storage(error: impl std::error::Error + Send + Sync + 'static) -> JournalError {
    JournalError::Storage(Box::new(error))
}
