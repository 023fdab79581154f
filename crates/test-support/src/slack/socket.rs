//! Socket Mode: tickets, sockets, envelopes, acknowledgements.
//!
//! * Each envelope goes to one socket; an event that nobody acknowledged goes out again, three times more, with a new
//!   envelope id and the old event id. Presses and slash commands are not repeated.
//! * An event that finds no socket at all is never sent: only the history has it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{
        Query, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{SlackApi, web::Answer, workspace::Shared};

/// Repetitions of an event.
const RETRIES: u32 = 3;
/// Sockets of one app.
const MAX_SOCKETS: usize = 10;
/// A socket that was told to go is closed after this.
const FAREWELL: Duration = Duration::from_secs(5);

/// One delivery of an envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct SlackEnvelope {
    /// `events_api`, `interactive`, `slash_commands`, or what a test made up.
    pub kind: String,
    /// Its id; new for each delivery.
    pub id: String,
    /// What it carries.
    pub payload: Value,
    /// `retry_attempt`.
    pub attempt: u32,
    /// The socket it was sent to; none if there was none.
    pub socket: Option<u64>,
    /// How long its acknowledgement took.
    pub acked: Option<Duration>,
}

impl SlackEnvelope {
    /// The `ts` of the message it is about.
    #[must_use]
    pub fn ts(&self) -> Option<&str> {
        self.payload["event"]["ts"].as_str()
    }
}

/// Who waits for which acknowledgement.
pub(super) type PendingAcks = BTreeMap<String, Pending>;

#[derive(Debug)]
pub(super) struct Pending {
    index: usize,
    since: Instant,
    acked: oneshot::Sender<()>,
}

#[derive(Debug)]
pub(super) struct Socket {
    id: u64,
    out: mpsc::UnboundedSender<Out>,
}

#[derive(Debug)]
enum Out {
    Frame(Value),
    Close,
}

pub(super) fn open(shared: &Arc<Shared>, _arguments: &Value) -> Answer {
    let mut workspace = shared.workspace();
    let ticket = workspace.next_id("ticket");
    workspace.tickets.push(ticket.clone());
    Ok(json!({ "url": format!("ws://{}/link?ticket={ticket}&app_id=A0APP", shared.address) }))
}

pub(super) async fn connect(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<BTreeMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let admitted = {
        let mut workspace = shared.workspace();
        let ticket = query.get("ticket");
        let known = workspace.tickets.iter().position(|known| Some(known) == ticket);
        known.map(|known| workspace.tickets.remove(known)).is_some() && workspace.sockets.len() < MAX_SOCKETS
    };
    if !admitted {
        return StatusCode::NOT_FOUND.into_response();
    }
    upgrade.on_upgrade(move |socket| serve(shared, socket))
}

async fn serve(shared: Arc<Shared>, mut socket: WebSocket) {
    let (out, mut outgoing) = mpsc::unbounded_channel();
    let (hello, id) = {
        let mut workspace = shared.workspace();
        let id = workspace.next_id("").parse().unwrap_or(0);
        let hello = json!({
            "type": "hello", "num_connections": workspace.sockets.len() + 1,
            "connection_info": { "app_id": "A0APP" },
            "debug_info": { "host": "applink-1", "build_number": 1, "approximate_connection_time": 18_060 }
        });
        (hello, id)
    };
    if socket.send(Message::Text(hello.to_string().into())).await.is_err() {
        return;
    }
    shared.workspace().sockets.push(Socket { id, out });
    shared.change();
    loop {
        tokio::select! {
            frame = outgoing.recv() => match frame {
                Some(Out::Frame(frame)) => {
                    if socket.send(Message::Text(frame.to_string().into())).await.is_err() {
                        break;
                    }
                }
                Some(Out::Close) => {
                    drop(socket.send(Message::Close(None)).await);
                    break;
                }
                None => break,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => acknowledge(&shared, text.as_str()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
        }
    }
    shared.workspace().sockets.retain(|socket| socket.id != id);
    shared.change();
}

fn acknowledge(shared: &Shared, frame: &str) {
    let frame: Value = serde_json::from_str(frame).unwrap_or_default();
    let id = frame["envelope_id"].as_str().unwrap_or_default();
    let mut workspace = shared.workspace();
    if let Some(Pending { index, since, acked }) = workspace.pending.remove(id) {
        workspace.envelopes[index].acked = Some(since.elapsed());
        if let Some(ts) = workspace.envelopes[index].ts().map(str::to_owned) {
            workspace.acknowledged.entry(ts).or_insert_with(Instant::now);
        }
        // Nobody waits for envelopes that are sent once.
        let _ = acked.send(());
    }
    drop(workspace);
    shared.change();
}

/// Sends an envelope, in the order of the calls; events again until they are acknowledged.
pub(super) fn deliver(shared: &Arc<Shared>, kind: &'static str, payload: Value) {
    let Some(mut acked) = send(shared, kind, &payload, 0) else { return };
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let wait = shared.workspace().ack_wait;
        for attempt in 1..=RETRIES {
            if timeout(wait, acked).await.is_ok_and(|acked| acked.is_ok()) || kind != "events_api" {
                return;
            }
            acked = loop {
                match send(&shared, kind, &payload, attempt) {
                    Some(acked) => break acked,
                    None => tokio::time::sleep(wait).await,
                }
            };
        }
    });
}

