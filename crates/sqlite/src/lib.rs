//! The one door to a database file: opening, pragmas, one writer thread with group commit, migrations, backup.
//!
//! * A [`Database`] owns one writing connection on its own thread. Jobs that wait while a transaction commits share
//!   the next one, so throughput grows with load while each job pays for one sync of the disk.
//! * [`Database::write`] resolves after the commit has reached the disk (WAL, `synchronous=FULL`), never before.
//! * Reads have their own read-only connections and each sees one snapshot. No async worker blocks on SQLite.
//! * The write-ahead log is kept under 4 MiB by checkpoints off the writer's path.
//! * A file that is damaged, or written by a newer version, is refused and left exactly as it was.
//! * No file descriptor of an open database may be opened and closed by other means in the same process: POSIX drops
//!   every lock of the process on that file then. This crate only asks for metadata by path.
//!
//! The crate knows no table of any crate: its users bring their [`Migration`]s and their SQL.

mod database;
mod error;

mod backup;
mod checkpoint;
mod group;
mod migrate;
mod open;
mod read_only;
mod reader;
mod stats;
mod writer;

pub use database::Database;
pub use error::Error;
pub use migrate::Migration;
pub use read_only::ReadOnly;
pub use rusqlite;
pub use stats::{Distribution, Stats};
