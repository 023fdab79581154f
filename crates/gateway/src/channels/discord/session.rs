//! Holds a session of the gateway through all its connections.
//!
//! * A session that can be resumed is resumed, at the address that READY named and from the last event that was handed on;
//!   the platform then sends what was missed. Any other loss begins a new session, whose READY makes the intake catch up.
//! * Nothing is sent anywhere but to the address that the API named, or READY of a connection to it: when the look-up
//!   fails, that is an error.
//! * Events are handed on as they come; when too many wait, the adapter ends and catches up instead of forgetting some.

use std::{convert::Infallible, time::Duration};

use serde_json::{Value, json};
use serenity::model::gateway::GatewayIntents;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{
    DiscordChannel,
    socket::{End, Frame, Socket},
};
use crate::{ChannelError, backoff::Backoff};

/// Two IDENTIFYs have to be this far apart.
const IDENTIFY_EVERY: Duration = Duration::from_secs(5);
/// Connections in a row that came to nothing.
const ATTEMPTS: u32 = 5;

/// An event of the platform.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: Value,
}

/// Where events go. Presses have a way of their own: they have to be answered within 3 seconds.
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) presses: mpsc::Sender<Value>,
}

/// What a RESUME needs.
#[derive(Debug, Clone)]
struct Session {
    id: String,
    url: String,
    sequence: u64,
}

/// Connects again and again, until that makes no sense.
pub(super) async fn hold(channel: &DiscordChannel, outlets: &Outlets) -> Result<Infallible, ChannelError> {
    let mut session: Option<Session> = None;
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let mut fruitless = 0;
    loop {
        let mut connection = Connection { channel, outlets, session: &mut session, alive: false };
        let end = connection.live().await;
        let alive = connection.alive;
        let reason = match end {
            End::Fatal(error) => return Err(error),
            End::SessionOver(reason) => {
                session = None;
                reason
            }
            End::Lost(reason) => reason,
        };
        if alive {
            channel.health.lost();
        }
        tracing::info!(channel = "discord", reason, resumes = session.is_some(), "connection ended");
        if alive {
            fruitless = 0;
            backoff.reset();
            continue;
        }
        fruitless += 1;
        let host = channel.api.host().to_owned();
        if fruitless == ATTEMPTS {
            return Err(ChannelError::Unreachable { host, reason });
        }
        channel.health.failed(&ChannelError::Unreachable { host, reason });
        sleep(backoff.next()).await;
    }
}

struct Connection<'a> {
    channel: &'a DiscordChannel,
    outlets: &'a Outlets,
    session: &'a mut Option<Session>,
    /// Came as far as READY or RESUMED.
    alive: bool,
}

impl Connection<'_> {
    async fn live(&mut self) -> End {
        let opened = match self.session.clone() {
            Some(session) => self.resume(&session).await,
            None => self.identify().await,
        };
        let mut socket = match opened {
            Ok(socket) => socket,
            Err(end) => return end,
        };
        loop {
            match socket.next().await {
                Ok(Frame::Dispatch { name, data, sequence }) => {
                    if let Err(end) = self.dispatch(socket.host(), name, data, sequence) {
                        return end;
                    }
                }
                Ok(Frame::Reconnect) => return End::Lost("asked to reconnect".to_owned()),
                Ok(Frame::InvalidSession { resumable: true }) => {
                    return End::Lost("asked to resume".to_owned());
                }
                Ok(Frame::InvalidSession { resumable: false }) => {
                    return End::SessionOver("the session is invalid".to_owned());
                }
                Err(end) => return end,
            }
        }
    }

    async fn resume(&self, session: &Session) -> Result<Socket, End> {
        // The failed look-up of an address is that of a name server, and as passing as any other.
        let mut socket = Socket::connect(&session.url, Some(session.sequence)).await.map_err(passing)?;
        let token = self.channel.api.token().expose();
        let resume = json!({ "token": token, "session_id": session.id, "seq": session.sequence });
        socket.send(6, &resume).await?;
        Ok(socket)
    }

    async fn identify(&self) -> Result<Socket, End> {
        let api = &self.channel.api;
        let gateway = api.gateway().await.map_err(End::Fatal)?;
        if gateway.session_start_limit.remaining == 0 {
            let retry_after = Duration::from_millis(gateway.session_start_limit.reset_after);
            return Err(End::Fatal(ChannelError::RateLimited { retry_after }));
        }
        if api.secure() && !gateway.url.starts_with("wss://") {
            let reason = format!("{} names a gateway without TLS", api.host());
            return Err(End::Fatal(ChannelError::Setup { reason }));
        }
        let mut socket = Socket::connect(&gateway.url, None).await.map_err(passing)?;
        self.wait_to_identify().await;
        let intents = intents();
        let properties = json!({ "os": std::env::consts::OS, "browser": "stakpak", "device": "stakpak" });
        let identify = json!({ "token": api.token().expose(), "intents": intents.bits(), "properties": properties });
        socket.send(2, &identify).await?;
        Ok(socket)
    }

    async fn wait_to_identify(&self) {
        let mut last = self.channel.last_identify.lock().await;
        if let Some(last) = *last {
            sleep_until(last + IDENTIFY_EVERY).await;
        }
        *last = Some(Instant::now());
    }

    fn dispatch(&mut self, host: &str, name: String, data: Value, sequence: u64) -> Result<(), End> {
        match name.as_str() {
            "READY" => {
                let id = data["session_id"].as_str().unwrap_or_default().to_owned();
                let url = data["resume_gateway_url"].as_str().unwrap_or_default().to_owned();
                if self.channel.api.secure() && !url.starts_with("wss://") {
                    let reason = format!("{host} names a gateway without TLS");
                    return Err(End::Fatal(ChannelError::Setup { reason }));
                }
                *self.session = Some(Session { id, url, sequence });
                self.live_again();
            }
            "RESUMED" => self.live_again(),
            _ => self.channel.health.received(),
        }
        if let Some(session) = self.session.as_mut() {
            session.sequence = sequence;
        }
        let full = if name == "INTERACTION_CREATE" {
            self.outlets.presses.try_send(data).is_err()
        } else {
            self.outlets.events.try_send(Event { name, data }).is_err()
        };
        if full {
            let reason = "events come faster than they can be stored".to_owned();
            return Err(End::Fatal(ChannelError::Store { reason }));
        }
        Ok(())
    }

    fn live_again(&mut self) {
        self.alive = true;
        self.channel.health.connected();
    }
}

/// Guilds, messages there and in direct chats, and their content: 37377.
fn intents() -> GatewayIntents {
    GatewayIntents::GUILDS
        | GatewayIntents::GUILD_MESSAGES
        | GatewayIntents::DIRECT_MESSAGES
        | GatewayIntents::MESSAGE_CONTENT
}

fn passing(error: ChannelError) -> End {
    match error {
        ChannelError::Unreachable { reason, .. } => End::Lost(reason),
        other => End::Fatal(other),
    }
}
