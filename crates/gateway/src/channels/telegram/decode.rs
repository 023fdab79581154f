//! From an update to an event.
//!
//! * Bots, the own one included, and updates of other kinds are passed over.
//! * What should be an event and does not decode is kept raw; it never blocks those behind it.
//! * Positions of entities count UTF-16 units.

mod content;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use self::content::{attachments, quoted};
use super::{
    api::Me,
    wire::{CallbackQuery, Chat, Entity, Media, MemberUpdate, Message, User},
};
use crate::{Address, InboundEvent, InboundMessage, Press, Sender};

/// Decodes the updates of one bot.
#[derive(Debug)]
pub(super) struct Decoder {
    bot_id: i64,
    /// With the `@`, in small letters.
    mention: Option<String>,
    require_mention: bool,
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
        let mut content = |kind: &str| update.get_mut(kind).map(Value::take);
        if let Some(message) = content("message") {
            return read(id, "message", &message, |message| self.message_event(id, message));
        }
        if let Some(message) = content("edited_message") {
            let edited = |message| Some(InboundEvent::Edited(Box::new(self.message(id, message)?)));
            return read(id, "edited_message", &message, edited);
        }
        if let Some(query) = content("callback_query") {
            let press = |query| Some(InboundEvent::Press(Box::new(press(id, query)?)));
            return read(id, "callback_query", &query, press);
        }
        if let Some(Ok(MemberUpdate { chat, new_chat_member })) =
            content("my_chat_member").map(|update| MemberUpdate::deserialize(&update))
        {
            tracing::info!(chat = chat.id, status = new_chat_member.status, "the bot's place in a chat changed");
        }
        None
    }

    fn message_event(&self, id: i64, message: Message) -> Option<InboundEvent> {
        let chat = message.chat.id;
        let moved = match (message.migrate_from_chat_id, message.migrate_to_chat_id) {
            (Some(from), _) => Some((from, chat)),
            (None, Some(to)) => Some((chat, to)),
            (None, None) => None,
        };
        if let Some((from, to)) = moved {
            return Some(InboundEvent::Migrated { from: from.to_string(), to: to.to_string() });
        }
        self.message(id, message).map(|message| InboundEvent::Message(Box::new(message)))
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
            None => (message.caption.unwrap_or_default(), message.caption_entities),
        };
        let replied = message.reply_to_message.filter(|reply| reply.forum_topic_created.is_none());
        let reply_to = replied.as_ref().map(|reply| reply.message_id.to_string());
        let answers_bot =
            replied.as_ref().and_then(|reply| reply.from.as_ref()).is_some_and(|user| user.id == self.bot_id);
        let for_another = entities.first().is_some_and(|entity| self.commands_another(entity, &text));
        let mentioned = private
            || !self.require_mention
            || answers_bot
            || entities.iter().any(|entity| self.names_bot(entity, &text));
        let text = self.without_name(if private { text } else { self.without_mention(text) });
        let mut files = attachments(&message.media);
        let album = message.album.iter().filter_map(|other| Media::deserialize(other).ok());
        files.extend(album.flat_map(|media| attachments(&media)));
        if !mentioned || for_another || (text.trim().is_empty() && files.is_empty()) {
            return None;
        }
        let mut text = text;
        if let Some(replied) = replied.filter(|_| !answers_bot || message.quote.is_some()) {
            text = quoted(text, message.quote.as_ref(), &replied);
            files.extend(attachments(&replied.media).into_iter().filter(|_| !answers_bot));
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
            reply_to,
            text,
            attachments: files,
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
                Some((_, bot)) => self.is_own_name(bot),
                None => true,
            },
            _ => false,
        }
    }

    /// The text begins with `/command@other`.
    fn commands_another(&self, entity: &Entity, text: &str) -> bool {
        let named = utf16_slice(text, entity.offset, entity.length);
        let bot = named.split_once('@').map(|(_, bot)| bot);
        entity.kind == "bot_command" && entity.offset == 0 && bot.is_some_and(|bot| !self.is_own_name(bot))
    }

    fn is_own_name(&self, name: &str) -> bool {
        let own = self.mention.as_deref().map(|mention| mention.trim_start_matches('@'));
        own == Some(name.to_lowercase().as_str())
    }

    /// The bot's name at the start is the envelope, not the letter.
    fn without_mention(&self, text: String) -> String {
        let Some(mention) = self.mention.as_deref() else { return text };
        let trimmed = text.trim_start();
        let Some((start, rest)) = trimmed.split_at_checked(mention.len()) else { return text };
        let longer = rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
        if start.to_lowercase() != mention || longer {
            return text;
        }
        rest.trim_start_matches([' ', ',', ':', '\n']).to_owned()
    }

    /// `/command@bot` as `/command`.
    fn without_name(&self, text: String) -> String {
        let Some(mention) = self.mention.as_deref().filter(|_| text.starts_with('/')) else { return text };
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        match text[..end].split_once('@') {
            Some((command, name)) if mention[1..] == name.to_lowercase() => format!("{command}{}", &text[end..]),
            _ => text,
        }
    }
}

/// What is of a kind and does not decode is kept as it came.
fn read<T: DeserializeOwned>(
    id: i64,
    kind: &str,
    content: &Value,
    decode: impl FnOnce(T) -> Option<InboundEvent>,
) -> Option<InboundEvent> {
    match T::deserialize(content) {
        Ok(content) => decode(content),
        Err(_) => Some(InboundEvent::Undecodable {
            event_key: format!("{id}"),
            order_key: id,
            raw: serde_json::json!({ "update_id": id, kind: content }).to_string(),
        }),
    }
}

/// None for a button that sends nothing back, or under a message that is nowhere.
fn press(id: i64, query: CallbackQuery) -> Option<Press> {
    let CallbackQuery { id: token, from, message, data } = query;
    let (message, payload) = (message?, data?);
    let private = message.chat.kind == "private";
    let sender = sender(Some(from), None)?;
    Some(Press {
        address: Address {
            channel: "telegram".into(),
            chat: message.chat.id.to_string(),
            thread: message.message_thread_id.filter(|_| message.is_topic_message).map(|id| id.to_string()),
            direct: private.then(|| sender.id.clone()),
        },
        sender,
        event_key: format!("press:{token}"),
        order_key: id,
        message_id: message.message_id.to_string(),
        payload,
        token,
    })
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
mod tests;
