//! One server as it is kept alive: started when it is first wanted, brought back when it dies, its list kept meanwhile.
//!
//! idle → connecting → ready ⇄ degraded → backoff → connecting. Nothing that waits for a server holds up another.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rmcp::{RoleClient, service::Peer};
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    catalogue::{Offered, offered},
    connection::{ConnectError, Connection, list},
    handler::Handler,
    host::Host,
    kept::{Kept, Listed},
    servers::ServerReport,
    settings::Settings,
};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// A server that stood this long is not what made earlier starts fail.
const STEADY: Duration = Duration::from_secs(60);
/// Between attempts to read a list that could not be read.
const LIST_AGAIN: Duration = Duration::from_secs(30);
/// How long a run waits for the list of a server that was never seen before; once in a process.
const FIRST_LIST: Duration = Duration::from_secs(3);

/// How a server is.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// Nobody wanted it yet.
    Idle,
    Connecting,
    Ready(Live),
    /// It answers, but its list of tools could not be read again.
    Degraded(Live, String),
    /// It could not be reached, or is gone; when it is tried again.
    Backoff(Instant, Gone),
    Stopped,
}

/// Why a server is not there.
#[derive(Debug, Clone)]
pub(crate) struct Gone {
    why: String,
    /// It may not be started: its sandbox cannot be set up.
    unconfined: bool,
}

impl From<&str> for Gone {
    fn from(why: &str) -> Self {
        Self { why: why.to_owned(), unconfined: false }
    }
}

/// Whom calls go to.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) peer: Peer<RoleClient>,
    pub(crate) handler: Handler,
}

impl State {
    fn live(&self) -> Option<&Live> {
        match self {
            Self::Ready(live) | Self::Degraded(live, _) => Some(live),
            Self::Idle | Self::Connecting | Self::Backoff(..) | Self::Stopped => None,
        }
    }

    /// The code of a call that could not be made.
    pub(crate) fn code(&self) -> &'static str {
        if matches!(self, Self::Backoff(_, gone) if gone.unconfined) {
            "SANDBOX_UNAVAILABLE"
        } else {
            "SERVER_UNAVAILABLE"
        }
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Idle => "idle: it is started when it is first used".to_owned(),
            Self::Connecting => "connecting: it has not answered yet".to_owned(),
            Self::Ready(_) => "ready".to_owned(),
            Self::Degraded(_, why) => format!("degraded: {why}"),
            Self::Backoff(until, Gone { why, .. }) => {
                let left = until.saturating_duration_since(Instant::now()).as_secs();
                format!("backoff: {why}; it is tried again in {left} s")
            }
            Self::Stopped => "stopped".to_owned(),
        }
    }
}

/// Ends servers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// They are asked to end.
    pub(crate) asked: CancellationToken,
    /// There is no time left.
    pub(crate) now: CancellationToken,
}

/// The tools of a server as they are now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tools {
    pub(crate) offered: Vec<Arc<Offered>>,
    pub(crate) refused: Vec<String>,
    /// Whether there was ever a list.
    pub(crate) known: bool,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) settings: Settings,
    index: usize,
    state: watch::Sender<State>,
    tools: Mutex<Tools>,
    wanted: Notify,
    was_waited_for: AtomicBool,
    kept: Arc<Kept>,
    pub(crate) host: Host,
}

impl Server {
    pub(crate) fn new(settings: Settings, index: usize, kept: Arc<Kept>, host: Host) -> Self {
        let server = Self {
            index,
            state: watch::Sender::new(State::Idle),
            tools: Mutex::default(),
            wanted: Notify::new(),
            was_waited_for: AtomicBool::new(false),
            settings,
            kept,
            host,
        };
        if let Some(listed) = server.kept.list(&server.settings.name, &server.settings.identity) {
            server.offer(&listed);
        }
        server
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) fn tools(&self) -> Tools {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has it started, without waiting for it.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Waits a moment for the first list there ever was.
    pub(crate) async fn first_list(&self) {
        if self.tools().known || self.was_waited_for.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| !matches!(state, State::Idle | State::Connecting));
        let _ = timeout(FIRST_LIST, known).await;
        self.was_waited_for.store(true, Ordering::Relaxed);
    }