/// One delivery; none if there is no socket.
fn send(shared: &Shared, kind: &str, payload: &Value, attempt: u32) -> Option<oneshot::Receiver<()>> {
    let mut workspace = shared.workspace();
    let id = workspace.next_id("envelope-");
    let mut frame = json!({
        "envelope_id": id, "type": kind, "payload": payload, "accepts_response_payload": kind == "slash_commands"
    });
    if kind == "events_api" {
        frame["retry_attempt"] = attempt.into();
        frame["retry_reason"] = if attempt == 0 { "" } else { "timeout" }.into();
    }
    let mut sent_to = None;
    while sent_to.is_none() && !workspace.sockets.is_empty() {
        workspace.sockets.rotate_left(1);
        let lost = workspace.to_lose > 0;
        workspace.to_lose = workspace.to_lose.saturating_sub(1);
        let socket = &workspace.sockets[0];
        if lost || socket.out.send(Out::Frame(frame.clone())).is_ok() {
            sent_to = Some(socket.id);
        } else {
            workspace.sockets.remove(0);
        }
    }
    if sent_to.is_none() && attempt > 0 {
        return None;
    }
    let (acked, wait) = oneshot::channel();
    let index = workspace.envelopes.len();
    let payload = payload.clone();
    let envelope =
        SlackEnvelope { kind: kind.to_owned(), id: id.clone(), payload, attempt, socket: sent_to, acked: None };
    workspace.envelopes.push(envelope);
    workspace.pending.insert(id, Pending { index, since: Instant::now(), acked });
    drop(workspace);
    shared.change();
    sent_to.map(|_| wait)
}

impl SlackApi {
    /// The next envelope is on its way to a socket and does not arrive.
    pub fn lose_next_envelope(&self) {
        self.shared.workspace().to_lose += 1;
    }

    /// Sends an envelope of any type with any payload, once.
    pub fn send_envelope(&self, kind: &'static str, payload: &Value) {
        send(&self.shared, kind, payload, 0);
    }

    /// Sends an event of any content, with all that goes around it, and again until it is acknowledged.
    pub fn send_event(&self, event: &Value) {
        super::people::event(&self.shared, event);
    }

    /// Announces the end of all sockets; they stay open.
    pub fn warn_sockets(&self) {
        self.to_all(&json!({ "type": "disconnect", "reason": "warning", "debug_info": { "host": "applink-1" } }));
    }

    /// Asks all sockets to come again. They get nothing more, and are closed if the client does not.
    pub fn refresh_sockets(&self) {
        let reason =
            json!({ "type": "disconnect", "reason": "refresh_requested", "debug_info": { "host": "applink-1" } });
        self.to_all(&reason);
        let sockets = std::mem::take(&mut self.shared.workspace().sockets);
        self.shared.change();
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            for socket in sockets {
                drop(socket.out.send(Out::Close));
            }
        });
    }

    /// Asks one of the sockets to come again.
    pub fn refresh_one_socket(&self) {
        let mut workspace = self.shared.workspace();
        if workspace.sockets.is_empty() {
            return;
        }
        let socket = workspace.sockets.remove(0);
        drop(workspace);
        self.shared.change();
        drop(socket.out.send(Out::Frame(json!({ "type": "disconnect", "reason": "refresh_requested" }))));
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            drop(socket.out.send(Out::Close));
        });
    }

    /// Ends all connections without a word.
    pub fn drop_sockets(&self) {
        self.shared.workspace().sockets.clear();
        self.shared.change();
    }

    fn to_all(&self, frame: &Value) {
        for socket in &self.shared.workspace().sockets {
            drop(socket.out.send(Out::Frame(frame.clone())));
        }
    }
}
