//! Where a conversation takes place.
//!
//! The one type from which routing key, target key and send target are made, so that inbound and outbound always agree.

use serde::{Deserialize, Serialize};

use crate::{ChannelId, ChatType, PeerId, targeting::is_slack_id};

/// A place on a platform.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The platform.
    pub channel: ChannelId,
    /// The chat as the platform numbers it.
    pub chat: String,
    /// A part of the chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The other party of a direct chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<PeerId>,
}

impl Address {
    /// What kind of chat it is. Parts of a direct chat share its conversation.
    #[must_use]
    pub fn chat_type(&self) -> ChatType {
        match (&self.direct, &self.thread) {
            (Some(_), _) => ChatType::Direct,
            (None, None) => ChatType::Group { id: self.chat.clone() },
            (None, Some(thread)) => ChatType::Thread { group_id: self.chat.clone(), thread_id: thread.clone() },
        }
    }

    /// Key of one-shot contexts and of the session listing.
    #[must_use]
    pub fn target_key(&self) -> String {
        let Self { channel, chat, thread, .. } = self;
        let noun = if matches!(channel.as_str(), "slack" | "discord") { "channel" } else { "chat" };
        match thread {
            Some(thread) => format!("{channel}:{noun}:{chat}:thread:{thread}"),
            None => format!("{channel}:{noun}:{chat}"),
        }
    }

    /// Another key under which what was said there may be kept: a part of a direct chat shares its conversation, and 0.3.x
    /// kept threads of Discord as channels.
    pub(crate) fn other_target_key(&self) -> String {
        let (chat, thread) = match (&self.thread, &self.direct) {
            (Some(thread), None) if self.channel.as_str() == "discord" => (thread.clone(), None),
            (_, Some(_)) => (self.chat.clone(), None),
            (thread, None) => (self.chat.clone(), thread.clone()),
        };
        Self { chat, thread, ..self.clone() }.target_key()
    }

    /// Where people answer a message of the bot, if that is another place: on Slack a thread of the message.
    pub(crate) fn beneath(&self, message_id: &str) -> Option<Self> {
        let of_person = is_slack_id(&self.chat, &['D', 'U', 'W']);
        let is_channel = self.channel.as_str() == "slack" && self.direct.is_none() && !of_person;
        (is_channel && self.thread.is_none()).then(|| Self { thread: Some(message_id.to_owned()), ..self.clone() })
    }

    /// Texts with the same key are sent one after the other.
    #[must_use]
    pub fn chat_key(&self) -> String {
        format!("{}:{}", self.channel, self.chat)
    }
}
