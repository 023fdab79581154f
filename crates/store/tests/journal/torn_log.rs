//! G12: what a power loss leaves of the write-ahead log, cut at any byte, and what bit rot makes of the files. What is there
//! afterwards is what was acknowledged up to some moment, in order: never a part of an append, never anything else.

use std::{fs, ops::Range, path::Path};

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_agent_core::{Append, Journal, Row, SessionRow};
use stakpak_protocol::{EventId, Run, RunId, RunState};
use stakpak_store::{JournalFile, SqliteJournal};

use crate::fixture::{append, event, make, message, receipt};

const LOG_HEADER: usize = 32;
const FRAME: usize = 24 + 4096;
const SESSIONS: usize = 3;
const APPENDS: u64 = 6;

/// The files of a process that was killed after its last acknowledgement, and when each came.
struct Killed {
    file: Vec<u8>,
    log: Vec<u8>,
    sessions: Vec<SessionRow>,
    /// Length of the log when the append with this number was acknowledged.
    acknowledged: Vec<usize>,
}

impl Killed {
    async fn after_appends() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let log = || fs::read(folder.path().join("journal.db-wal")).unwrap();
        let mut sessions = Vec::new();
        {
            let journal = SqliteJournal::open(&path).unwrap();
            for _ in 0..SESSIONS {
                sessions.push(make(&journal).await);
            }
        }
        let journal = SqliteJournal::open(&path).unwrap();
        let mut acknowledged = Vec::new();
        for number in 0..APPENDS {
            let session = &mut sessions[session_of(number)];
            journal.append(numbered(&journal, session, number)).await.unwrap();
            acknowledged.push(log().len());
        }
        // The journal is not closed: nothing of the log was moved.
        Self { file: fs::read(&path).unwrap(), log: log(), sessions, acknowledged }
    }

    /// Lays files out as a process would find them after the loss.
    fn lay_out(folder: &Path, file: &[u8], log: &[u8]) -> std::path::PathBuf {
        let path = folder.join("journal.db");
        fs::write(&path, file).unwrap();
        fs::write(folder.join("journal.db-wal"), log).unwrap();
        path
    }

    /// What was acknowledged when the log had this length: each append whole or not at all, and its receipt with it.
    async fn check(&self, journal: &SqliteJournal, log: usize, what: &str) {
        let count = self.acknowledged.iter().filter(|end| **end <= log).count() as u64;
        for number in 0..APPENDS {
            let receipt = journal.receipt(&scope(number), Utc::now()).await.unwrap();
            assert_eq!(receipt.is_some(), number < count, "{what}: the receipt of append {number} of {count}");
        }
        for (index, session) in self.sessions.iter().enumerate() {
            let appends: Vec<u64> = (0..count).filter(|number| session_of(*number) == index).collect();
            let rows: Vec<Row> =
                appends.iter().enumerate().flat_map(|(earlier, number)| rows(earlier as u64, *number)).collect();
            let found = journal.session(session.id).await.unwrap().unwrap();
            assert_eq!(found.last_seq, rows.len() as u64, "{what}");
            assert_eq!(found.title, title(appends.last().copied()), "{what}");
            let (messages, events): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.message_index.is_some());
            assert_eq!(journal.message_rows(session.id, 0, u64::MAX).await.unwrap(), messages, "{what}");
            let found = journal.events(session.id, EventId(0), usize::MAX).await.unwrap();
            let found: Vec<_> = found.iter().map(|event| (event.id.0, event.data.as_str())).collect();
            let events: Vec<_> = events.iter().map(|row| (row.seq, row.payload.as_str())).collect();
            assert_eq!(found, events, "{what}");
            for number in 0..APPENDS {
                let run = journal.run(session.id, run_id(number)).await.unwrap();
                assert_eq!(run.is_some(), appends.contains(&number), "{what}: the run of append {number}");
            }
        }
    }

    /// How many acknowledged rows are not found; none if a reading is refused. A row that was not acknowledged is a failure.
    async fn rows_in(&self, journal: &SqliteJournal) -> Option<usize> {
        let mut gone = 0;
        for (index, session) in self.sessions.iter().enumerate() {
            let numbers = (0..APPENDS).filter(|number| session_of(*number) == index).enumerate();
            let acknowledged: Vec<Row> = numbers.flat_map(|(earlier, number)| rows(earlier as u64, number)).collect();
            let messages = journal.message_rows(session.id, 0, u64::MAX).await.ok()?;
            let events = journal.events(session.id, EventId(0), usize::MAX).await.ok()?;
            gone += acknowledged.len() - messages.len() - events.len();
            assert!(messages.iter().all(|row| acknowledged.contains(row)), "{messages:?}");
            let known = |id: u64, data: &str| acknowledged.iter().any(|row| row.seq == id && row.payload == data);
            assert!(events.iter().all(|event| known(event.id.0, &event.data)), "{events:?}");
        }
        Some(gone)
    }

    /// The frames behind the header.
    fn frames(&self) -> impl Iterator<Item = Range<usize>> {
        (LOG_HEADER..self.log.len()).step_by(FRAME).map(|start| start..start + FRAME)
    }
}

fn session_of(number: u64) -> usize {
    usize::try_from(number).unwrap() % SESSIONS
}

fn scope(number: u64) -> String {
    format!("append {number}")
}

