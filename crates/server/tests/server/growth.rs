//! What a turn and a read cost in a session that has a long history: counted at the port to the journal.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use stakpak_agent_core::{
    Append, EventRecord, Journal, JournalError, NewSession, Receipt, Resident, Row, SessionPage, SessionQuery,
    SessionRow, Snapshot, Spending, session::Session,
};
use stakpak_protocol::{EventId, Run, RunId, SessionId};
use stakpak_store::SqliteJournal;
use tokio::sync::watch;

use crate::support::{Http, Setting, Step, TestServer};

/// Counts what goes through it, and can hold back the messages of a history.
struct Counted {
    journal: Arc<dyn Journal>,
    bytes_written: AtomicU64,
    rows_read: AtomicU64,
    /// Of control rows and snapshots.
    bytes_read: AtomicU64,
    snapshots_spoilt: AtomicBool,
    messages_held: watch::Sender<bool>,
}

impl Counted {
    fn new(journal: Arc<dyn Journal>) -> Arc<Self> {
        Arc::new(Self {
            journal,
            bytes_written: AtomicU64::default(),
            rows_read: AtomicU64::default(),
            bytes_read: AtomicU64::default(),
            snapshots_spoilt: AtomicBool::default(),
            messages_held: watch::Sender::new(false),
        })
    }

    fn written(&self) -> u64 {
        self.bytes_written.swap(0, Ordering::SeqCst)
    }

    fn read(&self) -> u64 {
        self.rows_read.swap(0, Ordering::SeqCst)
    }

    fn forget(&self) {
        self.rows_read.store(0, Ordering::SeqCst);
        self.bytes_read.store(0, Ordering::SeqCst);
    }

    fn count<T>(&self, rows: Result<Vec<T>, JournalError>) -> Result<Vec<T>, JournalError> {
        let count = rows.as_ref().map_or(0, |rows| rows.len() as u64);
        self.rows_read.fetch_add(count, Ordering::SeqCst);
        rows
    }
}

#[async_trait]
impl Journal for Counted {
    fn epoch(&self) -> u64 {
        self.journal.epoch()
    }
    async fn create_session(&self, new: NewSession) -> Result<(), JournalError> {
        self.journal.create_session(new).await
    }
    async fn append(&self, append: Append) -> Result<(), JournalError> {
        let rows: usize = append.rows.iter().map(|row| row.payload.len()).sum();
        let projections =
            format!("{:?} {:?} {:?} {:?}", append.session, append.run, append.receipt, append.snapshot).len();
        self.bytes_written.fetch_add((rows + projections) as u64, Ordering::SeqCst);
        self.journal.append(append).await
    }
    async fn probe(&self) -> Result<(), JournalError> {
        self.journal.probe().await
    }
    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, JournalError> {
        self.journal.session(id).await
    }
    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, JournalError> {
        self.journal.sessions(query).await
    }
    async fn open_sessions(&self) -> Result<Vec<SessionRow>, JournalError> {
        self.journal.open_sessions().await
    }
    async fn control_rows(&self, id: SessionId, from: u64, to: u64) -> Result<Vec<Row>, JournalError> {
        let rows = self.journal.control_rows(id, from, to).await?;
        let bytes: usize = rows.iter().map(|row| row.payload.len()).sum();
        self.bytes_read.fetch_add(bytes as u64, Ordering::SeqCst);
        self.count(Ok(rows))
    }
    async fn snapshot(&self, id: SessionId) -> Result<Option<Snapshot>, JournalError> {
        let snapshot = self.journal.snapshot(id).await?;
        self.bytes_read
            .fetch_add(snapshot.as_ref().map_or(0, |snapshot| snapshot.state.len() as u64), Ordering::SeqCst);
        Ok(snapshot.map(|snapshot| match self.snapshots_spoilt.load(Ordering::SeqCst) {
            true => Snapshot { state: snapshot.state.replace("turn", "torn"), ..snapshot },
            false => snapshot,
        }))
    }
    async fn message_rows(&self, id: SessionId, from: u64, to: u64) -> Result<Vec<Row>, JournalError> {
        self.messages_held.subscribe().wait_for(|held| !held).await.unwrap();
        self.count(self.journal.message_rows(id, from, to).await)
    }
    async fn events(&self, id: SessionId, after: EventId, max: usize) -> Result<Vec<EventRecord>, JournalError> {
        self.count(self.journal.events(id, after, max).await)
    }
    async fn run(&self, session: SessionId, run: RunId) -> Result<Option<Run>, JournalError> {
        self.journal.run(session, run).await
    }
    async fn active_runs(&self) -> Result<Vec<Run>, JournalError> {
        self.journal.active_runs().await
    }
    async fn spent(&self, profile: &str, since: DateTime<Utc>) -> Result<Spending, JournalError> {
        self.journal.spent(profile, since).await
    }
    async fn receipt(&self, scope: &str, now: DateTime<Utc>) -> Result<Option<Receipt>, JournalError> {
        self.journal.receipt(scope, now).await
    }
}

