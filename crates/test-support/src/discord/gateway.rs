//! The gateway: HELLO, IDENTIFY or RESUME, dispatches with numbers, heartbeats.
//!
//! A session outlives its connection: what is dispatched meanwhile waits in its log, and RESUME names the last number that
//! the client knows.

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use axum::{
    extract::{
        Query, State,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep_until};

use super::{
    FakeDiscord, Shared,
    faults::GatewayFault,
    record::{Identify, Resume},
    rest::Parameters,
    world::Session,
};

/// All bits that mean something.
const KNOWN_INTENTS: u64 = 0x033F_FFFF;
/// Bit 15.
const MESSAGE_CONTENT: u64 = 1 << 15;
/// Presences and guild members, which this application does not have.
const NEVER_GRANTED: u64 = 1 << 1 | 1 << 8;

/// Whether a connection goes on.
type Flow = ControlFlow<()>;

pub(super) async fn connect(state: State<Arc<Shared>>, query: Parameters, upgrade: WebSocketUpgrade) -> Response {
    open(state.0, &query, upgrade, false)
}

pub(super) async fn connect_to_resume(
    state: State<Arc<Shared>>,
    query: Parameters,
    upgrade: WebSocketUpgrade,
) -> Response {
    open(state.0, &query, upgrade, true)
}

fn open(shared: Arc<Shared>, Query(query): &Parameters, upgrade: WebSocketUpgrade, to_resume: bool) -> Response {
    let json = query.get("encoding").is_none_or(|encoding| encoding == "json");
    if query.get("v").map(String::as_str) != Some("10") || !json || query.contains_key("compress") {
        return (StatusCode::BAD_REQUEST, "only v=10 and encoding=json").into_response();
    }
    upgrade.on_upgrade(move |socket| async move { Connection::new(shared, socket, to_resume).run().await })
}

struct Connection {
    shared: Arc<Shared>,
    socket: WebSocket,
    changed: watch::Receiver<u64>,
    number: u32,
    to_resume: bool,
    session: Option<String>,
    /// Number of the last dispatch that was sent.
    sent: usize,
    /// Faults that were applied, or came before this connection.
    faults: usize,
    deaf: bool,
    last_heartbeat: Instant,
}

impl Connection {
    fn new(shared: Arc<Shared>, socket: WebSocket, to_resume: bool) -> Self {
        let changed = shared.changed.subscribe();
        let (number, faults) = shared.update(|state| {
            state.record.connections += 1;
            (state.record.connections, state.faults.gateway.len())
        });
        let last_heartbeat = Instant::now();
        Self { shared, socket, changed, number, to_resume, session: None, sent: 0, faults, deaf: false, last_heartbeat }
    }

    async fn run(mut self) {
        let interval = self.shared.state().settings.heartbeat;
        let hello = json!({ "heartbeat_interval": interval.as_millis() });
        let mut flow = self.send(&json!({ "op": 10, "d": hello, "s": null, "t": null })).await;
        while flow.is_continue() {
            self.changed.borrow_and_update();
            flow = self.apply_faults().await;
            if flow.is_continue() && !self.deaf {
                flow = self.send_dispatches().await;
            }
            if flow.is_break() {
                break;
            }
            let patience = tokio::time::Instant::from_std(self.last_heartbeat + interval * 2);
            flow = tokio::select! {
                frame = self.socket.recv() => match frame {
                    Some(Ok(Message::Text(text))) => self.receive(&text).await,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Flow::Continue(()),
                    _ => Flow::Break(()),
                },
                changed = self.changed.changed() => if changed.is_ok() { Flow::Continue(()) } else { Flow::Break(()) },
                () = sleep_until(patience), if !self.deaf => self.close(4009, "Session timed out.").await,
            };
        }
    }

    async fn send(&mut self, value: &Value) -> Flow {
        match self.socket.send(Message::text(value.to_string())).await {
            Ok(()) => Flow::Continue(()),
            Err(_) => Flow::Break(()),
        }
    }

    async fn close(&mut self, code: u16, reason: &'static str) -> Flow {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        drop(self.socket.send(Message::Close(Some(frame))).await);
        Flow::Break(())
    }

    async fn apply_faults(&mut self) -> Flow {
        loop {
            let Some(fault) = self.shared.state().faults.gateway.get(self.faults).copied() else {
                return Flow::Continue(());
            };
            self.faults += 1;
            match fault {
                GatewayFault::Drop => return Flow::Break(()),
                GatewayFault::Close(code) => return self.close(code, "closed on command").await,
                GatewayFault::Reconnect => self.send(&json!({ "op": 7, "d": null })).await?,
                GatewayFault::InvalidSession { resumable } => self.send(&json!({ "op": 9, "d": resumable })).await?,
                GatewayFault::AskHeartbeat => self.send(&json!({ "op": 1, "d": null })).await?,
                GatewayFault::Deaf => self.deaf = true,
            }
        }
    }

    async fn send_dispatches(&mut self) -> Flow {
        let Some(id) = self.session.clone() else { return Flow::Continue(()) };
        loop {
            let next = {
                let state = self.shared.state();
                // A session that was forgotten is told nothing more; one that went on elsewhere ends here.
                let Some(session) = state.world.sessions.get(&id) else { return Flow::Continue(()) };
                if session.connection != self.number {
                    return Flow::Break(());
                }
                session.log.get(self.sent).cloned()
            };
            let Some(event) = next else { return Flow::Continue(()) };
            self.sent += 1;
            self.send(&event).await?;
        }
    }

    async fn receive(&mut self, text: &str) -> Flow {
        let Ok(payload) = serde_json::from_str::<Value>(text) else { return self.close(4002, "Decode error.").await };
        match payload["op"].as_u64() {
            Some(1) => self.heartbeat().await,
            Some(2) if self.session.is_some() => self.close(4005, "Already authenticated.").await,
            Some(2) => self.identify(&payload["d"]).await,
            Some(6) => self.resume(&payload["d"]).await,
            Some(3 | 4 | 8) if self.session.is_none() => self.close(4003, "Not authenticated.").await,
            Some(3 | 4 | 8) => Flow::Continue(()),
            _ => self.close(4001, "Unknown opcode.").await,
        }
    }

    async fn heartbeat(&mut self) -> Flow {
        if self.deaf {
            return Flow::Continue(());
        }
        self.last_heartbeat = Instant::now();
        self.shared.update(|state| state.record.heartbeats += 1);
        self.send(&json!({ "op": 11 })).await
    }

    async fn identify(&mut self, data: &Value) -> Flow {
        let intents = data["intents"].as_u64().unwrap_or(u64::MAX);
        let at = Instant::now();
        let refused = self.refuse_identify(data, intents);
        let too_soon = self.shared.update(|state| {
            let every = state.settings.identify_every;
            let last = state.record.identifies.iter().rev().find(|identify| identify.outcome.is_ok());
            let too_soon =
                last.is_some_and(|last| at.duration_since(last.at) < every) || state.settings.identifies_left == 0;
            state.settings.identifies_left = state.settings.identifies_left.saturating_sub(1);
            let outcome = match (refused, too_soon) {
                (Some(code), _) => Err(code),
                (None, true) => Err(0),
                (None, false) => Ok(format!("session-{}", self.number)),
            };
            state.record.identifies.push(Identify { at, intents, outcome });
            too_soon
        });
        match refused {
            Some(code) => return self.close(code, "refused").await,
            None if too_soon => return self.send(&json!({ "op": 9, "d": false })).await,
            None => {}
        }
        self.begin(intents);
        Flow::Continue(())
    }

    fn refuse_identify(&self, data: &Value, intents: u64) -> Option<u16> {
        let token = data["token"].as_str().unwrap_or_default();
        let granted = self.shared.state().settings.message_content;
        if token.trim_start_matches("Bot ") != FakeDiscord::TOKEN {
            return Some(4004);
        }
        if data["shard"].as_array().is_some_and(|shard| shard[..] != [json!(0), json!(1)]) {
            return Some(4010);
        }
        if data["intents"].is_null() || intents & !KNOWN_INTENTS != 0 {
            return Some(4013);
        }
        if intents & NEVER_GRANTED != 0 || (intents & MESSAGE_CONTENT != 0 && !granted) {
            return Some(4014);
        }
        if !data["properties"].is_object() {
            return Some(4002);
        }
        None
    }

    /// READY, and what the bot can see.
    fn begin(&mut self, intents: u64) {
        let id = format!("session-{}", self.number);
        let address = self.shared.address;
        self.shared.update(|state| {
            let world = &mut state.world;
            let guilds: Vec<u64> = world.guilds.keys().copied().collect();
            let unavailable: Vec<Value> =
                guilds.iter().map(|id| json!({ "id": id.to_string(), "unavailable": true })).collect();
            let flags: u32 = if state.settings.message_content { 1 << 19 } else { 0 };
            let ready = json!({
                "v": 10, "user": world.user(FakeDiscord::BOT), "guilds": unavailable, "session_id": id,
                "resume_gateway_url": format!("ws://{address}/resume"), "shard": [0, 1], "session_type": "normal",
                "application": { "id": FakeDiscord::APPLICATION.to_string(), "flags": flags },
                "private_channels": [], "user_settings": {}, "relationships": []
            });
            let mut log = vec![json!({ "op": 0, "t": "READY", "s": 1, "d": ready })];
            if intents & 1 != 0 {
                for guild in guilds.iter().filter_map(|id| world.guild_created(*id)) {
                    log.push(json!({ "op": 0, "t": "GUILD_CREATE", "s": log.len() + 1, "d": guild }));
                }
            }
            world.sessions.insert(id.clone(), Session { intents, log, connection: self.number });
        });
        self.session = Some(id);
        self.sent = 0;
    }

    async fn resume(&mut self, data: &Value) -> Flow {
        let id = data["session_id"].as_str().unwrap_or_default().to_owned();
        let sequence = data["seq"].as_u64().unwrap_or_default();
        let token = data["token"].as_str().unwrap_or_default().trim_start_matches("Bot ") == FakeDiscord::TOKEN;
        let known = usize::try_from(sequence).unwrap_or(usize::MAX);
        let (number, at_resume_url) = (self.number, self.to_resume);
        // None for an unknown session, or whether the number is one that was given out.
        let outcome = self.shared.update(|state| {
            let session = state.world.sessions.get_mut(&id).filter(|_| token);
            let outcome = session.map(|session| {
                let good = known <= session.log.len();
                if good {
                    session.connection = number;
                    let sequence = session.log.len() + 1;
                    session.log.push(json!({ "op": 0, "t": "RESUMED", "s": sequence, "d": {} }));
                }
                good
            });
            let (at, accepted) = (Instant::now(), outcome == Some(true));
            state.record.resumes.push(Resume { at, session: id.clone(), sequence, at_resume_url, accepted });
            outcome
        });
        match outcome {
            _ if !token => self.close(4004, "Authentication failed.").await,
            None => self.send(&json!({ "op": 9, "d": false })).await,
            Some(false) => self.close(4007, "Invalid seq.").await,
            Some(true) => {
                self.session = Some(id);
                self.sent = known;
                Flow::Continue(())
            }
        }
    }
}
