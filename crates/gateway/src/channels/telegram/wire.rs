//! Updates as the platform sends them, of which only what is used.

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub(super) struct Message {
    pub(super) message_id: i64,
    pub(super) chat: Chat,
    #[serde(default)]
    pub(super) from: Option<User>,
    /// Set instead of a person for channel posts and anonymous administrators.
    #[serde(default)]
    pub(super) sender_chat: Option<Chat>,
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) caption: Option<String>,
    #[serde(default)]
    pub(super) entities: Vec<Entity>,
    #[serde(default)]
    pub(super) caption_entities: Vec<Entity>,
    #[serde(default)]
    pub(super) message_thread_id: Option<i64>,
    #[serde(default)]
    pub(super) is_topic_message: bool,
    #[serde(default)]
    pub(super) reply_to_message: Option<ReplyTo>,
    /// The part of the other message that is answered.
    #[serde(default)]
    pub(super) quote: Option<Quote>,
    #[serde(flatten)]
    pub(super) media: Media,
    /// The other messages of its album: see [`super::album`].
    #[serde(default)]
    pub(super) album: Vec<Value>,
    #[serde(default)]
    pub(super) migrate_to_chat_id: Option<i64>,
    #[serde(default)]
    pub(super) migrate_from_chat_id: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ReplyTo {
    pub(super) message_id: i64,
    #[serde(default)]
    pub(super) from: Option<User>,
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) caption: Option<String>,
    #[serde(flatten)]
    pub(super) media: Media,
    /// What a message in a topic answers when it answers nothing.
    #[serde(default)]
    pub(super) forum_topic_created: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Quote {
    pub(super) text: String,
}

/// What may be in a message beside its text.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Media {
    /// One photo in several sizes.
    #[serde(default)]
    pub(super) photo: Vec<File>,
    #[serde(default)]
    pub(super) document: Option<File>,
    #[serde(default)]
    pub(super) voice: Option<File>,
    #[serde(default)]
    pub(super) audio: Option<File>,
    #[serde(default)]
    pub(super) video: Option<File>,
    #[serde(default)]
    pub(super) video_note: Option<File>,
}

#[derive(Debug, Deserialize)]
pub(super) struct File {
    pub(super) file_id: String,
    #[serde(default)]
    pub(super) file_name: Option<String>,
    #[serde(default)]
    pub(super) mime_type: Option<String>,
    #[serde(default)]
    pub(super) file_size: Option<u64>,
    #[serde(default)]
    pub(super) width: u64,
    #[serde(default)]
    pub(super) height: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Chat {
    pub(super) id: i64,
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) title: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub(super) id: i64,
    #[serde(default)]
    pub(super) is_bot: bool,
    #[serde(default)]
    pub(super) first_name: Option<String>,
    #[serde(default)]
    pub(super) last_name: Option<String>,
    #[serde(default)]
    pub(super) username: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Entity {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) offset: usize,
    pub(super) length: usize,
    #[serde(default)]
    pub(super) user: Option<User>,
}

/// A press of a button.
#[derive(Debug, Deserialize)]
pub(super) struct CallbackQuery {
    pub(super) id: String,
    pub(super) from: User,
    /// The message with the button; of old ones only where they are.
    #[serde(default)]
    pub(super) message: Option<Pressed>,
    #[serde(default)]
    pub(super) data: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Pressed {
    pub(super) message_id: i64,
    pub(super) chat: Chat,
    #[serde(default)]
    pub(super) message_thread_id: Option<i64>,
    #[serde(default)]
    pub(super) is_topic_message: bool,
}

/// What the bot may do in a chat changed.
#[derive(Debug, Deserialize)]
pub(super) struct MemberUpdate {
    pub(super) chat: Chat,
    pub(super) new_chat_member: Member,
}

#[derive(Debug, Deserialize)]
pub(super) struct Member {
    pub(super) status: String,
}