/// A server on a journal in memory.
async fn start(journal: &Arc<Counted>) -> TestServer {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let setting = Setting { journal: journal.clone(), ..Setting::on(&directory) };
    TestServer::start_on(directory, [], setting).await
}

fn in_memory() -> Arc<Counted> {
    Counted::new(Arc::new(SqliteJournal::open_in_memory().unwrap()))
}

/// Turns of the same size, one after the other; each with a call, so that messages of every role are there.
async fn talk(server: &TestServer, session: &str, turns: usize) {
    let newest = server.client().get_session(session).await.unwrap().last_event_id;
    let mut events = server.client().subscribe_events(session, Some(newest)).await.unwrap();
    let http = server.http();
    for _ in 0..turns {
        let steps = [Step::Call(vec![("a", "stakpak__look", json!({}))]), Step::Say("an answer of some words")];
        server.model.steps.lock().unwrap().extend(steps);
        post(&http, session).await;
        while !events.next_event().await.unwrap().is_run_terminal() {}
        server.model.requests.lock().unwrap().clear();
    }
}

async fn post(http: &Http, session: &str) {
    let body = json!({"message": {"content": "a message of some words", "role": "user"}});
    let (status, answer) = http.post(&format!("/v1/sessions/{session}/messages"), body).await;
    assert_eq!(status, 200, "{answer}");
}

/// P44: what a turn writes is proportional to the turn, not to the history.
#[tokio::test]
async fn the_thousandth_turn_writes_what_the_first_did() {
    let journal = in_memory();
    let server = start(&journal).await;
    let session = server.http().session("long").await;
    journal.written();
    talk(&server, &session, 100).await;
    let first = journal.written();
    talk(&server, &session, 800).await;
    journal.written();
    talk(&server, &session, 100).await;
    let last = journal.written();
    assert!(first > 100 * 1_000, "{first} bytes in a hundred turns: not all of them were seen");
    assert!(last * 10 <= first * 13, "the first hundred turns wrote {first} bytes, the last hundred {last}");
}

/// Rows that a server that has just started reads for a page of messages, the session, the list, and a message.
async fn rows_read(journal: &Arc<Counted>, session: &str) -> [u64; 4] {
    let server = start(journal).await;
    let http = server.http();
    journal.read();
    let mut read = Vec::new();
    let total = server.client().get_messages(session, 0, 0).await.unwrap().total;
    for path in [format!("/{session}/messages?limit=10&offset={}", total - 10), format!("/{session}"), String::new()] {
        assert_eq!(http.get(&format!("/v1/sessions{path}")).await.0, 200);
        read.push(journal.read());
    }
    // The history is for the model: the message is accepted before it is read.
    journal.messages_held.send_replace(true);
    let posted = tokio::time::timeout(Duration::from_secs(20), post(&http, session)).await;
    posted.expect("a message is accepted while its session's history cannot be read");
    read.push(journal.read());
    journal.messages_held.send_replace(false);
    let mut events = server.client().subscribe_events(session, Some(0)).await.unwrap();
    while http.get(&format!("/v1/sessions/{session}")).await.1["session"]["run_status"]["state"] != "idle" {
        events.next_event().await.unwrap();
    }
    server.crash().await;
    read.try_into().unwrap()
}

