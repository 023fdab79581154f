//! The methods of the Bot API that are used, and of each the parameters that are.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use teloxide_core::requests::Payload;
use teloxide_reqwest::multipart::{Form, Part};

use super::{api::Me, wire::Chat};

macro_rules! method {
    ($parameters:ty, $name:literal, $answer:ty) => {
        impl Payload for $parameters {
            type Output = $answer;
            const NAME: &'static str = $name;
        }
    };
}

/// A message that was sent.
#[derive(Debug, Deserialize)]
pub(super) struct Sent {
    pub(super) message_id: i64,
    #[serde(default)]
    pub(super) chat: Option<Chat>,
}

/// Where a file is.
#[derive(Debug, Deserialize)]
pub(super) struct StoredFile {
    /// None if it has to be asked for again later.
    #[serde(default)]
    pub(super) file_path: Option<String>,
    #[serde(default)]
    pub(super) file_size: Option<u64>,
}

#[derive(Clone, Serialize)]
pub(super) struct GetMe {}
method!(GetMe, "getMe", Me);

#[derive(Clone, Serialize)]
pub(super) struct GetUpdates {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<i64>,
    pub(super) timeout: u64,
    pub(super) allowed_updates: [&'static str; 4],
}
method!(GetUpdates, "getUpdates", Vec<Value>);

/// The message that a new one answers.
#[derive(Clone, Serialize)]
pub(super) struct ReplyParameters {
    pub(super) message_id: i64,
    pub(super) allow_sending_without_reply: bool,
}

#[derive(Clone, Serialize)]
pub(super) struct SendMessage {
    pub(super) chat_id: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_thread_id: Option<i64>,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entities: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reply_markup: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reply_parameters: Option<ReplyParameters>,
}
method!(SendMessage, "sendMessage", Sent);

#[derive(Clone, Serialize)]
pub(super) struct EditMessageText {
    pub(super) chat_id: Value,
    pub(super) message_id: i64,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entities: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reply_markup: Option<Value>,
}
// `true` for messages of others, the message for the bot's own; neither is needed.
method!(EditMessageText, "editMessageText", Value);

pub(super) struct SendDocument {
    pub(super) chat_id: String,
    pub(super) message_thread_id: Option<i64>,
    pub(super) name: String,
    pub(super) content: Vec<u8>,
    pub(super) caption: Option<String>,
}
method!(SendDocument, "sendDocument", Sent);

impl SendDocument {
    pub(super) fn form(self) -> Form {
        let mut form = Form::new().text("chat_id", self.chat_id);
        if let Some(thread) = self.message_thread_id {
            form = form.text("message_thread_id", thread.to_string());
        }
        if let Some(caption) = self.caption {
            form = form.text("caption", caption);
        }
        form.part("document", Part::bytes(self.content).file_name(self.name))
    }
}

#[derive(Clone, Serialize)]
pub(super) struct SendChatAction {
    pub(super) chat_id: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_thread_id: Option<i64>,
    pub(super) action: &'static str,
}
method!(SendChatAction, "sendChatAction", Value);

#[derive(Clone, Serialize)]
pub(super) struct ReactionType {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) emoji: &'static str,
}

#[derive(Clone, Serialize)]
pub(super) struct SetMessageReaction {
    pub(super) chat_id: Value,
    pub(super) message_id: i64,
    pub(super) reaction: [ReactionType; 1],
}
method!(SetMessageReaction, "setMessageReaction", Value);

#[derive(Clone, Serialize)]
pub(super) struct AnswerCallbackQuery {
    pub(super) callback_query_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    pub(super) show_alert: bool,
}
method!(AnswerCallbackQuery, "answerCallbackQuery", Value);

#[derive(Clone, Serialize)]
pub(super) struct GetChat {
    pub(super) chat_id: String,
}
method!(GetChat, "getChat", Chat);

#[derive(Clone, Serialize)]
pub(super) struct GetFile {
    pub(super) file_id: String,
}
method!(GetFile, "getFile", StoredFile);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct MenuEntry {
    pub(super) command: String,
    pub(super) description: String,
}

#[derive(Clone, Serialize)]
pub(super) struct SetMyCommands {
    pub(super) commands: Vec<MenuEntry>,
}
method!(SetMyCommands, "setMyCommands", Value);

#[derive(Clone, Serialize)]
pub(super) struct DeleteWebhook {}
method!(DeleteWebhook, "deleteWebhook", Value);

/// Where updates are sent instead of being polled for.
#[derive(Debug, Deserialize)]
pub(super) struct Webhook {
    /// Blank if there is none.
    #[serde(default)]
    pub(super) url: String,
}

#[derive(Clone, Serialize)]
pub(super) struct GetWebhookInfo {}
method!(GetWebhookInfo, "getWebhookInfo", Webhook);
