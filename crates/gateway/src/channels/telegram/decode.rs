//! From an update to a message.
//!
//! * Bots, the own one included, and updates that are no messages are passed over.
//! * What should be a message and does not decode is kept raw; it never blocks those behind it.
//! * Positions of entities count UTF-16 units.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::api::Me;
use crate::{Address, InboundEvent, InboundMessage, Sender};

/// Decodes the updates of one bot.
#[derive(Debug)]
pub(super) struct Decoder {
    bot_id: i64,
    mention: Option<String>,
    require_mention: bool,
}

#[derive(Debug, Deserialize)]
struct Message {
    message_id: i64,
    chat: Chat,
    #[serde(default)]
    from: Option<User>,
    /// Set instead of a person for channel posts and anonymous administrators.
    #[serde(default)]
    sender_chat: Option<Chat>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    caption: Option<String>,
    #[serde(default)]
    entities: Vec<Entity>,
    #[serde(default)]
    caption_entities: Vec<Entity>,
    #[serde(default)]
    message_thread_id: Option<i64>,
    #[serde(default)]
    is_topic_message: bool,
    #[serde(default)]
    reply_to_message: Option<ReplyTo>,
}

#[derive(Debug, Deserialize)]
struct ReplyTo {
    #[serde(default)]
    from: Option<User>,
}

#[derive(Debug, Deserialize)]
struct Chat {
    id: i64,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    title: Option<String>,
}

#[derive(Debug, Deserialize)]
struct User {
    id: i64,
    #[serde(default)]
    is_bot: bool,
    #[serde(default)]
    first_name: Option<String>,
    #[serde(default)]
    last_name: Option<String>,
    #[serde(default)]
    username: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Entity {
    #[serde(rename = "type")]
    kind: String,
    offset: usize,
    length: usize,
    #[serde(default)]
    user: Option<User>,
}

/// The number of an update.
pub(super) fn update_id(update: &Value) -> Option<i64> {
    update.get("update_id")?.as_i64()
}

impl Decoder {
    pub(super) fn new(me: &Me, require_mention: bool) -> Self {
        let mention = me.username.as_ref().map(|username| format!("@{username}").to_lowercase());
        Self { bot_id: me.id, mention, require_mention }
    }

    /// None for what is not meant for the bot.
    pub(super) fn decode(&self, id: i64, mut update: Value) -> Option<InboundEvent> {
        let message = update.get_mut("message")?.take();
        match Message::deserialize(&message) {
            Ok(message) => self.message(id, message).map(|message| InboundEvent::Message(Box::new(message))),
            Err(_) => Some(InboundEvent::Undecodable {
                event_key: format!("{id}"),
                order_key: id,
                raw: serde_json::json!({ "update_id": id, "message": message }).to_string(),
            }),
        }
    }

    fn message(&self, id: i64, message: Message) -> Option<InboundMessage> {
        let private = message.chat.kind == "private";
        if message.chat.kind == "channel" {
            return None;
        }
        let metadata = metadata(&message);
        let sender = sender(message.from, message.sender_chat)?;
        let (text, entities) = match message.text {
            Some(text) => (text, message.entities),
            None => (message.caption?, message.caption_entities),
        };
        let replied_to = message.reply_to_message.and_then(|reply| reply.from).map(|user| user.id);
        let mentioned = private
            || !self.require_mention
            || replied_to == Some(self.bot_id)
            || entities.iter().any(|entity| self.names_bot(entity, &text));
        let text = if private { text } else { self.without_mention(text) };
        if !mentioned || text.trim().is_empty() {
            return None;
        }
        let thread = message.message_thread_id.filter(|_| message.is_topic_message).map(|id| id.to_string());
        let chat = message.chat.id.to_string();
        let direct = private.then(|| sender.id.clone());
        Some(InboundMessage {
            event_key: format!("{id}:{chat}:{}", message.message_id),
            order_key: id,
            address: Address { channel: "telegram".into(), chat, thread, direct },
            sender,
            message_id: message.message_id.to_string(),
            text,
            attachments: Vec::new(),
            metadata,
        })
    }

    fn names_bot(&self, entity: &Entity, text: &str) -> bool {
        let named = utf16_slice(text, entity.offset, entity.length).to_lowercase();
        match entity.kind.as_str() {
            "mention" => self.mention.as_deref() == Some(&named),
            "text_mention" => entity.user.as_ref().is_some_and(|user| user.id == self.bot_id),
            // `/command` alone is meant for every bot of the group, `/command@other` for another one.
            "bot_command" => match named.split_once('@') {
                Some((_, bot)) => self.mention.as_deref().is_some_and(|mention| mention.trim_start_matches('@') == bot),
                None => true,
            },
            _ => false,
        }
    }

