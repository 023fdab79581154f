//! Socket Mode: the library's sockets, driven by frames.
//!
//! * The raw listener of the library is used: its typed one acknowledges what it cannot parse.
//! * Two sockets, so that one is open while the other is asked to come again. The library opens and pings them; which one
//!   is to be opened anew, and when, is decided here.
//! * The library only logs that it cannot open a socket, and tries for ever. So the caller asks first whether the token is
//!   good, and no socket for half a minute is an error that ends the attempt.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper_rustls::HttpsConnectorBuilder;
use serde_json::Value;
use slack_morphism::{
    SlackApiToken, SlackApiTokenValue, SlackClient, SlackClientSocketModeConfig, SlackSocketModeClientListener,
    SlackSocketModeWssClientId,
    clients_manager::{SlackSocketModeClientsManager, SlackSocketModeClientsManagerFactory},
    hyper_tokio::SlackClientHyperConnector,
    listener::SlackClientEventsListenerEnvironment,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::receive::{Answer, Receiver};
use crate::{ChannelError, backoff::Backoff};

const SOCKETS: u32 = 2;
/// A socket that answers no ping for a minute is dead; a quiet workspace is not.
const PING_EVERY_S: u64 = 15;
const PINGS_MISSED: u64 = 4;
/// Between attempts to open a socket.
const OPEN_EVERY_S: u64 = 5;
/// Without any socket for this long the attempt has failed.
const NO_SOCKET: Duration = Duration::from_secs(30);
/// A socket that was open this long was well.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

type SocketId = SlackSocketModeWssClientId;

/// What becomes of a socket.
enum Change {
    Open(SocketId),
    /// Slack asks for another one in its place.
    Refresh(SocketId),
    Lost(SocketId),
    Failed(ChannelError),
}

struct Listener {
    receiver: Arc<Receiver>,
    changes: mpsc::Sender<Change>,
    closed: AtomicBool,
}

/// Ends the sockets with the attempt, however that ends: the library's tasks are its own.
struct Sockets {
    manager: Arc<dyn SlackSocketModeClientsManager + Send + Sync>,
    listener: Arc<Listener>,
}

/// Receives until something fails.
pub(super) async fn run(receiver: Arc<Receiver>) -> Result<(), ChannelError> {
    // Each socket tells of itself a few times at most before its telling is read.
    let (changes, mut changed) = mpsc::channel(16);
    let sockets = Sockets::start(Arc::clone(&receiver), changes).await?;
    let mut open: BTreeMap<String, Instant> = BTreeMap::new();
    let mut deadline = Some(Instant::now() + NO_SOCKET);
    let mut lost = FuturesUnordered::new();
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let mut catching_up = FuturesUnordered::new();
    loop {
        tokio::select! {
            change = changed.recv() => match change {
                Some(Change::Open(id)) => {
                    if open.is_empty() {
                        catching_up.push(receiver.catch_up());
                    }
                    open.insert(id.to_string(), Instant::now());
                    deadline = None;
                    receiver.health.connected();
                }
                Some(Change::Refresh(id)) => {
                    open.remove(&id.to_string());
                    sockets.manager.restart_client(&id).await;
                }
                Some(Change::Lost(id)) => {
                    if let Some(since) = open.remove(&id.to_string()) {
                        receiver.health.lost();
                        if since.elapsed() > HEALTHY_AFTER {
                            backoff.reset();
                        }
                    }
                    let wait = backoff.next();
                    lost.push(async move {
                        sleep(wait).await;
                        id
                    });
                }
                Some(Change::Failed(error)) => return Err(error),
                None => return Err(no_socket(&receiver)),
            },
            Some(id) = lost.next() => sockets.manager.restart_client(&id).await,
            Some(outcome) = catching_up.next() => outcome?,
            () = at(deadline) => return Err(no_socket(&receiver)),
        }
        if open.is_empty() && deadline.is_none() {
            receiver.gap_begins();
            deadline = Some(Instant::now() + NO_SOCKET);
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

fn no_socket(receiver: &Receiver) -> ChannelError {
    let reason = format!("no socket within {} s", NO_SOCKET.as_secs());
    ChannelError::Unreachable { host: receiver.api.host().to_owned(), reason }
}

impl Sockets {
    async fn start(receiver: Arc<Receiver>, changes: mpsc::Sender<Change>) -> Result<Self, ChannelError> {
        let setup = |reason: String| ChannelError::Setup { reason };
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| setup(format!("no root certificates: {error}")))?
            .https_or_http()
            .enable_http1()
            .build();
        let connector =
            SlackClientHyperConnector::with_connector(connector).with_slack_api_url(receiver.api.base_url());
        let token = SlackApiToken::new(SlackApiTokenValue(receiver.api.app_token().to_owned()));
        let client = Arc::new(SlackClient::new(connector));
        let environment = Arc::new(SlackClientEventsListenerEnvironment::new(Arc::clone(&client)));
        let manager = client.http_api.connector.new_clients_manager(environment);
        let listener = Arc::new(Listener { receiver, changes, closed: AtomicBool::new(false) });
        let sockets = Self { manager, listener };
        let config = SlackClientSocketModeConfig::new()
            .with_max_connections_count(SOCKETS)
            .with_initial_backoff_in_seconds(0)
            .with_reconnect_timeout_in_seconds(OPEN_EVERY_S)
            .with_ping_interval_in_seconds(PING_EVERY_S)
            .with_ping_failure_threshold_times(PINGS_MISSED);
        let listener = Arc::clone(&sockets.listener);
        let registered = sockets.manager.register_new_token(&config, token, listener).await;
        registered.map_err(|error| setup(format!("sockets cannot be set up: {error}")))?;
        sockets.manager.start().await;
        Ok(sockets)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.listener.closed.store(true, Ordering::Relaxed);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let manager = Arc::clone(&self.manager);
            runtime.spawn(async move { manager.shutdown().await });
        }
    }
}

impl Listener {
    async fn tell(&self, change: Change) {
        // Nobody listens any more: the attempt is over.
        let _ = self.changes.send(change).await;
    }
}

#[async_trait]
impl SlackSocketModeClientListener for Listener {
    async fn on_message(&self, id: &SocketId, body: String) -> Option<String> {
        if self.closed.load(Ordering::Relaxed) {
            return None;
        }
        let Ok(frame) = serde_json::from_str::<Value>(&body) else {
            tracing::warn!(bytes = body.len(), "a frame of Slack is not JSON");
            return None;
        };
        match frame["type"].as_str() {
            Some("hello") => self.tell(Change::Open(id.clone())).await,
            // The warning comes some seconds earlier; the socket works until then.
            Some("disconnect") if frame["reason"] == "warning" => {}
            Some("disconnect") => self.tell(Change::Refresh(id.clone())).await,
            _ => match self.receiver.frame(frame).await {
                Answer::Ack(ack) => return Some(ack),
                Answer::Silence => {}
                Answer::Stop(error) => self.tell(Change::Failed(error)).await,
            },
        }
        None
    }

    async fn on_error(&self, error: Box<dyn std::error::Error + Send + Sync>) {
        tracing::debug!(%error, "a socket of Slack failed");
    }

    async fn on_disconnect(&self, id: &SocketId) {
        self.tell(Change::Lost(id.clone())).await;
    }
}
