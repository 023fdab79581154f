//! What is created, what is migrated, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use stakpak_sqlite::rusqlite::Connection;
use stakpak_sqlite::{Database, Error, Migration};

const FIRST: &[Migration] = &[Migration { name: "note", sql: "CREATE TABLE note (id INTEGER PRIMARY KEY)" }];
const SECOND: &[Migration] = &[
    FIRST[0],
    Migration {
        name: "reply",
        sql: "CREATE TABLE reply (note INTEGER NOT NULL REFERENCES note (id) ON DELETE CASCADE); \
              INSERT INTO reply SELECT id FROM note",
    },
];
/// Rebuilds a table that others refer to.
const THIRD: &[Migration] = &[
    FIRST[0],
    SECOND[1],
    Migration {
        name: "note text",
        sql: "CREATE TABLE new (id INTEGER PRIMARY KEY, text TEXT); \
              INSERT INTO new SELECT id, 'none' FROM note; \
              DROP TABLE note; ALTER TABLE new RENAME TO note",
    },
];
const BROKEN: &[Migration] =
    &[FIRST[0], Migration { name: "broken", sql: "CREATE TABLE half (id INTEGER); INSERT INTO nowhere VALUES (1)" }];
const ORPHANING: &[Migration] = &[FIRST[0], SECOND[1], Migration { name: "orphaning", sql: "DELETE FROM note" }];

async fn insert(database: &Database) {
    let job = |connection: &Connection| {
        connection.execute("INSERT INTO note DEFAULT VALUES", [])?;
        Ok::<_, Error>(())
    };
    database.write(job).await.unwrap();
}

fn count(path: &Path, sql: &str) -> i64 {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Copies the database and its log as they are, as a crash would leave them.
fn crash_image(from: &Path, to: &Path) {
    for name in ["a.db", "a.db-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[tokio::test]
async fn files_are_private_and_fully_synced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = Database::open(&path, FIRST).unwrap();
    insert(&database).await;
    database.backup(&folder.path().join("copy.db")).await.unwrap();
    for name in ["a.db", "a.db-wal", "a.db-shm", "copy.db"] {
        let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let pragmas = |connection: &Connection| {
        let pragma = |name| connection.pragma_query_one::<i64>(None, name);
        Ok::<_, Error>([
            pragma("synchronous")?,
            pragma("foreign_keys")?,
            pragma("busy_timeout")?,
            pragma("wal_autocheckpoint")?,
        ])
    };
    assert_eq!(database.write(pragmas).await.unwrap(), [2, 1, 5000, 0]);
}

#[tokio::test]
async fn a_resolved_write_survives_without_a_close() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("a.db"), FIRST).unwrap();
    insert(&database).await;
    let crashed = tempfile::tempdir().unwrap();
    crash_image(folder.path(), crashed.path());
    let path = crashed.path().join("a.db");
    Database::open(&path, FIRST).unwrap().close();
    assert_eq!(count(&path, "SELECT count(*) FROM note"), 1);
}

#[tokio::test]
async fn migrations_keep_rows_and_leave_a_copy_of_the_old_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = Database::open(&path, FIRST).unwrap();
    insert(&database).await;
    database.close();
    assert_eq!(files(folder.path()).into_keys().collect::<Vec<_>>(), ["a.db"], "nothing to copy yet");

    // From a log that was never moved into the file: the copy must hold it too.
    let database = Database::open(&path, FIRST).unwrap();
    insert(&database).await;
    let crashed = tempfile::tempdir().unwrap();
    crash_image(folder.path(), crashed.path());
    let path = crashed.path().join("a.db");
    Database::open(&path, THIRD).unwrap().close();

    assert_eq!(count(&path, "PRAGMA user_version"), 3);
    assert_eq!(count(&path, "SELECT count(*) FROM note WHERE text = 'none'"), 2);
    assert_eq!(count(&path, "SELECT count(*) FROM reply"), 2, "the rebuild must not cascade");
    let copy = crashed.path().join("a.db.bak-v1");
    assert_eq!(count(&copy, "PRAGMA user_version"), 1);
    assert_eq!(count(&copy, "SELECT count(*) FROM note"), 2);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_failed_migration_is_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = Database::open(&path, SECOND).unwrap();
    insert(&database).await;
    let job = |connection: &Connection| connection.execute("INSERT INTO reply VALUES (1)", []).map_err(Error::from);
    database.write(job).await.unwrap();
    database.close();

    let outcome = Database::open(&path, ORPHANING);
    assert!(matches!(outcome, Err(Error::Migration { number: 3, name: "orphaning", .. })), "{outcome:?}");
    assert_eq!(count(&path, "SELECT count(*) FROM note"), 1);
    assert_eq!(count(&path, "PRAGMA user_version"), 2);

    let other = folder.path().join("b.db");
    Database::open(&other, FIRST).unwrap().close();
    let outcome = Database::open(&other, BROKEN);
    assert!(matches!(outcome, Err(Error::Migration { number: 2, name: "broken", .. })), "{outcome:?}");
    assert_eq!(count(&other, "SELECT count(*) FROM sqlite_schema WHERE name = 'half'"), 0);
    assert_eq!(count(&other, "PRAGMA user_version"), 1);
}

#[tokio::test]
async fn a_newer_version_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = Database::open(&path, SECOND).unwrap();
    insert(&database).await;
    let crashed = tempfile::tempdir().unwrap();
    crash_image(folder.path(), crashed.path());
    database.close();

    let refuse = |path: &Path| {
        let outcome = Database::open(path, FIRST);
        assert!(matches!(outcome, Err(Error::Newer { found: 2, known: 1, .. })), "{outcome:?}");
    };
    let before = files(folder.path());
    refuse(&path);
    assert_eq!(files(folder.path()), before);

    let before = files(crashed.path());
    refuse(&crashed.path().join("a.db"));
    let mut after = files(crashed.path());
    // The shared memory is an index of the log, built by whoever looks at it.
    after.remove("a.db-shm");
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_damaged_file_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = Database::open(&path, SECOND).unwrap();
    insert(&database).await;
    let crashed = tempfile::tempdir().unwrap();
    crash_image(folder.path(), crashed.path());
    database.close();
    let whole = fs::read(&path).unwrap();

    let mut garbled_schema = whole.clone();
    garbled_schema[100..200].fill(0xA5);
    let text = b"this is not a database, but somebody's notes\n".repeat(200);
    for bytes in [text, whole[..whole.len() / 2].to_vec(), garbled_schema] {
        fs::write(&path, bytes).unwrap();
        let before = files(folder.path());
        let outcome = Database::open(&path, SECOND);
        assert!(matches!(outcome, Err(Error::Damaged { .. })), "{outcome:?}");
        assert_eq!(files(folder.path()), before);
    }

    // SQLite would delete the log of an empty database.
    let orphan = crashed.path().join("a.db");
    for lose in [|path: &Path| fs::write(path, ""), |path: &Path| fs::remove_file(path)] {
        lose(&orphan).unwrap();
        let before = files(crashed.path());
        let outcome = Database::open(&orphan, SECOND);
        assert!(matches!(outcome, Err(Error::Damaged { .. })), "{outcome:?}");
        assert_eq!(files(crashed.path()), before);
    }
}

#[test]
fn a_missing_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = Database::open(&folder.path().join("missing/a.db"), FIRST);
    assert!(matches!(outcome, Err(Error::Create { .. })), "{outcome:?}");
}
