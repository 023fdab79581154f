//! One connection of the gateway: HELLO, heartbeats, frames.
//!
//! Frames are read and heartbeats are sent for as long as [`Socket::next`] is awaited; a heartbeat that was not
//! acknowledged by the time of the next one ends the connection.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use teloxide_reqwest::Url;
use tokio::{
    net::TcpStream,
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error as WsError, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::ChannelError;

/// From the connection to HELLO.
const HELLO_WITHIN: Duration = Duration::from_secs(20);
/// Any code of the range of applications but 1000 and 1001 keeps the session.
const KEEP_SESSION: u16 = 4900;

/// A connection that said HELLO.
pub(super) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    host: String,
    heartbeat: Interval,
    acknowledged: bool,
    /// Of the last dispatch.
    sequence: Option<u64>,
}

/// What the platform says.
#[derive(Debug)]
pub(super) enum Frame {
    /// An event.
    Dispatch { name: String, data: Value, sequence: u64 },
    /// It wants us to connect anew and go on.
    Reconnect,
    /// Neither IDENTIFY nor RESUME was accepted, or the session ended.
    InvalidSession { resumable: bool },
}

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum End {
    /// The session can go on.
    Lost(String),
    /// The session is over, too.
    SessionOver(String),
    /// No use to come back soon.
    Fatal(ChannelError),
}

#[derive(Deserialize)]
struct Payload {
    op: u8,
    #[serde(default)]
    d: Value,
    #[serde(default)]
    s: Option<u64>,
    #[serde(default)]
    t: Option<String>,
}

impl Socket {
    pub(super) async fn connect(url: &str, sequence: Option<u64>) -> Result<Self, ChannelError> {
        let host = host_of(url);
        let unreachable = |reason: String| ChannelError::Unreachable { host: host.clone(), reason };
        let mut address = Url::parse(url).map_err(|error| unreachable(format!("{url} is not a url: {error}")))?;
        address.query_pairs_mut().append_pair("v", "10").append_pair("encoding", "json");
        let opened = async {
            let (mut stream, _) =
                connect_async(String::from(address)).await.map_err(|error| unreachable(describe(&error)))?;
            while let Some(message) = stream.next().await {
                let Ok(Message::Text(text)) = message else { continue };
                let hello: Option<Payload> = serde_json::from_str(&text).ok();
                let interval = hello.filter(|hello| hello.op == 10).and_then(|hello| {
                    hello.d["heartbeat_interval"].as_u64().filter(|interval| *interval > 0).map(Duration::from_millis)
                });
                return interval.map(|interval| (stream, interval)).ok_or_else(|| unreachable("no HELLO".to_owned()));
            }
            Err(unreachable("closed before HELLO".to_owned()))
        };
        let (stream, interval) =
            timeout(HELLO_WITHIN, opened).await.map_err(|_| unreachable("timed out".to_owned()))??;
        // The first one comes at a random time, so that not all bots beat at once after an outage.
        let first = crate::backoff::Backoff::new(interval, interval).next();
        let mut heartbeat = interval_at(Instant::now() + first, interval);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { stream, host, heartbeat, acknowledged: true, sequence })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) async fn send(&mut self, op: u8, data: &Value) -> Result<(), End> {
        let text = json!({ "op": op, "d": data }).to_string();
        self.stream.send(Message::text(text)).await.map_err(|error| End::Lost(describe(&error)))
    }

    /// The next thing that is not about the connection itself.
    pub(super) async fn next(&mut self) -> Result<Frame, End> {
        loop {
            tokio::select! {
                _ = self.heartbeat.tick() => self.beat_or_leave().await?,
                message = self.stream.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if let Some(frame) = self.understand(&text).await? {
                            return Ok(frame);
                        }
                    }
                    Some(Ok(Message::Close(frame))) => return Err(self.closed(frame)),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(End::Lost(describe(&error))),
                    None => return Err(End::Lost("closed".to_owned())),
                },
            }
        }
    }

    async fn beat_or_leave(&mut self) -> Result<(), End> {
        if self.acknowledged {
            self.acknowledged = false;
            return self.beat().await;
        }
        let reason = CloseFrame { code: CloseCode::from(KEEP_SESSION), reason: "no heartbeat ack".into() };
        drop(timeout(Duration::from_secs(1), self.stream.close(Some(reason))).await);
        Err(End::Lost("heartbeats are not acknowledged".to_owned()))
    }

    async fn beat(&mut self) -> Result<(), End> {
        self.send(1, &json!(self.sequence)).await
    }

    async fn understand(&mut self, text: &str) -> Result<Option<Frame>, End> {
        let Ok(payload) = serde_json::from_str::<Payload>(text) else {
            tracing::warn!(channel = "discord", bytes = text.len(), "a frame of the gateway is not understood");
            return Ok(None);
        };
        match payload {
            Payload { op: 0, d: data, s: Some(sequence), t: Some(name) } => {
                self.sequence = Some(sequence);
                return Ok(Some(Frame::Dispatch { name, data, sequence }));
            }
            Payload { op: 1, .. } => self.beat().await?,
            Payload { op: 7, .. } => return Ok(Some(Frame::Reconnect)),
            Payload { op: 9, d, .. } => {
                return Ok(Some(Frame::InvalidSession { resumable: d.as_bool().unwrap_or(false) }));
            }
            Payload { op: 11, .. } => self.acknowledged = true,
            _ => {}
        }
        Ok(None)
    }

    fn closed(&self, frame: Option<CloseFrame>) -> End {
        let Some(frame) = frame else { return End::Lost("closed without a code".to_owned()) };
        let (code, host) = (u16::from(frame.code), self.host.clone());
        let reason = format!("closed with {code} {}", frame.reason);
        let setup = |reason: String| End::Fatal(ChannelError::Setup { reason });
        match code {
            4004 => End::Fatal(ChannelError::Unauthorized { host, reason }),
            4010..=4013 => setup(format!("Discord refused the connection: {reason}")),
            4014 => {
                let scope = "Message Content intent (enable it in the developer portal)".to_owned();
                End::Fatal(ChannelError::MissingScope { host, scope })
            }
            1000 | 1001 | 4007 | 4009 => End::SessionOver(reason),
            _ => End::Lost(reason),
        }
    }
}

/// Host and port of a URL, for people.
pub(super) fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default().to_owned()
}

fn describe(error: &WsError) -> String {
    match error {
        WsError::Http(response) => format!("answered with {}", response.status()),
        other => other.to_string(),
    }
}