fn run_id(number: u64) -> RunId {
    format!("00000000-0000-4000-8000-{number:012}").parse().unwrap()
}

fn title(number: Option<u64>) -> String {
    number.map_or("disk check".to_owned(), |number| format!("after append {number}"))
}

/// Three rows of which one needs pages of its own; `earlier` appends of the session came before.
fn rows(earlier: u64, number: u64) -> Vec<Row> {
    let first = earlier * 3 + 1;
    let payload = |seq: u64| format!("append {number}, row {seq}; ").repeat(1 + 400 * usize::from(seq == first + 1));
    vec![
        event(first, &payload(first)),
        event(first + 1, &payload(first + 1)),
        message(first + 2, earlier, &payload(first + 2)),
    ]
}

/// Rows, projection, run and receipt: one fact.
fn numbered(journal: &SqliteJournal, session: &mut SessionRow, number: u64) -> Append {
    session.title = title(Some(number));
    let (session_id, run_id) = (session.id, run_id(number));
    let run = Run {
        run_id,
        session_id,
        state: RunState::Completed,
        stop_reason: None,
        detail: None,
        last_error: None,
        started_at: DateTime::UNIX_EPOCH,
        ended_at: None,
        turns: 1,
        side_effects: false,
        checkpoint_id: None,
        first_event_id: EventId(1),
        last_event_id: EventId(1),
        total_usage: stakpak_protocol::Usage::default(),
        cost_usd: None,
    };
    let rows = rows(session.last_seq / 3, number);
    let receipt = receipt(&scope(number), Utc::now() + TimeDelta::hours(1));
    Append { receipt: Some(receipt), run: Some(run), ..append(journal, session, rows) }
}

/// At every frame and inside every frame: the appends whose last frame is there are there, and the journal goes on behind them.
#[tokio::test]
async fn a_log_cut_at_any_place_holds_what_was_acknowledged_before_it() {
    let killed = Killed::after_appends().await;
    let inside = killed.frames().flat_map(|frame| [0, 1, 24, 24 + 2048, FRAME - 1].map(|byte| frame.start + byte));
    let cuts: Vec<usize> = [0, 1, LOG_HEADER - 1].into_iter().chain(inside).chain([killed.log.len()]).collect();
    assert!(killed.acknowledged.windows(2).all(|pair| pair[0] < pair[1]), "each append has frames of its own");
    assert!(cuts.len() > 100, "{}", cuts.len());
    for cut in cuts {
        let what = format!("the log cut at {cut} of {}", killed.log.len());
        let folder = tempfile::tempdir().unwrap();
        let path = Killed::lay_out(folder.path(), &killed.file, &killed.log[..cut]);
        let journal = SqliteJournal::open(&path).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        killed.check(&journal, cut, &what).await;
        let mut session = journal.session(killed.sessions[0].id).await.unwrap().unwrap();
        let seq = session.last_seq + 1;
        journal.append(append(&journal, &mut session, vec![event(seq, "goes on")])).await.unwrap();
    }
}

/// A frame that has changed ends what is read of the log: nothing of its append is there, nothing of those behind it.
#[tokio::test]
async fn a_changed_frame_and_all_behind_it_is_not_taken_for_data() {
    let killed = Killed::after_appends().await;
    for frame in killed.frames() {
        // The page's number, the size after a commit, a salt, a checksum, content.
        for byte in [3, 7, 8, 16, 24, 24 + 3000] {
            let what = format!("byte {byte} of the frame at {}", frame.start);
            let mut log = killed.log.clone();
            log[frame.start + byte] ^= 0x10;
            let folder = tempfile::tempdir().unwrap();
            let path = Killed::lay_out(folder.path(), &killed.file, &log);
            let journal = SqliteJournal::open(&path).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            killed.check(&journal, frame.start, &what).await;
        }
    }
}

/// A changed byte in any page of the file: what is read is as it was acknowledged or refused, nothing is made up, and where
/// something cannot be found any more (the page of an index), the check of the file says that it is damaged.
#[tokio::test]
async fn a_changed_page_makes_nothing_up_and_is_told() {
    let killed = Killed::after_appends().await;
    let folder = tempfile::tempdir().unwrap();
    let path = Killed::lay_out(folder.path(), &killed.file, &killed.log);
    drop(SqliteJournal::open(&path).unwrap());
    let whole = fs::read(&path).unwrap();
    let (mut refused, mut missing) = (0, 0);
    // Header, cell pointers, content of each page.
    let bytes = [0, 1, 4, 9, 13, 1000, 2500, 4000, 4090];
    for at in (0..whole.len()).step_by(4096).flat_map(|page| bytes.map(|byte| page + byte)) {
        let mut file = whole.clone();
        file[at] ^= 0x04;
        let folder = tempfile::tempdir().unwrap();
        let path = Killed::lay_out(folder.path(), &file, &[]);
        let Ok(journal) = SqliteJournal::open(&path) else {
            refused += 1;
            continue;
        };
        let found = killed.rows_in(&journal).await;
        drop(journal);
        match found {
            None => refused += 1,
            Some(0) => {}
            Some(gone) => {
                missing += gone;
                let told = JournalFile::open_read_only(&path).map_or(true, |file| !file.check().is_whole());
                assert!(told, "byte {at}: {gone} rows cannot be found, and nothing says so");
            }
        }
    }
    assert!(refused > 20 && missing > 0, "{refused} {missing}: the damage met nothing");
}
