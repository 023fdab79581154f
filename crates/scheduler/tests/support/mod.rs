//! A clock that is set by hand, an agent server on a real socket, and a scheduler between them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

pub mod chat;
pub mod server;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use stakpak_client::{StakpakClient, Timing};
use stakpak_config::Document;
use stakpak_redact::Redactor;
use stakpak_scheduler::{
    Clock, Definition, Handle, HistoryFilter, Ledger, RunRecord, RunStatus, ScheduleSet, Scheduler, SchedulerConfig,
    SchedulerError,
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use server::AgentServer;

/// Known to the redactor.
pub const SECRET: &str = "hunter2-hunter2-hunter2";

pub fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

#[derive(Debug)]
pub struct ManualClock(watch::Sender<DateTime<Utc>>);

impl ManualClock {
    pub fn new(now: &str) -> Arc<Self> {
        Arc::new(Self(watch::channel(at(now)).0))
    }

    pub fn set(&self, now: &str) {
        self.0.send_replace(at(now));
    }

    pub fn advance(&self, by: TimeDelta) {
        self.0.send_modify(|now| *now += by);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.borrow()
    }

    async fn sleep_until(&self, instant: DateTime<Utc>) {
        let mut now = self.0.subscribe();
        now.wait_for(|now| *now >= instant).await.unwrap();
    }
}

pub fn read(toml: &str, now: DateTime<Utc>) -> ScheduleSet {
    ScheduleSet::read(&Document::parse("autopilot.toml", toml).unwrap(), now).unwrap()
}

/// All but the scheduler, which comes and goes.
pub struct World {
    pub server: AgentServer,
    pub clock: Arc<ManualClock>,
    pub toml: String,
    pub ledger: Ledger,
    directory: tempfile::TempDir,
}

pub struct Running {
    pub handle: Handle,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), SchedulerError>>,
}

impl World {
    pub async fn new(now: &str, toml: &str) -> Self {
        Self::with_file(now, toml, |_| ()).await
    }

    /// With a ledger file that is made before anybody opens it.
    pub async fn with_file(now: &str, toml: &str, make: impl FnOnce(&std::path::Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        make(&directory.path().join("autopilot.db"));
        Self {
            server: AgentServer::start().await,
            clock: ManualClock::new(now),
            toml: toml.to_owned(),
            ledger: Ledger::open(&directory.path().join("autopilot.db")).unwrap(),
            directory,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("autopilot.db")
    }

    pub fn schedules(&self) -> ScheduleSet {
        read(&self.toml, self.clock.now())
    }

    pub fn scheduler(&self) -> Scheduler {
        let timing = Timing {
            connect: Duration::from_secs(2),
            request: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            retry_first: Duration::from_millis(5),
            retry_max: Duration::from_millis(50),
        };
        let client = StakpakClient::with_timing(&self.server.url, "", timing);
        let config = SchedulerConfig {
            ledger: self.path(),
            schedules: self.schedules(),
            redactor: Redactor::new([SECRET]).unwrap(),
            credential_variables: vec!["CARGO_PKG_NAME".to_owned()],
        };
        Scheduler::open(config, client, Arc::clone(&self.clock) as Arc<dyn Clock>).unwrap()
    }

    /// Starts a scheduler and waits until it has taken note of its schedules.
    pub async fn start(&self) -> Running {
        let scheduler = self.scheduler();
        let handle = scheduler.handle();
        let cancel = CancellationToken::new();
        let task = tokio::spawn({
            let cancel = cancel.clone();
            async move { scheduler.run(cancel).await }
        });
        let running = Running { handle, cancel, task };
        self.tracked().await;
        running
    }

    /// Until the scheduler has taken note of the schedules of the file.
    pub async fn tracked(&self) {
        let set = self.schedules();
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        eventually("the schedules are tracked", async || {
            set.schedules.iter().all(|schedule| {
                let sql = "SELECT 1 FROM schedule_state WHERE name = ?1 AND spec_hash <> ''";
                matches!(schedule.definition, Definition::Invalid(_))
                    || connection.query_row(sql, [&schedule.name], |_| Ok(())).is_ok()
            })
        })
        .await;
    }

    pub async fn history(&self, name: &str) -> Vec<RunRecord> {
        self.ledger.history(HistoryFilter { schedule: Some(name), ..HistoryFilter::default() }, 1000).await.unwrap()
    }

    /// Until the scheduler has taken note that the schedule is no longer in the file.
    pub async fn untracked(&self, name: &str) {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        let sql = "SELECT 1 FROM schedule_state WHERE name = ?1 AND spec_hash = ''";
        eventually("the schedule is forgotten", async || connection.query_row(sql, [name], |_| Ok(())).is_ok()).await;
    }

    /// Status and reason of every row of the schedule, oldest first.
    pub async fn told(&self, name: &str) -> Vec<String> {
        let mut rows = self.history(name).await;
        rows.reverse();
        rows.iter().map(told).collect()
    }

    /// Until status and reason of the rows, oldest first, are these.
    pub async fn tells(&self, name: &str, expected: &[&str]) {
        let mut last = Vec::new();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while tokio::time::Instant::now() < deadline {
            last = self.told(name).await;
            if last == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(last, expected, "{name}");
    }

    /// The only row, once it has ended.
    pub async fn ended(&self, name: &str) -> RunRecord {
        let mut last = None;
        eventually("the run has ended", async || {
            let rows = self.history(name).await;
            last = rows.into_iter().next();
            last.as_ref()
                .is_some_and(|row| !matches!(row.status, RunStatus::Pending | RunStatus::Running | RunStatus::Paused))
        })
        .await;
        last.unwrap()
    }
}

pub fn told(row: &RunRecord) -> String {
    match row.reason {
        Some(reason) => format!("{}({reason})", row.status),
        None => row.status.to_string(),
    }
}

impl Running {
    pub async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As the power going: nothing is told, nothing is waited for.
    pub async fn kill(self) {
        self.task.abort();
        self.task.await.unwrap_err();
    }
}

/// Waits, with a deadline far beyond any machine's pace, until `holds`.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
