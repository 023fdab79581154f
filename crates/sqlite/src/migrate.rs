//! Numbered migrations: `user_version` says how many have run.
//!
//! * Each runs in its own transaction together with its number, so that a version is never half there.
//! * A file that holds anything is copied to `<file>.bak-v<old>` before the first of them.
//! * Foreign keys are not enforced while one runs, because dropping a table that is being rebuilt would delete its
//!   children; they are checked as a whole before it commits.

use std::path::Path;

use rusqlite::{Connection, ffi};

use crate::{Error, backup, open};

/// One step of a schema. Its place in the list, counted from one, is the version it leads to.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// A few words for errors and logs.
    pub name: &'static str,
    /// Statements without `BEGIN` or `COMMIT`.
    pub sql: &'static str,
}

/// Brings the database to the newest version. Without a path (in memory) no copy is made.
pub(crate) fn run(connection: &Connection, path: Option<&Path>, migrations: &'static [Migration]) -> Result<(), Error> {
    let found = version(connection)?;
    let mut pending = (1..).zip(migrations).skip_while(|(number, _)| *number <= found).peekable();
    if pending.peek().is_none() {
        return Ok(());
    }
    if let Some(path) = path
        && !is_empty(connection)?
    {
        backup::copy(connection, &open::beside(path, &format!(".bak-v{found}")))?;
    }
    connection.pragma_update(None, "foreign_keys", false)?;
    for (number, migration) in pending {
        step(connection, number, migration).map_err(|source| Error::Migration {
            number,
            name: migration.name,
            source,
        })?;
        tracing::info!(number, name = migration.name, "migrated the database");
    }
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(())
}

/// After an error the caller drops the connection, which rolls back.
fn step(connection: &Connection, number: u32, migration: &Migration) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    // Another process may have been faster while this one waited for the lock.
    if version(connection)? < number {
        connection.execute_batch(migration.sql)?;
        if connection.prepare("PRAGMA foreign_key_check")?.exists([])? {
            let code = ffi::Error::new(ffi::SQLITE_CONSTRAINT_FOREIGNKEY);
            let reason = "rows refer to rows that do not exist".to_owned();
            return Err(rusqlite::Error::SqliteFailure(code, Some(reason)));
        }
        connection.pragma_update(None, "user_version", number)?;
    }
    connection.execute_batch("COMMIT")
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_one(None, "user_version")
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(!connection.prepare("SELECT 1 FROM sqlite_schema")?.exists([])?)
}
