//! Readiness: what the journal and the parts beside the server make of it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use stakpak_agent_core::{
    Append, EventRecord, Journal, JournalError, NewSession, Receipt, Row, SessionPage, SessionQuery, SessionRow,
    Snapshot, Spending,
};
use stakpak_protocol::{CheckState, EventId, Run, RunId, SessionId};
use stakpak_server::{Check, Part};

use crate::support::{Setting, TestServer, answer};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A journal on a disk that can be full, or gone.
struct Disk {
    journal: Arc<dyn Journal>,
    full: AtomicBool,
    gone: AtomicBool,
    probes: AtomicU64,
}

impl Disk {
    fn write(&self) -> Result<(), JournalError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(JournalError::Storage("database or disk is full".into()));
        }
        self.read()
    }

    fn read(&self) -> Result<(), JournalError> {
        match self.gone.load(Ordering::SeqCst) {
            true => Err(JournalError::Storage("disk I/O error".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Journal for Disk {
    fn epoch(&self) -> u64 {
        self.journal.epoch()
    }
    async fn create_session(&self, new: NewSession) -> Result<(), JournalError> {
        self.write()?;
        self.journal.create_session(new).await
    }
    async fn append(&self, append: Append) -> Result<(), JournalError> {
        self.write()?;
        self.journal.append(append).await
    }
    async fn probe(&self) -> Result<(), JournalError> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        self.write()?;
        self.journal.probe().await
    }
    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, JournalError> {
        self.read()?;
        self.journal.session(id).await
    }
    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, JournalError> {
        self.journal.sessions(query).await
    }
    async fn open_sessions(&self) -> Result<Vec<SessionRow>, JournalError> {
        self.journal.open_sessions().await
    }
    async fn control_rows(&self, id: SessionId, from: u64, to: u64) -> Result<Vec<Row>, JournalError> {
        self.journal.control_rows(id, from, to).await
    }
    async fn snapshot(&self, id: SessionId) -> Result<Option<Snapshot>, JournalError> {
        self.journal.snapshot(id).await
    }
    async fn message_rows(&self, id: SessionId, from: u64, to: u64) -> Result<Vec<Row>, JournalError> {
        self.journal.message_rows(id, from, to).await
    }
    async fn events(&self, id: SessionId, after: EventId, max: usize) -> Result<Vec<EventRecord>, JournalError> {
        self.journal.events(id, after, max).await
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

/// A part whose state the test sets.
struct Told(Check, Mutex<CheckState>);

impl Part for Told {
    fn check(&self) -> Option<(Check, CheckState)> {
        Some((self.0, *self.1.lock().unwrap()))
    }
}

async fn start(parts: Vec<Arc<dyn Part>>) -> (TestServer, Arc<Disk>) {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let setting = Setting { parts, ..Setting::on(&directory) };
    let (full, gone) = (AtomicBool::new(false), AtomicBool::new(false));
    let disk = Arc::new(Disk { journal: setting.journal.clone(), full, gone, probes: AtomicU64::new(0) });
    let server = TestServer::start_on(directory, [], Setting { journal: disk.clone(), ..setting }).await;
    (server, disk)
}

/// Without a token: the route is public.
async fn ready(server: &TestServer) -> (u16, Value) {
    answer(server.http().client.get(format!("{}/v1/ready", server.url))).await
}

async fn until_ready_says(server: &TestServer, status: u16, journal: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (found, body) = ready(server).await;
        if (found, &body["checks"]["journal"]) == (status, &json!(journal)) {
            assert_eq!(body["ready"], json!(status == 200));
            return;
        }
        assert!(Instant::now() < deadline, "{found} {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_server_that_works_is_ready() {
    let (server, _) = start(Vec::new()).await;
    let checks = json!({"channels": "off", "journal": "ok", "sandbox": "off", "scheduler": "off"});
    assert_eq!(ready(&server).await, (200, json!({"checks": checks, "ready": true})));
}

/// P38: readiness fails when the journal cannot write, and comes back without a restart.
#[tokio::test]
async fn readiness_follows_the_journal_both_ways() {
    let (server, disk) = start(Vec::new()).await;
    until_ready_says(&server, 200, "ok").await;
    disk.full.store(true, Ordering::SeqCst);
    until_ready_says(&server, 503, "read_only").await;
    let refused = server.http().post("/v1/sessions", json!({"title": "x"})).await;
    assert_eq!((refused.0, &refused.1["code"]), (503, &json!("storage_unavailable")));
    disk.gone.store(true, Ordering::SeqCst);
    disk.full.store(false, Ordering::SeqCst);
    until_ready_says(&server, 503, "failed").await;
    disk.gone.store(false, Ordering::SeqCst);
    until_ready_says(&server, 200, "ok").await;
    assert_eq!(server.http().post("/v1/sessions", json!({"title": "x"})).await.0, 201);
}

/// The probe costs a sync of the disk, so polling must not multiply it: at most one a second, a few here.
#[tokio::test]
async fn polling_does_not_write_each_time() {
    let (server, disk) = start(Vec::new()).await;
    let begun = Instant::now();
    for _ in 0..50 {
        let (a, b, c, d) = tokio::join!(ready(&server), ready(&server), ready(&server), ready(&server));
        assert!([a, b, c, d].iter().all(|(status, _)| *status == 200));
    }
    let allowed = 1 + begun.elapsed().as_secs();
    let probes = disk.probes.load(Ordering::SeqCst);
    assert!((1..=allowed).contains(&probes), "{probes} probes for 200 requests");
}

/// A part that is off or works with loss is no reason to take the server out of service; one that fails is.
#[tokio::test]
async fn parts_that_fail_make_the_server_unready() {
    let scheduler = Arc::new(Told(Check::Scheduler, Mutex::new(CheckState::Starting)));
    let channels = Arc::new(Told(Check::Channels, Mutex::new(CheckState::Degraded)));
    let (server, _) = start(vec![scheduler.clone(), channels.clone()]).await;
    for (first, second, status) in [
        (CheckState::Starting, CheckState::Ok, 503),
        (CheckState::Ok, CheckState::Degraded, 200),
        (CheckState::Failed, CheckState::Ok, 503),
        (CheckState::Off, CheckState::Failed, 503),
        (CheckState::Off, CheckState::Off, 200),
    ] {
        *scheduler.1.lock().unwrap() = first;
        *channels.1.lock().unwrap() = second;
        let (found, body) = ready(&server).await;
        assert_eq!((found, &body["checks"]["scheduler"]), (status, &json!(first)), "{body}");
        assert_eq!(body["checks"]["channels"], json!(second), "{body}");
    }
}

/// P56: what the journal said is for the log; an answer holds no word of it.
#[tokio::test]
async fn what_the_journal_says_is_not_told() {
    let (server, disk) = start(Vec::new()).await;
    let session = server.http().session("x").await;
    disk.full.store(true, Ordering::SeqCst);
    disk.gone.store(true, Ordering::SeqCst);
    let http = server.http();
    for (status, answer) in [
        http.post("/v1/sessions", json!({"title": "x"})).await,
        http.patch(&format!("/v1/sessions/{session}"), json!({"title": "y"})).await,
    ] {
        assert_eq!((status, &answer["code"]), (503, &json!("storage_unavailable")));
        let said = answer.to_string();
        assert!(!["disk", "I/O", ".db", "SELECT"].iter().any(|internal| said.contains(internal)), "{said}");
    }
}

/// HEAD works where GET does.
#[tokio::test]
async fn head_answers_without_a_body() {
    let (server, _) = start(Vec::new()).await;
    let response = server.http().request(Method::HEAD, "/v1/ready").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (200, String::new()));
}
