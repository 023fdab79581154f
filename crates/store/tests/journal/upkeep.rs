//! Upkeep on a file: how much a step writes, what it leaves, and being killed at any point of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::Connection;
use stakpak_agent_core::{Append, Journal, JournalError, Progress, Retention, SessionRow, Snapshot, Upkeep};
use stakpak_protocol::{EventId, SessionStatus};
use stakpak_store::SqliteJournal;
use tempfile::TempDir;

use crate::fixture::{append, make, receipt, talk};

/// What a step changes at most.
const MOST_ROWS: u64 = 512;

struct Fixture {
    _folder: TempDir,
    file: PathBuf,
    journal: SqliteJournal,
    session: SessionRow,
    now: DateTime<Utc>,
}

impl Fixture {
    /// A session with a run of 30 days and one of a day ago.
    async fn new(deltas: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&file).unwrap();
        let mut session = make(&journal).await;
        let now = Utc::now();
        talk(&journal, &mut session, now - TimeDelta::days(30), deltas).await;
        talk(&journal, &mut session, now - TimeDelta::days(1), deltas).await;
        Self { _folder: folder, file, journal, session, now }
    }

    async fn step(&self) -> Progress {
        self.journal.tidy(self.session.id, &Retention::default(), self.now).await.unwrap()
    }

    async fn delete(&mut self, at: DateTime<Utc>) {
        (self.session.status, self.session.updated_at) = (SessionStatus::Deleted, at);
        self.journal.append(append(&self.journal, &mut self.session, Vec::new())).await.unwrap();
    }
}

/// A snapshot goes with the rows of its run, once there is a later one, and with its session.
#[tokio::test]
async fn no_snapshot_is_left() {
    let mut fixture = Fixture::new(10).await;
    let raw = Connection::open(&fixture.file).unwrap();
    let take_snapshot = async |fixture: &mut Fixture, seq| {
        let snapshot = Some(Snapshot { seq, version: 1, state: "{}".into() });
        let last = append(&fixture.journal, &mut fixture.session, Vec::new());
        fixture.journal.append(Append { snapshot, ..last }).await.unwrap();
    };
    let last_seq = fixture.session.last_seq;
    take_snapshot(&mut fixture, last_seq).await;
    raw.execute("UPDATE snapshots SET seq = (SELECT run_first_seq - 1 FROM sessions)", ()).unwrap();
    while fixture.step().await == Progress::More {}
    assert_eq!(rows(&raw, "snapshots"), 0, "one of an earlier run");

    take_snapshot(&mut fixture, last_seq).await;
    talk(&fixture.journal, &mut fixture.session, fixture.now, 10).await;
    while fixture.step().await == Progress::More {}
    assert_eq!(rows(&raw, "snapshots"), 1, "one whose run has its rows");
    fixture.delete(fixture.now).await;
    fixture.journal.purge(fixture.session.id).await.unwrap();
    while fixture.journal.sweep(fixture.now).await.unwrap() == Progress::More {}
    assert_eq!(rows(&raw, "snapshots"), 0);
}

/// P47: appends wait for one step at most, and a step is small.
#[tokio::test]
async fn a_step_is_small_whatever_there_is_to_do() {
    let mut fixture = Fixture::new(2_000).await;
    let raw = Connection::open(&fixture.file).unwrap();
    let mut last = rows(&raw, "records");
    let before = last;
    let mut check = |raw: &Connection, what: &str| {
        let now = rows(raw, "records");
        assert!(last - now <= MOST_ROWS, "{what} removed {} rows", last - now);
        last = now;
    };
    while fixture.step().await == Progress::More {
        check(&raw, "a step in a session");
    }
    assert!(rows(&raw, "records") < 30, "{} of {before} rows are left", rows(&raw, "records"));

    talk(&fixture.journal, &mut fixture.session, fixture.now, 2_000).await;
    let mut last = rows(&raw, "records");
    fixture.delete(fixture.now).await;
    fixture.journal.purge(fixture.session.id).await.unwrap();
    while fixture.journal.sweep(fixture.now).await.unwrap() == Progress::More {
        let now = rows(&raw, "records");
        assert!(last - now <= MOST_ROWS, "a sweep removed {} rows", last - now);
        last = now;
    }
    assert_eq!(last, 0);
}

