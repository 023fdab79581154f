//! What the gateway needs of a chat platform.
//!
//! An adapter decodes and sends; it does not decide who may talk, and it keeps nothing that must survive it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{ChannelId, DeliveryReceipt, InboundMessage, OutboundReply};

/// A chat platform.
#[async_trait]
pub trait Channel: Send + Sync + fmt::Debug {
    /// Its name in keys and files.
    fn id(&self) -> ChannelId;

    /// Its name for people.
    fn display_name(&self) -> &'static str;

    /// Length of the longest text of one message, in UTF-16 units.
    fn message_limit(&self) -> usize;

    /// Receives until cancelled or until something fails; the caller starts it again after a wait.
    ///
    /// A message is confirmed to the platform only after `inbound` has accepted it.
    async fn start_durable(&self, inbound: Arc<dyn InboundSink>, cancel: CancellationToken)
    -> Result<(), ChannelError>;

    /// Sends one text and tells what became of it.
    async fn send_with_receipt(&self, reply: OutboundReply) -> Result<DeliveryReceipt, ChannelError>;

    /// Sends one text.
    async fn send(&self, reply: OutboundReply) -> Result<(), ChannelError> {
        self.send_with_receipt(reply).await.map(drop)
    }

    /// Asks the platform who the token belongs to.
    async fn test(&self) -> Result<ChannelTestResult, ChannelError>;

    /// How it goes.
    fn health(&self) -> ChannelHealth;

    /// Notes that an attempt ended and another follows.
    fn report_failure(&self, error: &ChannelError);
}

/// Takes what adapters receive.
#[async_trait]
pub trait InboundSink: Send + Sync {
    /// Returns once the events and the new position are durable, as one fact. A repeated event counts as accepted.
    async fn accept(&self, batch: InboundBatch) -> Result<(), ChannelError>;

    /// The last accepted position of a stream, unless it is too old to be continued.
    async fn position(&self, stream: &StreamId) -> Result<Option<i64>, ChannelError>;
}

/// A sequence of events that a platform numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamId {
    /// The platform.
    pub channel: ChannelId,
    /// The bot.
    pub account: String,
    /// Name within the bot: `updates`.
    pub name: &'static str,
}

/// Events that came together.
#[derive(Debug, Clone, PartialEq)]
pub struct InboundBatch {
    /// Where they came from.
    pub stream: StreamId,
    /// In the platform's order.
    pub events: Vec<InboundEvent>,
    /// Number of the last one, also when it was not worth an entry in `events`.
    pub position: i64,
}

/// One event worth keeping.
#[derive(Debug, Clone, PartialEq)]
pub enum InboundEvent {
    /// A message of a person.
    Message(Box<InboundMessage>),
    /// Not understood; kept for inspection, never run.
    Undecodable {
        /// The same for every delivery.
        event_key: String,
        /// Order among the events of the bot.
        order_key: i64,
        /// As it came.
        raw: String,
    },
}

/// Who a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelTestResult {
    /// The platform.
    pub channel: ChannelId,
    /// The bot's name.
    pub identity: String,
    /// More, for people.
    pub details: String,
}

/// State of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelStatus {
    /// Receives.
    Connected,
    /// First attempt.
    Connecting,
    /// Failed; tries again by itself.
    Degraded,
    /// Needs a person: bad token. Tried again seldom.
    Failed,
    /// Not started, by configuration.
    Disabled,
}

impl fmt::Display for ChannelStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Connecting => "connecting",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
        })
    }
}

/// How a channel goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelHealth {
    /// State.
    pub status: ChannelStatus,
    /// The bot's name, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// When the state began, Unix ms.
    pub since: i64,
    /// When the platform last sent an event, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<i64>,
    /// Why it is degraded or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Why a call to a platform failed. No variant can hold the token.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The platform does not know the token.
    #[error("{host} refused the bot token: {reason}")]
    Unauthorized {
        /// Host and port.
        host: String,
        /// In its words.
        reason: String,
    },
    /// Another process receives with the same token.
    #[error("another process receives with this bot token: {reason}")]
    Conflict {
        /// In the platform's words.
        reason: String,
    },
    /// Too many calls; certainly not done.
    #[error("rate limited for {retry_after:?}")]
    RateLimited {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The platform refused the content; certainly not done, and no use to repeat.
    #[error("refused: {reason}")]
    Rejected {
        /// In the platform's words.
        reason: String,
    },
    /// The platform refused for now, such as a bot that is blocked; certainly not done.
    #[error("not allowed: {reason}")]
    NotAllowed {
        /// In the platform's words.
        reason: String,
    },
    /// No connection; certainly not done.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The call was sent and its outcome is not known.
    #[error("no usable answer from {host}: {reason}")]
    Uncertain {
        /// Host and port.
        host: String,
        /// What happened.
        reason: String,
    },
    /// What was received could not be stored.
    #[error("what was received could not be stored: {reason}")]
    Store {
        /// Why.
        reason: String,
    },
    /// Settings that cannot work.
    #[error("{reason}")]
    Setup {
        /// What is wrong.
        reason: String,
    },
}