    /// The bot's name at the start is the envelope, not the letter.
    fn without_mention(&self, text: String) -> String {
        let Some(mention) = self.mention.as_deref() else { return text };
        let trimmed = text.trim_start();
        match trimmed.get(..mention.len()) {
            Some(start) if start.to_lowercase() == mention => {
                trimmed[mention.len()..].trim_start_matches([' ', ',', ':', '\n']).to_owned()
            }
            _ => text,
        }
    }
}

/// The person, or the chat that speaks through the platform's own accounts; no bots.
fn sender(from: Option<User>, sender_chat: Option<Chat>) -> Option<Sender> {
    if let Some(chat) = sender_chat {
        return Some(Sender { id: chat.id.to_string().into(), username: None, display_name: chat.title });
    }
    let user = from.filter(|user| !user.is_bot)?;
    let names: Vec<_> = [user.first_name, user.last_name].into_iter().flatten().collect();
    let display_name = (!names.is_empty()).then(|| names.join(" "));
    Some(Sender { id: user.id.to_string().into(), username: user.username, display_name })
}

fn metadata(message: &Message) -> Value {
    let mut meta = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            meta.insert(key.to_owned(), value);
        }
    };
    put("chat_id", Some(message.chat.id.into()));
    put("message_id", Some(message.message_id.into()));
    put("thread_id", message.message_thread_id.filter(|_| message.is_topic_message).map(Value::from));
    put("chat_title", message.chat.title.clone().map(Value::from));
    let user = message.from.as_ref();
    put("username", user.and_then(|user| user.username.clone()).map(Value::from));
    put("display_name", user.and_then(|user| user.first_name.clone()).map(Value::from));
    Value::Object(meta)
}

fn utf16_slice(text: &str, offset: usize, length: usize) -> String {
    let units: Vec<u16> = text.encode_utf16().skip(offset).take(length).collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decoder(require_mention: bool) -> Decoder {
        let me = serde_json::from_value(json!({"id": 99, "username": "OpsBot"})).unwrap();
        Decoder::new(&me, require_mention)
    }

    fn update(message: &Value) -> Value {
        json!({"update_id": 5, "message": message})
    }

    fn decoded(decoder: &Decoder, message: &Value) -> Option<InboundMessage> {
        match decoder.decode(5, update(message)) {
            Some(InboundEvent::Message(message)) => Some(*message),
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    }

    fn group(text: &str, more: &Value) -> Value {
        let mut message = json!({"message_id": 7, "date": 0, "chat": {"id": -100, "type": "supergroup", "title": "ops"},
            "from": {"id": 1, "is_bot": false, "first_name": "Ann"}, "text": text});
        for (key, value) in more.as_object().unwrap() {
            message[key] = value.clone();
        }
        message
    }

    #[test]
    fn a_direct_message_is_keyed_by_update_chat_and_message() {
        let message = decoded(
            &decoder(true),
            &json!({"message_id": 7, "chat": {"id": 1, "type": "private"}, "text": "hi",
                "from": {"id": 1, "first_name": "Ann", "last_name": "Lee", "username": "ann"}}),
        )
        .unwrap();
        assert_eq!(message.event_key, "5:1:7");
        assert_eq!(message.address.direct, Some("1".into()));
        assert_eq!(message.sender.name(), "Ann Lee");
    }

    #[test]
    fn a_thread_is_only_a_topic() {
        let plain = decoded(&decoder(false), &group("x", &json!({"message_thread_id": 3}))).unwrap();
        assert_eq!(plain.address.thread, None);
        let topic = group("x", &json!({"message_thread_id": 3, "is_topic_message": true}));
        assert_eq!(decoded(&decoder(false), &topic).unwrap().address.thread, Some("3".into()));
    }

    #[test]
    fn in_groups_a_mention_may_be_required() {
        let mention = json!({"entities": [{"type": "mention", "offset": 0, "length": 7}]});
        let text = decoded(&decoder(true), &group("@opsbot disk?\n  df", &mention)).unwrap().text;
        assert_eq!(text, "disk?\n  df");
        assert_eq!(decoded(&decoder(true), &group("disk?", &json!({}))), None);
        let other = json!({"entities": [{"type": "bot_command", "offset": 0, "length": 12}]});
        assert_eq!(decoded(&decoder(true), &group("/start@other", &other)), None);
        let reply = json!({"reply_to_message": {"message_id": 1, "from": {"id": 99, "is_bot": true}}});
        assert!(decoded(&decoder(true), &group("yes", &reply)).is_some());
        assert!(decoded(&decoder(false), &group("disk?", &json!({}))).is_some());
    }

    #[test]
    fn bots_are_ignored_and_the_undecodable_is_kept() {
        let bot = group("x", &json!({"from": {"id": 2, "is_bot": true, "first_name": "b"}}));
        assert_eq!(decoded(&decoder(false), &bot), None);
        let broken = decoder(false).decode(6, json!({"update_id": 6, "message": {"chat": "?"}}));
        assert!(matches!(broken, Some(InboundEvent::Undecodable { order_key: 6, .. })), "{broken:?}");
        assert_eq!(decoder(false).decode(6, json!({"update_id": 6, "poll": {}})), None);
    }
}
