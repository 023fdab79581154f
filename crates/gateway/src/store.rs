//! `gateway.db`: everything of the gateway that survives the process.
//!
//! * Each public method is one transaction; what it wrote is durable when it returns.
//! * Waiting work lives here, not in memory: an actor that stops forgets nothing.
//! * `sessions` and `delivery_context` have the columns of 0.3.x. Times are Unix ms.

mod access;
mod admission;
mod ages;
mod approvals;
mod audit;
mod away;
mod commands;
mod decide;
mod inbound;
mod inspect;
mod migrated;
mod notice;
mod outbox;
mod pairing;
mod placed;
mod prompts;
mod prune;
mod runs;
#[cfg(test)]
mod scans;
mod schema;
mod sends;
mod sessions;
mod sightings;
mod strangers;
mod unconsumed;
mod undelivered;

use std::path::Path;

use stakpak_sqlite::{Database, rusqlite};

pub use access::{AccessEntry, Origin, Subject};
pub(crate) use admission::Admission;
pub use ages::QueueAges;
pub(crate) use approvals::{Approval, AskedFor, Decision, LostPrompt, Stage};
pub use audit::AuditEntry;
pub(crate) use commands::{Change, CommandRow, Standing};
pub(crate) use decide::{Refused, Resolution, Wish};
pub(crate) use inbound::{Arrival, Gate, IntakeBatch, Knock, NewInbox, NewPress, Pressed};
pub use inspect::StoreReport;
pub(crate) use migrated::Migration;
pub(crate) use outbox::{Content, NewPart, Part};
pub use pairing::{Pairing, Settled};
pub(crate) use prompts::PromptState;
pub use runs::QueueCounts;
pub(crate) use runs::{Batch, BatchKind, EndedRun, OpenRun, Payload, Request, RunOptions, Work};
pub(crate) use sends::{Delivery, KnownSend, NewSend, PartState};
pub use sessions::SessionMapping;
pub(crate) use sightings::{Page, SessionSighting};
pub(crate) use strangers::Refusal;
pub use strangers::Stranger;
pub use undelivered::Undelivered;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database.
    #[error("the gateway store failed")]
    Database(#[from] stakpak_sqlite::Error),
    /// A value cannot be kept as JSON, or one that was kept cannot be read.
    #[error("a value of the gateway store is not readable")]
    Json(#[from] serde_json::Error),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.into())
    }
}

/// The gateway's tables. Clones share them.
#[derive(Debug, Clone)]
pub struct GatewayStore {
    database: Database,
}

impl GatewayStore {
    /// Opens the file, or creates it readable to its owner only.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: Database::open(path, schema::MIGRATIONS)? })
    }

    /// A store that ends with its last handle.
    pub fn open_in_memory() -> Result<Self, StoreError> {
        Ok(Self { database: Database::open_in_memory(schema::MIGRATIONS)? })
    }

    /// Closes the file for all handles.
    pub fn close(&self) {
        self.database.clone().close();
    }
}
