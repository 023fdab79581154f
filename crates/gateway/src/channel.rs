//! What the gateway needs of a chat platform.
//!
//! An adapter decodes and sends; it does not decide who may talk, and it keeps nothing that must survive it.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::{
    Address, ApprovalButton, Body, ChannelId, DeliveryReceipt, InboundMessage, MediaAttachment, MessageRef,
    OutboundFile, OutboundReply, Overheard, Press, PressAnswer, Reaction, chunking::chunk_text,
};

/// A chat platform.
#[async_trait]
pub trait Channel: Send + Sync + fmt::Debug {
    /// Its name in keys and files.
    fn id(&self) -> ChannelId;

    /// Its name for people.
    fn display_name(&self) -> &'static str;

    /// What the platform takes, and how often.
    fn capabilities(&self) -> Capabilities;

    /// Markdown of a model as messages that the platform takes; nothing of it is lost. A pure function.
    fn compose(&self, markdown: &str) -> Vec<Body> {
        chunk_text(markdown, self.capabilities().message_limit).into_iter().map(Body::plain).collect()
    }

    /// Receives until cancelled or until something fails; the caller starts it again after a wait.
    ///
    /// A message is confirmed to the platform only after `inbound` has accepted it.
    async fn start_durable(&self, inbound: Arc<dyn InboundSink>, cancel: CancellationToken)
    -> Result<(), ChannelError>;

    /// What a program named, as messages from there are addressed: names and people as ids, and the other party of a direct
    /// chat. May ask the platform; a place that it does not know stays as it is.
    async fn locate(&self, address: &Address) -> Result<Address, ChannelError> {
        Ok(address.clone())
    }

    /// Sends one message and tells what became of it.
    async fn send_with_receipt(&self, reply: OutboundReply) -> Result<DeliveryReceipt, ChannelError>;

    /// Sends one message.
    async fn send(&self, reply: OutboundReply) -> Result<(), ChannelError> {
        self.send_with_receipt(reply).await.map(drop)
    }

    /// Sends a message with buttons under it.
    async fn send_with_buttons(
        &self,
        reply: OutboundReply,
        buttons: Vec<ApprovalButton>,
    ) -> Result<DeliveryReceipt, ChannelError> {
        let _ = (reply, buttons);
        Err(self.cannot("show buttons"))
    }

    /// Replaces a message of the bot, its buttons included. Repeating it changes nothing and is no error.
    async fn edit_message(
        &self,
        message: &MessageRef,
        body: &Body,
        buttons: &[ApprovalButton],
    ) -> Result<(), ChannelError> {
        let _ = (message, body, buttons);
        Err(self.cannot("edit messages"))
    }

    /// Sends a file.
    async fn send_file(&self, address: &Address, file: OutboundFile) -> Result<DeliveryReceipt, ChannelError> {
        let _ = (address, file);
        Err(self.cannot("send files"))
    }

    /// The message that an earlier attempt under the same `dedupe_key` made, if it made one; asked before an attempt is
    /// repeated whose outcome is not known. Platforms that refuse a second copy by themselves answer none.
    async fn reconcile(&self, reply: &OutboundReply) -> Result<Option<DeliveryReceipt>, ChannelError> {
        let _ = reply;
        Ok(None)
    }

    /// Whether sending again under the same `dedupe_key` makes no second copy, by [`Channel::reconcile`] or because the
    /// platform refuses it.
    fn finds_copies(&self) -> bool {
        false
    }

    /// Shows that an answer is being written.
    async fn typing(&self, address: &Address) -> Result<(), ChannelError> {
        let _ = address;
        Ok(())
    }

    /// Puts a sign on a message, in the place of `instead_of`.
    async fn react(
        &self,
        message: &MessageRef,
        reaction: Reaction,
        instead_of: Option<Reaction>,
    ) -> Result<(), ChannelError> {
        let _ = (message, reaction, instead_of);
        Ok(())
    }

    /// Tells who pressed a button what came of it.
    async fn answer_press(&self, press: &Press, answer: PressAnswer) -> Result<(), ChannelError> {
        let _ = (press, answer);
        Err(self.cannot("show buttons"))
    }

