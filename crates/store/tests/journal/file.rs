//! The file as a whole: its schema, its copies, what is refused.

use std::path::Path;

use stakpak_agent_core::{Journal, JournalError};
use stakpak_store::SqliteJournal;

use crate::fixture::{append, event, make, message};

/// A change here is a new migration, never an edit of one that was released.
#[test]
fn the_schema_is_as_released() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    drop(SqliteJournal::open(&file).unwrap());
    let raw = rusqlite::Connection::open(&file).unwrap();
    let mut select =
        raw.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type DESC, name").unwrap();
    let schema: Vec<String> = select.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    insta::assert_snapshot!(schema.join(";\n"));
}

/// A file of the first version keeps every row.
#[test]
fn rows_of_the_first_version_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    let rows = |raw: &rusqlite::Connection| {
        let mut select = raw
            .prepare("SELECT session, seq, class, message_index, crc, kind, payload FROM records ORDER BY session, seq")
            .unwrap();
        let row = |row: &rusqlite::Row<'_>| (0..7).map(|column| row.get(column)).collect::<Result<Vec<_>, _>>();
        select.query_map((), row).unwrap().collect::<Result<Vec<Vec<rusqlite::types::Value>>, _>>().unwrap()
    };
    let runs = |raw: &rusqlite::Connection| -> Vec<(i64, String)> {
        let mut select = raw.prepare("SELECT session, run FROM runs ORDER BY session").unwrap();
        select.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let raw = rusqlite::Connection::open(&file).unwrap();
    raw.execute_batch(include_str!("../../migrations/0001_journal.sql")).unwrap();
    raw.execute_batch(
        "PRAGMA user_version = 1;
         INSERT INTO records VALUES (2, 1, 1, NULL, 11, 'a', 'x'), (1, 2, 0, 0, 12, 'b', 'y'), (1, 1, 1, NULL, 13, 'c', 'z');
         INSERT INTO runs VALUES (2, x'02', 'second'), (1, x'01', 'first');",
    )
    .unwrap();
    let before = (rows(&raw), runs(&raw));
    drop(raw);
    drop(SqliteJournal::open(&file).unwrap());
    let raw = rusqlite::Connection::open(&file).unwrap();
    assert_eq!((rows(&raw), runs(&raw)), before);
    assert_eq!(before.0.len(), 3);
}

/// A place in the history is given once.
#[tokio::test]
async fn a_second_message_at_one_place_is_refused() {
    let journal = SqliteJournal::open_in_memory().unwrap();
    let mut session = make(&journal).await;
    journal.append(append(&journal, &mut session, vec![message(1, 0, "first")])).await.unwrap();
    let rows = vec![event(2, "before it"), message(3, 0, "second")];
    let refused = journal.append(append(&journal, &mut session.clone(), rows)).await;
    assert!(matches!(refused, Err(JournalError::Storage(_))), "{refused:?}");
    assert_eq!(journal.session(session.id).await.unwrap(), Some(session.clone()));
    journal.append(append(&journal, &mut session, vec![message(2, 1, "second")])).await.unwrap();
}

/// A copy made while the journal is in use is a journal.
#[tokio::test]
async fn a_backup_opens() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    let journal = SqliteJournal::open(&folder.path().join("journal.db")).unwrap();
    let mut session = make(&journal).await;
    journal.append(append(&journal, &mut session, vec![message(1, 0, "kept")])).await.unwrap();
    journal.backup(&copy).await.unwrap();
    let more = append(&journal, &mut session.clone(), vec![message(2, 1, "later")]);
    journal.append(more).await.unwrap();

    let restored = SqliteJournal::open(&copy).unwrap();
    assert!(restored.epoch() > journal.epoch());
    assert_eq!(restored.session(session.id).await.unwrap(), Some(session.clone()));
    assert_eq!(restored.message_rows(session.id, 0, 9).await.unwrap(), [message(1, 0, "kept")]);
}

/// Opening says what is wrong and blames the journal.
#[test]
fn a_file_that_is_no_journal_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    std::fs::write(&file, "not a database, but somebody's text").unwrap();
    let error = SqliteJournal::open(Path::new(&file)).unwrap_err();
    assert_eq!(error.to_string(), "could not open the journal");
    assert_eq!(std::fs::read(&file).unwrap(), b"not a database, but somebody's text");
}
