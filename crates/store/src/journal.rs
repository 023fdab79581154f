//! The journal as the agent uses it: each call is one job of the database.

use std::{fmt, io, path::Path, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::Connection;
use stakpak_agent_core::{
    Append, Clock, EventRecord, Journal, JournalError, NewSession, Receipt, Row, SessionPage, SessionQuery, SessionRow,
    Snapshot, Spending, SystemClock,
};
use stakpak_protocol::{EventId, Run, RunId, SessionId};
use stakpak_sqlite::{Database, Stats};

use crate::{
    append::{PreparedAppend, PreparedSession},
    failure::Failure,
    listing,
    owners::Owners,
    receipt,
    recent::Recent,
    record,
    schema::MIGRATIONS,
    session, snapshot, spending,
};

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file could not be opened; if it is damaged or from a newer version, it was not changed.
    #[error("could not open the journal")]
    Database(#[from] stakpak_sqlite::Error),
    /// The file is open, but no epoch could be taken.
    #[error("could not take an epoch of the journal")]
    Epoch(#[source] JournalError),
    /// What tells other processes that this one lives could not be written.
    #[error("could not lock a file of its own beside the journal")]
    Owner(#[from] io::Error),
}

/// The journal in a SQLite file. Clones share it; it closes with the last.
///
/// Reads, and dropping the last clone, need what [`Database`] needs: a Tokio runtime, and a moment for the checkpoint.
#[derive(Clone)]
pub struct SqliteJournal {
    database: Database,
    epoch: u64,
    clock: Arc<dyn Clock>,
    recent: Arc<Recent>,
    /// None: other processes cannot tell whether this one lives.
    owners: Option<Arc<Owners>>,
}

impl SqliteJournal {
    /// Opens or creates the file and takes the next epoch, durably. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::own(Database::open(path, MIGRATIONS)?)
    }

    /// The same for processes that use the file side by side, known to each other by lock files in `owners`: sessions that
    /// one of them wrote last stay its own while it lives. `name` is what the others call this one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_beside_others(path: &Path, owners: &Path, name: &str) -> Result<Self, OpenError> {
        let owners = Owners::prepare(owners, name)?;
        let journal = Self::open(path)?;
        let owners = Some(Arc::new(owners.take(journal.epoch)?));
        Ok(Self { owners, ..journal })
    }

    /// A journal that lives as long as its last clone.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_in_memory() -> Result<Self, OpenError> {
        Self::own(Database::open_in_memory(MIGRATIONS)?)
    }

    /// Decides with `clock`, not with the machine's, whether the key of an append is free again.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Copies the journal to `to` while it stays in use. The copy appears whole or not at all and replaces an older one.
    ///
    /// # Errors
    /// The copy could not be written, or `to` is a database in use.
    pub async fn backup(&self, to: &Path) -> Result<(), stakpak_sqlite::Error> {
        self.database.backup(to).await
    }

    /// What the writer has done since the journal was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.database.stats()
    }

    fn own(database: Database) -> Result<Self, OpenError> {
        let epoch = futures_executor::block_on(database.write(take_epoch));
        let epoch = epoch.map_err(|failure| OpenError::Epoch(failure.into()))?;
        Ok(Self { database, epoch, clock: Arc::new(SystemClock), recent: Arc::new(Recent::new()), owners: None })
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, JournalError> {
        Ok(self.database.write(job).await?)
    }

    /// What is known of a session in memory is no longer so.
    pub(crate) fn forget_recent(&self, session: SessionId) {
        self.recent.forget(session);
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, JournalError> {
        Ok(self.database.read(job).await?)
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn create_session(&self, new: NewSession) -> Result<(), JournalError> {
        let row = new.session.clone();
        let new = PreparedSession::new(self.epoch, new, self.clock.now())?;
        self.write(move |conn| new.write(conn)).await?;
        self.recent.put(row);
        Ok(())
    }

    async fn append(&self, append: Append) -> Result<(), JournalError> {
        let row = append.session.clone();
        self.recent.forget(row.id);
        let append = PreparedAppend::new(append, self.clock.now())?;
        let owners = self.owners.clone();
        self.database.write_unguarded(move |conn| append.write(conn, owners.as_deref())).await?;
        self.recent.put(row);
        Ok(())
    }

    async fn claim(&self, id: SessionId) -> Result<(), JournalError> {
        let Some(owners) = self.owners.clone().filter(|_| self.recent.get(id).is_none()) else { return Ok(()) };
        let own = self.epoch;
        self.read(move |conn| Ok(owners.may_write(id, own, session::head(conn, id)?.epoch)?)).await
    }

    async fn probe(&self) -> Result<(), JournalError> {
        self.write(count_probe).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, JournalError> {
        match self.recent.get(id) {
            Some(row) => Ok(Some(row)),
            None => self.read(move |conn| session::find(conn, id)).await,
        }
    }

    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, JournalError> {
        self.read(move |conn| listing::page(conn, &query)).await
    }

    async fn open_sessions(&self) -> Result<Vec<SessionRow>, JournalError> {
        self.read(session::open).await
    }

    async fn control_rows(&self, id: SessionId, from: u64, to: u64) -> Result<Vec<Row>, JournalError> {
        self.read(move |conn| record::control(conn, id, from, to)).await
    }

    async fn snapshot(&self, id: SessionId) -> Result<Option<Snapshot>, JournalError> {
        self.read(move |conn| snapshot::find(conn, id)).await
    }

    async fn message_rows(&self, id: SessionId, from: u64, to: u64) -> Result<Vec<Row>, JournalError> {
        self.read(move |conn| record::messages(conn, id, from, to)).await
    }

    async fn events(&self, id: SessionId, after: EventId, max_bytes: usize) -> Result<Vec<EventRecord>, JournalError> {
        self.read(move |conn| record::events(conn, id, after, max_bytes)).await
    }

    async fn run(&self, session: SessionId, run: RunId) -> Result<Option<Run>, JournalError> {
        self.read(move |conn| session::find_run(conn, session, run)).await
    }

    async fn active_runs(&self) -> Result<Vec<Run>, JournalError> {
        self.read(listing::active_runs).await
    }

    async fn spent(&self, profile: &str, since: DateTime<Utc>) -> Result<Spending, JournalError> {
        let profile = profile.to_owned();
        self.read(move |conn| spending::since(conn, &profile, since)).await
    }

    async fn receipt(&self, scope: &str, now: DateTime<Utc>) -> Result<Option<Receipt>, JournalError> {
        let scope = scope.to_owned();
        self.read(move |conn| receipt::find(conn, &scope, now)).await
    }
}

impl fmt::Debug for SqliteJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteJournal").field("database", &self.database).field("epoch", &self.epoch).finish()
    }
}

fn take_epoch(conn: &Connection) -> Result<u64, Failure> {
    let epoch = "UPDATE meta SET value = value + 1 WHERE key = 'epoch' RETURNING value";
    Ok(conn.query_row(epoch, (), |columns| columns.get(0))?)
}

/// Counted, because a row that stays the same is not written at all.
fn count_probe(conn: &Connection) -> Result<(), Failure> {
    let count = "INSERT INTO meta (key, value) VALUES ('probes', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1";
    conn.prepare_cached(count)?.execute(())?;
    Ok(())
}
