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
    /// What was written.
    pub text: String,
    /// `channel_meta` of the session listing.
    pub metadata: Value,
}

/// A text for a chat.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboundReply {
    /// The chat.
    pub address: Address,
    /// Within the platform's limit.
    pub text: String,
}

/// What the platform said about a sent text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryReceipt {
    /// The new message.
    pub message_id: String,
    /// The thread it is in.
    pub thread_id: Option<String>,
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