/// A process that is killed after any step leaves a journal that reads right, and the next one comes to the same end.
#[tokio::test]
async fn upkeep_that_is_killed_goes_on() {
    let whole = Fixture::new(700).await;
    while whole.step().await == Progress::More {}
    let expected = contents(&whole.file);

    // The journal of the process that is killed is never closed, so that nothing is tidied up behind it.
    let killed = Fixture::new(700).await;
    let mut steps = 0;
    let mut journal = killed.journal.clone();
    loop {
        let step = journal.tidy(killed.session.id, &Retention::default(), killed.now).await.unwrap();
        let next = copy(&killed.file, steps);
        let reopened = SqliteJournal::open(&next).unwrap();
        let messages = reopened.message_rows(killed.session.id, 0, 9).await.unwrap();
        assert_eq!(messages.len(), 4);
        while reopened.tidy(killed.session.id, &Retention::default(), killed.now).await.unwrap() == Progress::More {}
        drop(reopened);
        assert_eq!(contents(&next), expected, "killed after {steps} steps");
        if step == Progress::Done {
            break;
        }
        (steps, journal) = (steps + 1, killed.journal.clone());
    }
    assert!(steps > 4, "{steps} steps");
}

/// Upkeep beside appends: neither loses anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_go_on_meanwhile() {
    let fixture = Arc::new(Fixture::new(3_000).await);
    let mut session = fixture.session.clone();
    let writer = {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move {
            for _ in 0..100 {
                talk(&fixture.journal, &mut session, fixture.now, 3).await;
            }
            session
        })
    };
    let mut steps = 0;
    while !writer.is_finished() || steps < 20 {
        steps += 1;
        fixture.step().await;
    }
    while fixture.step().await == Progress::More {}
    let session = writer.await.unwrap();
    assert_eq!(fixture.journal.session(session.id).await.unwrap(), Some(session.clone()));
    assert_eq!(fixture.journal.message_rows(session.id, 0, 999).await.unwrap().len(), 204);
    let events = fixture.journal.events(session.id, fixture.session.last_event_id, usize::MAX).await.unwrap();
    assert_eq!(events.len(), 500);
}

/// Two processes at once: a plan that is out of date is dropped.
#[tokio::test]
async fn a_step_that_somebody_else_has_done_is_not_done_again() {
    let fixture = Fixture::new(700).await;
    let other = SqliteJournal::open(&fixture.file).unwrap();
    loop {
        let policy = Retention::default();
        let (one, two) = tokio::join!(
            fixture.journal.tidy(fixture.session.id, &policy, fixture.now),
            other.tidy(fixture.session.id, &policy, fixture.now)
        );
        if (one.unwrap(), two.unwrap()) == (Progress::Done, Progress::Done) {
            break;
        }
    }
    let whole = Fixture::new(700).await;
    while whole.step().await == Progress::More {}
    assert_eq!(contents(&fixture.file), contents(&whole.file));
}

/// G12: what cannot be read is neither merged over nor removed, and other sessions get their upkeep.
#[tokio::test]
async fn a_damaged_session_is_left_as_it_is() {
    let fixture = Fixture::new(5).await;
    let mut other = make(&fixture.journal).await;
    talk(&fixture.journal, &mut other, fixture.now - TimeDelta::days(2), 5).await;
    let raw = Connection::open(&fixture.file).unwrap();
    for seq in [3, 13] {
        raw.execute("UPDATE records SET crc = crc + 1 WHERE session = 1 AND seq = ?1", (seq,)).unwrap();
        let before = contents(&fixture.file);
        let policy = Retention { events_age: (seq == 3).then_some(Duration::ZERO), ..Retention::default() };
        let answer = fixture.journal.tidy(fixture.session.id, &policy, fixture.now).await;
        assert!(matches!(answer, Err(JournalError::Damaged { seq: at, .. }) if at == seq), "{answer:?}");
        assert_eq!(contents(&fixture.file), before);
        raw.execute("UPDATE records SET crc = crc - 1 WHERE session = 1 AND seq = ?1", (seq,)).unwrap();
    }
    while fixture.journal.tidy(other.id, &Retention::default(), fixture.now).await.unwrap() == Progress::More {}
    assert_eq!(fixture.journal.events(other.id, EventId(0), usize::MAX).await.unwrap().len(), 3);
}

