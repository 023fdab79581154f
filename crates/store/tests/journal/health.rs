//! Looking at a journal's file, and copying it, beside its owner.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use stakpak_agent_core::{Append, Journal, Progress, Retention, SessionRow, Snapshot, Upkeep};
use stakpak_store::{FileError, Health, JournalFile, SqliteJournal};

use crate::fixture::{append, event, make, message, talk};

fn look(file: &Path) -> Health {
    JournalFile::open_read_only(file).unwrap().check()
}

/// A journal in use with two sessions; the second holds five rows.
async fn in_use(folder: &tempfile::TempDir) -> (SqliteJournal, PathBuf, SessionRow) {
    let file = folder.path().join("journal.db");
    let journal = SqliteJournal::open(&file).unwrap();
    make(&journal).await;
    let mut session = make(&journal).await;
    session.message_count = 2;
    let rows = vec![message(1, 0, "asked"), event(2, "one"), event(3, "two"), message(4, 1, "told")];
    let snapshot = Some(Snapshot { seq: 4, version: 1, state: "{}".into() });
    journal.append(Append { snapshot, ..append(&journal, &mut session, rows) }).await.unwrap();
    journal.append(append(&journal, &mut session, vec![event(5, "end")])).await.unwrap();
    (journal, file, session)
}

/// The owner keeps its epoch and goes on; what is in the log only is in the copy.
#[tokio::test]
async fn a_copy_beside_the_owner_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, file, mut session) = in_use(&folder).await;
    assert!(fs::metadata(folder.path().join("journal.db-wal")).unwrap().len() > 0);
    let to = folder.path().join("copy.db");
    let copied = JournalFile::open_read_only(&file).unwrap().backup(&to).unwrap();
    assert_eq!((copied.sessions, copied.rows, copied.bytes), (2, 5, fs::metadata(&to).unwrap().len()));
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    journal.append(append(&journal, &mut session, vec![event(6, "more")])).await.unwrap();
    assert_eq!((look(&file).rows, look(&to)), (6, copied));
    let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.retain(|name| name.to_string_lossy().contains("partial"));
    assert!(left.is_empty(), "{left:?}");
}

/// A damaged journal does not replace a good copy.
#[tokio::test]
async fn a_copy_that_would_be_damaged_is_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let (_journal, file, _) = in_use(&folder).await;
    let to = folder.path().join("copy.db");
    JournalFile::open_read_only(&file).unwrap().backup(&to).unwrap();
    let before = fs::read(&to).unwrap();
    spoil(&file, "UPDATE records SET payload = 'twe' WHERE payload = 'two'");
    let refused = JournalFile::open_read_only(&file).unwrap().backup(&to).unwrap_err();
    assert!(matches!(&refused, FileError::Copy(health) if health.findings[0].seq == Some(3)), "{refused}");
    assert_eq!(fs::read(&to).unwrap(), before);
    assert!(!folder.path().join("copy.db.partial").exists());
}