    /// What was said in a thread before a message, oldest first, at most `most`; where a platform cannot tell, nothing.
    async fn said_before(
        &self,
        address: &Address,
        message_id: &str,
        most: usize,
    ) -> Result<Vec<Overheard>, ChannelError> {
        let _ = (address, message_id, most);
        Ok(Vec::new())
    }

    /// The content of a file that a person sent, at most `limit` bytes: a larger one is [`ChannelError::Rejected`].
    async fn fetch(&self, attachment: &MediaAttachment, limit: u64) -> Result<Vec<u8>, ChannelError> {
        let _ = (attachment, limit);
        Err(self.cannot("fetch files"))
    }

    /// For what a platform does not have.
    #[doc(hidden)]
    fn cannot(&self, what: &str) -> ChannelError {
        ChannelError::Setup { reason: format!("{} cannot {what}", self.display_name()) }
    }

    /// Asks the platform who the token belongs to.
    async fn test(&self) -> Result<ChannelTestResult, ChannelError>;

    /// Takes back that events go to an address of somebody's instead of to [`Channel::start_durable`].
    async fn delete_webhook(&self) -> Result<(), ChannelError> {
        Err(self.cannot("send events to a webhook"))
    }

    /// How it goes.
    fn health(&self) -> ChannelHealth;

    /// How many times a lost connection was made anew.
    fn reconnects(&self) -> u64 {
        0
    }

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

    /// The streams of a bot that have a position, for catching up after a time without connection: name and position.
    async fn positions(&self, channel: &ChannelId, account: &str) -> Result<Vec<(String, i64)>, ChannelError>;

    /// Whether the bot takes part in a conversation there: then it needs no mention.
    async fn takes_part(&self, address: &Address) -> Result<bool, ChannelError>;
}

/// What a platform takes, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Length of the longest text of one message, in UTF-16 units.
    pub message_limit: usize,
    /// From one message in a chat to the next, over time.
    pub send_pace: Duration,
    /// Messages that may go to a chat at once.
    pub send_burst: NonZeroU32,
    /// Messages a minute in one group, if that is bounded.
    pub group_per_minute: Option<NonZeroU32>,
    /// Messages a second of the bot, over all chats.
    pub bot_per_second: NonZeroU32,
    /// From one edit of a message to the next, in a direct chat.
    pub edit_pace: Duration,
    /// The same in a group.
    pub group_edit_pace: Duration,
    /// How often the sign of writing has to be repeated; none where there is no such sign.
    pub typing_every: Option<Duration>,
    /// Bytes of the largest file that can be sent.
    pub max_file: u64,
}

/// A sequence of events that a platform numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamId {
    /// The platform.
    pub channel: ChannelId,
    /// The bot.
    pub account: String,
    /// Name within the bot: `updates`, or one of each chat: `chat:C024BE7LR`.
    pub name: String,
}

/// Events that came together.
#[derive(Debug, Clone, PartialEq)]
pub struct InboundBatch {
    /// Where they came from.
    pub stream: StreamId,
    /// In the platform's order.
    pub events: Vec<InboundEvent>,
    /// Number of the last one, also when it was not worth an entry in `events`. None for events that the platform does
    /// not number in this stream, such as presses.
    pub position: Option<i64>,
}

/// One event worth keeping.
#[derive(Debug, Clone, PartialEq)]
pub enum InboundEvent {
    /// A message of a person.
    Message(Box<InboundMessage>),
    /// The new text of a message that may have been received before; its `message_id` says of which.
    Edited(Box<InboundMessage>),
    /// A press of a button.
    Press(Box<Press>),
    /// A group got a new id.
    Migrated {
        /// The id until now.
        from: String,
        /// The id from now on.
        to: String,
    },
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
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
    /// The token may not do this: a Slack scope, a Discord intent.
    #[error("{host} wants `{scope}`, which this token does not have")]
    MissingScope {
        /// Host and port.
        host: String,
        /// As the platform names it.
        scope: String,
    },
    /// Settings that cannot work.
    #[error("{reason}")]
    Setup {
        /// What is wrong.
        reason: String,
    },
}