/// A merged row has a checksum like any other.
#[tokio::test]
async fn damage_to_a_merged_row_is_found() {
    let fixture = Fixture::new(5).await;
    while fixture.step().await == Progress::More {}
    let raw = Connection::open(&fixture.file).unwrap();
    let change = "UPDATE records SET payload = replace(payload, 'word 3', 'ward 3') WHERE kind = 'merged_deltas'";
    assert_eq!(raw.execute(change, ()).unwrap(), 1);
    let first = EventId(fixture.session.run_first_seq - 1);
    let answer = fixture.journal.events(fixture.session.id, first, usize::MAX).await;
    assert!(matches!(answer, Err(JournalError::Damaged { .. })), "{answer:?}");
}

/// P46: no table knows a purged session, and the space of its rows is free.
#[tokio::test]
async fn nothing_is_left_of_a_purged_session() {
    let mut fixture = Fixture::new(700).await;
    let empty = rows(&Connection::open(&fixture.file).unwrap(), "meta");
    while fixture.step().await == Progress::More {}
    let scope = format!("default POST /v1/sessions/{}/cancel key", fixture.session.id);
    let mut with_key = append(&fixture.journal, &mut fixture.session, Vec::new());
    with_key.receipt = Some(receipt(&scope, fixture.now + TimeDelta::days(30)));
    fixture.journal.append(with_key).await.unwrap();
    fixture.delete(fixture.now - TimeDelta::days(30)).await;
    let expired = fixture.journal.expired_sessions(&Retention::default(), fixture.now, None, 9).await.unwrap();
    assert_eq!(expired, [fixture.session.id]);
    fixture.journal.purge(fixture.session.id).await.unwrap();
    while fixture.journal.sweep(fixture.now).await.unwrap() == Progress::More {}

    let raw = Connection::open(&fixture.file).unwrap();
    for table in ["sessions", "records", "runs", "receipts", "upkeep", "purging"] {
        assert_eq!(rows(&raw, table), 0, "{table}");
    }
    assert_eq!(rows(&raw, "meta"), empty);
    let pages = |what: &str| raw.query_row(&format!("PRAGMA {what}"), (), |row| row.get::<_, u64>(0)).unwrap();
    let used = pages("page_count") - pages("freelist_count");
    let tables = raw.query_row("SELECT count(*) FROM sqlite_schema WHERE rootpage > 0", (), |row| row.get::<_, u64>(0));
    assert_eq!(used, tables.unwrap() + 1, "a page a table and index, and the schema's");
}

fn rows(raw: &Connection, table: &str) -> u64 {
    raw.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap()
}

/// Everything that upkeep may change (its own count of bytes must be right), without what is different in every journal (ids, times).
fn contents(file: &Path) -> Vec<String> {
    let raw = Connection::open(file).unwrap();
    let counted = "SELECT count(*) FROM upkeep WHERE event_bytes <>
         (SELECT sum(octet_length(payload)) FROM records WHERE records.session = upkeep.session AND class = 1)";
    assert_eq!(raw.query_row(counted, (), |row| row.get::<_, u64>(0)).unwrap(), 0);
    let mut all = Vec::new();
    for select in [
        "SELECT concat_ws(' ', session, seq, class, message_index, kind, length(payload)) FROM records ORDER BY 1",
        "SELECT concat_ws(' ', removed_to, pruned_to, merged_to, counted_to, event_bytes, settled_to) FROM upkeep",
        "SELECT concat_ws(' ', last_seq, last_event_id, run_first_seq, message_count) FROM sessions",
    ] {
        let mut select = raw.prepare(select).unwrap();
        all.extend(select.query_map((), |row| row.get(0)).unwrap().collect::<Result<Vec<String>, _>>().unwrap());
    }
    all
}

/// The file as a process that was killed now leaves it.
fn copy(file: &Path, number: usize) -> PathBuf {
    let beside = |path: &Path, suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let to = beside(file, &format!(".{number}"));
    for suffix in ["", "-wal"] {
        std::fs::copy(beside(file, suffix), beside(&to, suffix)).unwrap();
    }
    to
}