/// Each kind of damage is told with its place, and nothing else is.
#[tokio::test]
async fn damage_is_named() {
    let cases = [
        ("UPDATE records SET payload = 'twe' WHERE payload = 'two'", Some(3), "checksum"),
        ("DELETE FROM records WHERE seq = 2", Some(2), "missing"),
        ("DELETE FROM records WHERE seq IN (2, 3)", Some(2), "rows to 3 are missing"),
        ("DELETE FROM records WHERE seq = 5", Some(5), "missing"),
        ("UPDATE sessions SET last_seq = 4 WHERE last_seq = 5", Some(5), "beyond"),
        ("UPDATE sessions SET run_status = '{' WHERE last_seq = 5", None, "projection"),
        ("UPDATE sessions SET message_count = 3 WHERE last_seq = 5", None, "messages from 2"),
        ("UPDATE snapshots SET state = '{ }'", None, "snapshot"),
        ("INSERT INTO runs (session, run_id, run) VALUES (2, x'07', '{')", None, "runs"),
    ];
    for (sql, seq, reason) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (_journal, file, session) = in_use(&folder).await;
        assert!(look(&file).is_whole());
        spoil(&file, sql);
        let health = look(&file);
        let [found] = health.findings.as_slice() else { panic!("{sql}: {health:?}") };
        assert_eq!((found.session, found.seq), (Some(session.id), seq), "{sql}");
        assert!(found.reason.contains(reason), "{sql}: {found}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (_journal, file, _) = in_use(&folder).await;
    spoil(&file, "DELETE FROM sessions WHERE last_seq = 5");
    let health = look(&file);
    assert!(health.findings[0].reason.contains("5 of its rows"), "{health:?}");
}

/// The holes that upkeep leaves are legal; one beside them is not.
#[tokio::test]
async fn holes_of_upkeep_are_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    let journal = SqliteJournal::open(&file).unwrap();
    let mut session = make(&journal).await;
    for days in [40, 20, 10] {
        talk(&journal, &mut session, Utc::now() - TimeDelta::days(days), 6).await;
    }
    let before = look(&file).rows;
    let day = Duration::from_secs(86_400);
    let policy = Retention { events_age: Some(30 * day), events_bytes: None, deltas: day, deleted_sessions: None };
    while journal.tidy(session.id, &policy, Utc::now()).await.unwrap() == Progress::More {}
    let health = look(&file);
    assert!(health.is_whole() && health.rows < before - 12, "{before} {health:?}");

    spoil(&file, "DELETE FROM records WHERE seq = (SELECT max(seq) FROM records WHERE kind = 'merged_deltas')");
    let health = look(&file);
    let merged_away = health.findings.first().unwrap();
    assert!(merged_away.reason.contains("are missing") && health.findings.len() == 1, "{health:?}");
}

/// A log that was cut off ends the journal earlier, whole; the look changes neither file.
#[tokio::test]
async fn a_torn_log_is_no_damage_and_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (_journal, file, _) = in_use(&folder).await;
    let torn = folder.path().join("torn.db");
    let log = fs::read(folder.path().join("journal.db-wal")).unwrap();
    fs::copy(&file, &torn).unwrap();
    let kept = &log[..log.len() - 2_000];
    fs::write(folder.path().join("torn.db-wal"), kept).unwrap();
    let (main, before) = (fs::read(&torn).unwrap(), look(&file));
    let health = look(&torn);
    assert!(health.is_whole() && health.rows < before.rows, "{health:?}");
    assert_eq!(fs::read(&torn).unwrap(), main);
    assert_eq!(fs::read(folder.path().join("torn.db-wal")).unwrap(), kept);
}

/// What is no journal is told with the reason, and left as it is.
#[tokio::test]
async fn what_is_no_journal_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    drop(SqliteJournal::open(&file).unwrap());
    let whole = fs::read(&file).unwrap();
    let foreign = {
        let other = folder.path().join("other.db");
        rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
        fs::read(other).unwrap()
    };
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&99_i32.to_be_bytes());
    let cases = [
        (b"not a database, but somebody's text, and a long one".to_vec(), "damaged"),
        (whole[..whole.len() / 2].to_vec(), "damaged"),
        (foreign, "not a journal"),
        (newer, "has version 99"),
        (Vec::new(), "not a journal"),
    ];
    for (number, (bytes, reason)) in cases.into_iter().enumerate() {
        let file = folder.path().join(format!("case{number}.db"));
        fs::write(&file, &bytes).unwrap();
        let error = JournalFile::open_read_only(&file).unwrap_err();
        assert!(error.to_string().contains(reason), "{number}: {error}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "{number}");
    }
    let missing = JournalFile::open_read_only(&folder.path().join("missing.db")).unwrap_err();
    assert!(missing.to_string().contains("could not open"), "{missing}");
    assert!(!folder.path().join("missing.db").exists());
}

fn spoil(file: &Path, sql: &str) {
    let raw = rusqlite::Connection::open(file).unwrap();
    assert!(raw.execute(sql, ()).unwrap() > 0, "{sql}");
}