    /// Waits until it is ready or has failed once.
    pub(crate) async fn settled(&self) {
        self.want();
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| !matches!(state, State::Idle | State::Connecting)).await;
    }

    pub(crate) fn report(&self) -> ServerReport {
        let (state, tools) = (self.state(), self.tools());
        let described = |tool: &Arc<Offered>| (tool.spec.name.clone(), tool.spec.description.clone());
        ServerReport {
            name: self.settings.name.clone(),
            state: state.describe(),
            is_ready: state.live().is_some(),
            tools: tools.offered.iter().map(described).collect(),
            refused: tools.refused,
        }
    }

    /// Whom to call; waits for a server that is not ready as long as a start may take.
    pub(crate) async fn live(&self) -> Result<Live, State> {
        self.want();
        let mut state = self.state.subscribe();
        let ready = timeout(self.settings.startup_timeout, state.wait_for(|state| state.live().is_some())).await;
        match ready {
            Ok(Ok(state)) => state.live().cloned().ok_or(State::Stopped),
            _ => Err(self.state()),
        }
    }

    /// Keeps it alive until `stop`, from when it is first wanted.
    pub(crate) async fn keep(self: Arc<Self>, stop: Stop) {
        tokio::select! {
            () = self.wanted.notified() => {}
            () = stop.asked.cancelled() => return,
        }
        let mut failures = 0;
        while !stop.asked.is_cancelled() {
            self.state.send_replace(State::Connecting);
            let began = Instant::now();
            let gone = self.stand(&stop).await;
            failures = if began.elapsed() > STEADY { 1 } else { failures + 1 };
            let wait = backoff(failures, fastrand::f64());
            tracing::warn!(
                server = self.settings.name,
                why = gone.why,
                wait_s = wait.as_secs(),
                "a tool server is not there"
            );
            self.state.send_replace(State::Backoff(Instant::now() + wait, gone));
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.asked.cancelled() => {}
            }
        }
        self.state.send_replace(State::Stopped);
    }

    /// Connects and stays connected; why that is over.
    async fn stand(&self, stop: &Stop) -> Gone {
        let limit = self.settings.startup_timeout;
        let opened = tokio::select! {
            opened = timeout(limit, Connection::open(&self.settings, &self.host)) => opened,
            () = stop.asked.cancelled() => return "it is stopped".into(),
        };
        let mut connection = match opened {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                let why = self.host.redactor.redact(&error.to_string()).into_owned();
                return Gone { why, unconfined: matches!(error, ConnectError::Sandbox(_)) };
            }
            Err(_) => return format!("it did not answer within {} s", limit.as_secs()).as_str().into(),
        };
        self.take(std::mem::take(&mut connection.tools)).await;
        let live = Live { peer: connection.peer.clone(), handler: connection.handler.clone() };
        tracing::info!(server = self.settings.name, tools = self.tools().offered.len(), "a tool server is ready");
        self.state.send_replace(State::Ready(live.clone()));
        loop {
            let degraded = matches!(&*self.state.borrow(), State::Degraded(..));
            tokio::select! {
                () = &mut connection.closed => return "its connection has ended".into(),
                () = stop.asked.cancelled() => break,
                () = live.handler.list_changed.notified() => self.list_again(&live).await,
                () = sleep(LIST_AGAIN), if degraded => self.list_again(&live).await,
            }
        }
        tokio::select! {
            () = connection.end() => {}
            () = stop.now.cancelled() => {}
        }
        "it is stopped".into()
    }

    async fn list_again(&self, live: &Live) {
        let state = match timeout(self.settings.startup_timeout, list(&live.peer)).await {
            Ok(Ok(tools)) => {
                self.take(tools).await;
                State::Ready(live.clone())
            }
            Ok(Err(error)) => State::Degraded(live.clone(), self.host.redactor.redact(&error.to_string()).into_owned()),
            Err(_) => State::Degraded(live.clone(), "its list of tools did not come".to_owned()),
        };
        self.state.send_replace(state);
    }

    async fn take(&self, listed: Vec<Listed>) {
        let listed: Vec<Listed> = listed.into_iter().map(|tool| tool.redacted(&self.host.redactor)).collect();
        self.offer(&listed);
        let (kept, name, identity) = (self.kept.clone(), self.settings.name.clone(), self.settings.identity.clone());
        let written = spawn_blocking(move || kept.keep_list(&name, &identity, &listed)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(error = &error as &dyn std::error::Error, "a list of tools cannot be kept");
        }
    }

    fn offer(&self, listed: &[Listed]) {
        let (offered, refused) = offered(&self.settings, self.index, listed);
        for reason in &refused {
            tracing::warn!(server = self.settings.name, "{reason}");
        }
        *self.tools.lock().unwrap_or_else(PoisonError::into_inner) = Tools { offered, refused, known: true };
    }
}

/// Doubles from a second to five minutes, spread by a fifth.
fn backoff(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_WAIT).mul_f64(0.8 + 0.4 * chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let seconds: Vec<u64> = [1, 2, 3, 9, 10, 1000].map(|failures| backoff(failures, 0.5).as_secs()).into();
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
        assert!(backoff(1, 0.0) < backoff(1, 1.0));
    }
}
