//! Opening connections: what is refused before anything is changed, and the pragmas of each kind of connection.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::Error;

/// Another process may hold the write lock for as long as one of its groups takes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages that a connection keeps. The system has the file in memory too: SQLite's usual 2 MiB for each of a dozen connections
/// would be most of what an idle instance holds. A writer has room for a group of jobs, or its pages go to the log twice.
const WRITER_CACHE_KIB: i64 = 1024;
const READER_CACHE_KIB: i64 = 256;

/// More than the distinct statements of any one user, so that none is compiled twice.
const CACHED_STATEMENTS: usize = 128;

/// What the log is cut back to when it starts over after it had to grow past the limit.
pub(crate) const WAL_LIMIT: i64 = 4 << 20;

/// Opens the writing connection of the file, creating it private to its owner. `known` is the newest version known.
pub(crate) fn writer(path: &Path, known: usize) -> Result<Connection, Error> {
    refuse_orphaned_log(path)?;
    match create_private(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        created => created.map_err(|source| Error::Create { path: path.into(), source })?,
    }
    let found_log = beside(path, "-wal").exists();
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, WRITER_CACHE_KIB)?;
    let failed = |source| refusal(path, source);
    // Until the file is accepted, closing it must not move the log of its last owner into it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, found_log).map_err(failed)?;
    accept(&connection, path, known)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed)?;
    configure_writer(&connection).map_err(failed)?;
    Ok(connection)
}

/// Opens a connection that checkpoints only.
pub(crate) fn checkpointer(path: &Path) -> Result<Connection, Error> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, WRITER_CACHE_KIB)?;
    sync_fully(&connection).map_err(|source| refusal(path, source))?;
    Ok(connection)
}

/// Opens a connection that can only read.
pub(crate) fn reader(path: &Path) -> Result<Connection, Error> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE_KIB)
}

/// Opens a connection that can only read, to a file that may be damaged and may have no owner.
pub(crate) fn read_only(path: &Path) -> Result<Connection, Error> {
    refuse_orphaned_log(path)?;
    let connection = reader(path)?;
    let failed = |source| refusal(path, source);
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(failed)?;
    Ok(connection)
}

/// Opens a database that lives and dies with its connection.
pub(crate) fn in_memory() -> Result<Connection, Error> {
    let connection = Connection::open_in_memory()?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// Creates an empty file that only its owner can read; one that exists is an error.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The mode given at creation is narrowed by the umask; SQLite gives its side files the mode of the database.
    fs::set_permissions(path, Permissions::from_mode(0o600))
}

/// The file next to `path` whose name continues with `suffix`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn open(path: &Path, access: OpenFlags, cache_kib: i64) -> Result<Connection, Error> {
    let failed = |source| refusal(path, source);
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.pragma_update(None, "cache_size", -cache_kib).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // Otherwise a statement whose plan may depend on a bound value is compiled anew for every value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    Ok(connection)
}

/// SQLite deletes a log whose database is empty. A database is on the disk before its log exists, so such a pair
/// means that the database was lost, and the log may be all that is left of it.
fn refuse_orphaned_log(path: &Path) -> Result<(), Error> {
    let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    if length(path) == 0 && length(&beside(path, "-wal")) > 0 {
        let reason = "the database is missing or empty, but its write-ahead log is not";
        let source = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_NOTADB), Some(reason.into()));
        return Err(Error::Damaged { path: path.into(), source });
    }
    Ok(())
}

/// Looks at header, version and schema without changing anything.
fn accept(connection: &Connection, path: &Path, known: usize) -> Result<(), Error> {
    let failed = |source| refusal(path, source);
    let found = connection.pragma_query_one::<i32>(None, "user_version").map_err(failed)?;
    if usize::try_from(found).map_or(true, |found| found > known) {
        return Err(Error::Newer { path: path.into(), found, known });
    }
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(failed)?;
    // SQLite falls back to reading when it may not write; better to fail now than at the first write.
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(failed)? {
        let source = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None);
        return Err(failed(source));
    }
    Ok(())
}

fn configure_writer(connection: &Connection) -> rusqlite::Result<()> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        let reason = format!("the file system allows only the journal mode {mode}");
        let code = ffi::Error::new(ffi::SQLITE_CANTOPEN);
        return Err(rusqlite::Error::SqliteFailure(code, Some(reason)));
    }
    sync_fully(connection)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Both answer with the new value.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_LIMIT, |_| Ok(()))
}

/// `fullfsync` makes a difference only on macOS, where fsync alone does not reach the disk.
fn sync_fully(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON")
}

fn refusal(path: &Path, source: rusqlite::Error) -> Error {
    let path = path.into();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Error::Damaged { path, source },
        _ => Error::Open { path, source },
    }
}
