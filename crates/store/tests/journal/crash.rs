//! SIGKILL between any two instructions of a writing process.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use stakpak_agent_core::{Append, Journal, Row, SessionQuery, SessionRow};
use stakpak_protocol::{EventId, SessionId};
use stakpak_store::SqliteJournal;

use crate::fixture::{append, event, make, message, receipt};

const FILE: &str = "STAKPAK_TEST_CRASH_FILE";
const SESSIONS: usize = 6;
const ROWS_OF_AN_APPEND: u64 = 5;

/// Every acknowledged append is there, none is there in part, and the next process goes on where this one ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    let mut acknowledged = BTreeMap::new();
    for appends in [20, 150, 333, 77] {
        run_and_kill(&file, appends, &mut acknowledged);
        let journal = SqliteJournal::open(&file).unwrap();
        assert_eq!(acknowledged.len(), SESSIONS);
        for (session, seq) in &acknowledged {
            check(&journal, *session, *seq).await;
        }
    }
}

/// Not a test of its own: the process that [`run_and_kill`] starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let journal = SqliteJournal::open(Path::new(&file)).unwrap();
    let query = SessionQuery { limit: 100, ..SessionQuery::default() };
    let mut sessions = journal.sessions(query).await.unwrap().sessions;
    while sessions.len() < SESSIONS {
        sessions.push(make(&journal).await);
    }
    join_all(sessions.into_iter().map(|session| write_until_killed(&journal, session))).await;
}

async fn write_until_killed(journal: &SqliteJournal, mut session: SessionRow) {
    let expires_at = Utc::now() + TimeDelta::hours(1);
    loop {
        let first = session.last_seq + 1;
        let rows = (first..first + ROWS_OF_AN_APPEND).map(|seq| row(session.id, seq)).collect();
        let receipt = receipt(&scope(session.id, first), expires_at);
        let append = Append { receipt: Some(receipt), ..append(journal, &mut session, rows) };
        journal.append(append).await.unwrap();
        println!("acknowledged {} {}", session.id, session.last_seq);
    }
}

fn run_and_kill(file: &Path, appends: usize, acknowledged: &mut BTreeMap<SessionId, u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = 0;
    // What it had said before it died counts, also if it is read later.
    for line in lines {
        let line = line.unwrap();
        let Some((_, line)) = line.split_once("acknowledged ") else { continue };
        let (session, seq) = line.split_once(' ').unwrap();
        acknowledged.insert(session.parse().unwrap(), seq.parse().unwrap());
        seen += 1;
        if seen == appends {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(seen >= appends, "the child ended by itself: {status}");
}

async fn check(journal: &SqliteJournal, id: SessionId, acknowledged: u64) {
    let session = journal.session(id).await.unwrap().unwrap();
    assert!(session.last_seq >= acknowledged, "{} of {acknowledged}", session.last_seq);
    assert_eq!(session.last_seq % ROWS_OF_AN_APPEND, 0);

    let (messages, events): (Vec<_>, Vec<_>) =
        (1..=session.last_seq).map(|seq| row(id, seq)).partition(|row| row.message_index.is_some());
    assert_eq!(journal.message_rows(id, 0, u64::MAX).await.unwrap(), messages);
    let found = journal.events(id, EventId(0), usize::MAX).await.unwrap();
    let found: Vec<_> = found.iter().map(|event| (event.id.0, event.data.as_str())).collect();
    let events: Vec<_> = events.iter().map(|row| (row.seq, row.payload.as_str())).collect();
    assert_eq!(found, events);

    for first in (1..=session.last_seq + ROWS_OF_AN_APPEND).step_by(5) {
        let receipt = journal.receipt(&scope(id, first), Utc::now()).await.unwrap();
        assert_eq!(receipt.is_some(), first <= session.last_seq, "the receipt of {first}");
    }
}

/// What a session has at a position, in any process. Long enough for checkpoints to happen meanwhile.
fn row(session: SessionId, seq: u64) -> Row {
    let payload = format!("{session} {seq} ").repeat(usize::try_from(seq * 37 % 60).unwrap());
    if seq.is_multiple_of(ROWS_OF_AN_APPEND) {
        message(seq, seq / ROWS_OF_AN_APPEND, &payload)
    } else {
        event(seq, &payload)
    }
}

fn scope(session: SessionId, first: u64) -> String {
    format!("{session} {first}")
}