/// P45: a page of messages costs the page, the list of sessions and the acceptance of a message cost no history.
#[tokio::test]
async fn reads_and_posts_read_the_same_from_a_long_history() {
    let journal = in_memory();
    let server = start(&journal).await;
    let session = server.http().session("long").await;
    talk(&server, &session, 5).await;
    server.crash().await;
    let short = rows_read(&journal, &session).await;
    assert_eq!(short[0], 10, "as many as the page holds");
    let server = start(&journal).await;
    talk(&server, &session, 300).await;
    server.crash().await;
    assert_eq!(rows_read(&journal, &session).await, short);
}

/// A run of so many turns, each but the last with a call whose arguments have this text. Its session.
async fn run(journal: &Arc<Counted>, turns: usize, text: &str) -> SessionId {
    let server = start(journal).await;
    let http = server.http();
    let session = http.session("a run").await;
    let look = |_| Step::Call(vec![("a", "stakpak__look", json!({ "text": text }))]);
    let steps = (1..turns).map(look).chain([Step::Say("that is all")]);
    server.model.steps.lock().unwrap().extend(steps);
    let message = json!({"content": "look at everything", "role": "user"});
    let body = json!({"message": message, "overrides": {"auto_approve": "all", "max_turns": 256}});
    let (status, posted) = http.post(&format!("/v1/sessions/{session}/messages"), body).await;
    assert_eq!(status, 200, "{posted}");
    let mut events = server.client().subscribe_events(&session, posted["cursor"].as_u64()).await.unwrap();
    while !events.next_event().await.unwrap().is_run_terminal() {
        server.model.requests.lock().unwrap().clear();
    }
    server.crash().await;
    session.parse().unwrap()
}

/// Rows and bytes that opening a session reads. What it comes to is what folding everything does.
async fn opened(journal: &Arc<Counted>, id: SessionId) -> (u64, u64) {
    let row = journal.session(id).await.unwrap().unwrap();
    let all = journal.control_rows(id, row.run_first_seq, row.last_seq).await.unwrap();
    journal.forget();
    let resident = Resident::open(journal.as_ref(), id).await.unwrap();
    let read = (journal.read(), journal.bytes_read.swap(0, Ordering::SeqCst));
    assert_eq!(*resident.session(), Session::fold(row, &all).unwrap());
    read
}

/// P45: opening a session costs what came after its last snapshot, not the length of its last run.
#[tokio::test]
async fn opening_a_long_run_reads_its_end() {
    let journal = in_memory();
    let short = run(&journal, 5, "").await;
    assert_eq!(journal.snapshot(short).await.unwrap(), None, "a short run writes no snapshot");
    for (text, most_rows, most_bytes) in [("", 64 + 10, 96 << 10), (&"x".repeat(8_000), 64 + 10, 320 << 10)] {
        let long = run(&journal, 256, text).await;
        let (rows, bytes) = opened(&journal, long).await;
        assert!((1..=most_rows).contains(&rows) && bytes <= most_bytes, "{rows} rows, {bytes} bytes");
        // One that cannot be read costs everything, and nothing else.
        journal.snapshots_spoilt.store(true, Ordering::SeqCst);
        let (rows, _) = opened(&journal, long).await;
        assert!(rows > 255 * 5, "{rows} rows");
        journal.snapshots_spoilt.store(false, Ordering::SeqCst);
    }
}
