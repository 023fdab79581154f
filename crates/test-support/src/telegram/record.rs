//! What the server remembers, for tests and checkers.

use serde_json::{Value, json};

use super::world::{World, chat_json, user_json};

/// A message as it is now, and what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct SentMessage {
    /// Its id within the chat.
    pub message_id: i64,
    /// The chat.
    pub chat_id: i64,
    /// The topic.
    pub thread_id: Option<i64>,
    /// Who wrote it.
    pub from: i64,
    /// The text; of a file, its caption.
    pub text: String,
    /// Its form: an array, or null.
    pub entities: Value,
    /// The buttons under it, row by row.
    pub buttons: Vec<KeyboardButton>,
    /// The message it answers.
    pub reply_to: Option<i64>,
    /// The file it holds.
    pub file: Option<SentFile>,
    /// Its texts before each edit.
    pub edits: Vec<String>,
    /// The bot's reactions to it, as they changed; an empty one for a removal.
    pub reactions: Vec<String>,
}

/// A button under a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyboardButton {
    /// What it says.
    pub label: String,
    /// What comes back when it is pressed.
    pub data: String,
}

/// A file that the bot sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentFile {
    /// Its name.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// An answered press of a button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredPress {
    /// The query.
    pub id: String,
    /// What the presser was told.
    pub text: String,
    /// Whether in a window of its own.
    pub alert: bool,
}

/// A call of the bot that reached the server, done or not.
#[derive(Debug, Clone, PartialEq)]
pub struct BotCall {
    /// In small letters.
    pub method: String,
    /// What was given; of files their names.
    pub params: Value,
}

impl SentMessage {
    pub(super) fn new(chat_id: i64, from: i64, text: impl Into<String>) -> Self {
        Self {
            message_id: 0,
            chat_id,
            thread_id: None,
            from,
            text: text.into(),
            entities: Value::Null,
            buttons: Vec::new(),
            reply_to: None,
            file: None,
            edits: Vec::new(),
            reactions: Vec::new(),
        }
    }
}

impl World {
    /// A message as updates and answers show it; without the one it answers.
    pub(super) fn message_json(&self, message: &SentMessage) -> Value {
        let forum = self.chats.get(&message.chat_id).is_some_and(|chat| !chat.topics.is_empty());
        let mut json = json!({
            "message_id": message.message_id, "date": 1_790_000_000, "chat": chat_json(message.chat_id, forum),
            "from": user_json(message.from)
        });
        let key = if message.file.is_some() { "caption" } else { "text" };
        if !message.text.is_empty() {
            json[key] = message.text.clone().into();
        }
        if message.entities.is_array() {
            json[if message.file.is_some() { "caption_entities" } else { "entities" }] = message.entities.clone();
        }
        if let Some(thread) = message.thread_id {
            json["message_thread_id"] = thread.into();
            json["is_topic_message"] = true.into();
        }
        if !message.buttons.is_empty() {
            let rows: Vec<Value> = message
                .buttons
                .iter()
                .map(|button| json!([{ "callback_data": button.data, "text": button.label }]))
                .collect();
            json["reply_markup"] = json!({ "inline_keyboard": rows });
        }
        if !message.edits.is_empty() {
            json["edit_date"] = 1_790_000_001.into();
        }
        json
    }
}
