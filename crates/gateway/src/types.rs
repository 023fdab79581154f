//! The words that all parts of the gateway share: ids, senders, inbound messages, replies.
//!
//! Ids are the platform's immutable ones, as text; names are for people and never compared.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Address;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<T: Into<String>> From<T> for $name {
            fn from(id: T) -> Self {
                Self(id.into())
            }
        }
    };
}

text_id!(
    /// A chat platform: `telegram`.
    ChannelId
);
text_id!(
    /// A person or bot on a platform.
    PeerId
);

/// What kind of chat a message came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ChatType {
    /// Two parties.
    Direct,
    /// Many.
    Group {
        /// The chat.
        id: String,
    },
    /// A part of a group with a history of its own.
    Thread {
        /// The group.
        group_id: String,
        /// The part.
        thread_id: String,
    },
}

/// Who wrote a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// What access is decided on.
    pub id: PeerId,
    /// Handle without `@`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Given and family name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

impl Sender {
    /// Display name, else handle, else id.
    #[must_use]
    pub fn name(&self) -> &str {
        self.display_name.as_deref().or(self.username.as_deref()).unwrap_or(self.id.as_str())
    }
}

/// A message of a person, as an adapter decoded it.
#[derive(Debug, Clone, PartialEq)]
pub struct InboundMessage {
    /// Where the answer goes.
    pub address: Address,
    /// Who wrote it.
    pub sender: Sender,
    /// The same for every delivery of the same message, unique for the bot.
    pub event_key: String,
    /// Order among the messages of the bot, as the platform numbers them.
    pub order_key: i64,
    /// The platform's id of the message, for replies and reactions.
    pub message_id: String,
    /// The message that it answers, where the platform shows that.
    pub reply_to: Option<String>,
    /// What was written, without the bot's name at its start.
    pub text: String,
    /// Files that came with it; not fetched yet.
    pub attachments: Vec<MediaAttachment>,
    /// `channel_meta` of the session listing.
    pub metadata: Value,
}

impl InboundMessage {
    /// Where it is, for replies, reactions and edits.
    #[must_use]
    pub fn reference(&self) -> MessageRef {
        MessageRef { address: self.address.clone(), message_id: self.message_id.clone() }
    }
}

/// Something that was said to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overheard {
    /// Who said it, for people.
    pub name: String,
    /// What was said.
    pub text: String,
}

/// A file that a person sent, as the platform names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaAttachment {
    /// What [`Channel::fetch`](crate::Channel::fetch) finds it by: a file id, or a URL of the platform.
    pub id: String,
    /// As the sender named it; never a path here.
    pub name: String,
    /// As the platform tells it; not to be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Bytes, if the platform tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A press of a button under a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Press {
    /// The chat of the prompt.
    pub address: Address,
    /// Who pressed.
    pub sender: Sender,
    /// The same for every delivery of the same press, unique for the bot.
    pub event_key: String,
    /// Order among the events of the bot.
    pub order_key: i64,
    /// The message that holds the button.
    pub message_id: String,
    /// `callback_data` of the button.
    pub payload: String,
    /// What the platform wants back with the answer: a query id, an interaction token.
    pub token: String,
}

/// A message on a platform.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageRef {
    /// The chat.
    pub address: Address,
    /// The platform's id within the chat.
    pub message_id: String,
}

/// The content of one message, made by [`Channel::compose`](crate::Channel::compose).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Everything as plain text, within the platform's limit.
    pub text: String,
    /// The same in the platform's own form: Telegram entities, Slack blocks. Without it the text is sent as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Value>,
}

impl Body {
    /// A text without any form.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), format: None }
    }
}

/// A message for a chat.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboundReply {
    /// The chat.
    pub address: Address,
    /// Within the platform's limits.
    pub body: Body,
    /// The message it answers, where the platform shows that.
    pub reply_to: Option<String>,
    /// The same for every attempt to send this message; the platform, or a look-up, finds a copy by it.
    pub dedupe_key: String,
}

/// A file for a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundFile {
    /// What the chat sees.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
    /// A line above it.
    pub caption: Option<String>,
    /// The same for every attempt to send this file, as [`OutboundReply::dedupe_key`].
    pub dedupe_key: String,
}

/// A button under a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalButton {
    /// What it says.
    pub label: String,
    /// What comes back when it is pressed; at most 64 bytes.
    pub callback_data: String,
    /// How it looks.
    pub style: ButtonStyle,
}

/// How a button looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ButtonStyle {
    /// Says yes.
    Success,
    /// Says no.
    Danger,
    /// Neither.
    Secondary,
}

/// What somebody who pressed a button is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PressAnswer {
    /// It counted; the prompt itself shows the outcome.
    Taken,
    /// It did not, and why; only the presser sees it.
    Refused(String),
}

/// A sign on a message of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// Received: eyes.
    Seen,
    /// Answered: a check mark.
    Done,
    /// Failed: a cross.
    Failed,
}

/// What the platform said about a sent text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryReceipt {
    /// The new message.
    pub message_id: String,
    /// The thread it is in.
    pub thread_id: Option<String>,
    /// The chat it is in, where the platform tells: it may have been addressed by a name.
    pub chat: Option<String>,
}

/// What a schedule or program said into a chat, kept for the next message from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryContext(pub Value);

impl DeliveryContext {
    /// Longest text of one field.
    const FIELD_LIMIT: usize = 8_000;

    /// The known fields as lines of text; none when there is none of them.
    #[must_use]
    pub fn render(&self) -> Option<String> {
        let line = |name: &str| {
            let text = match self.0.get(name)? {
                Value::Null => return None,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let text: String = text.chars().take(Self::FIELD_LIMIT).collect();
            Some(format!("{name}: {text}"))
        };
        let lines: Vec<_> =
            ["schedule", "status", "summary", "check_output", "trigger"].into_iter().filter_map(line).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}
