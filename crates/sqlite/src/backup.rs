//! Copying a database while it is in use.
//!
//! The copy is written under another name, synced, and then renamed: a file of the wanted name is always whole.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ffi};

use crate::{Error, open};

/// Copies the snapshot that `source` reads to `to`, replacing an older copy, but not a database in use.
pub(crate) fn copy(source: &Connection, to: &Path) -> Result<(), Error> {
    let partial = prepare(source, to)?;
    publish(&partial, to)
}

/// Writes the copy under the name that it has until it is published.
pub(crate) fn prepare(source: &Connection, to: &Path) -> Result<PathBuf, Error> {
    let uncreated = |source| Error::Create { path: to.into(), source };
    if open::beside(to, "-wal").exists() {
        return Err(uncreated(io::Error::new(ErrorKind::AlreadyExists, "it is a database in use")));
    }
    let partial = open::beside(to, ".partial");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => removed.map_err(uncreated)?,
    }
    open::create_private(&partial).map_err(uncreated)?;
    fill(source, &partial).map_err(|source| Error::Backup { to: to.into(), source })?;
    Ok(partial)
}

/// Opens a copy that nobody else knows yet, to look at it. With the rights to write, its side files go when it is closed.
pub(crate) fn reopen(partial: &Path, to: &Path) -> Result<Connection, Error> {
    let failed = |source| Error::Backup { to: to.into(), source };
    let copy = Connection::open(partial).map_err(failed)?;
    copy.pragma_update(None, "query_only", true).map_err(failed)?;
    Ok(copy)
}

/// Puts the copy in its place, durably.
pub(crate) fn publish(partial: &Path, to: &Path) -> Result<(), Error> {
    sync_and_rename(partial, to).map_err(|source| Error::Create { path: to.into(), source })
}

fn fill(source: &Connection, partial: &Path) -> rusqlite::Result<()> {
    let mut copy = Connection::open(partial)?;
    // A copy that fails is thrown away, so it needs no journal; it is synced once, at the end.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    // One step: with several, every commit in between would start the copy over.
    match Backup::new(source, &mut copy)?.step(-1)? {
        StepResult::Done => {}
        _ => return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)),
    }
    copy.close().map_err(|(_, source)| source)
}

fn sync_and_rename(partial: &Path, to: &Path) -> io::Result<()> {
    File::open(partial)?.sync_all()?;
    fs::rename(partial, to)?;
    match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
