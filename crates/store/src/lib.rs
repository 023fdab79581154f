//! The journal on SQLite: one file, one writer, every guarantee of [`Journal`](stakpak_agent_core::Journal).
//!
//! * Appends of all sessions that wait are committed together; each resolves after the sync of the disk.
//! * Every row carries a CRC32C, verified on every read: damage to a row is reported for its session, others go on.
//! * Each opening of the file takes a higher epoch, durably, before anything else can be written.
//! * Of processes that share the file, one that lives keeps its sessions: others read them and are refused to write.
//!
//! What it cannot tell: a commit that the disk lost from the end of the write-ahead log (a drive that lies about
//! syncing) looks like one that never was. Every commit before it is whole.

mod file;
mod inspect;
mod journal;

mod append;
mod listing;
mod owners;
mod receipt;
mod recent;
mod record;
mod session;
mod snapshot;
mod spending;
mod upkeep;

#[cfg(test)]
mod cost;
mod failure;
mod schema;

pub use file::{FileError, JournalFile};
pub use inspect::{Finding, Health};
pub use journal::{OpenError, SqliteJournal};
pub use stakpak_sqlite::{Distribution, Stats};
