//! From an event to a message or a press.
//!
//! * Bots, the own one included, webhooks and what the platform itself says are passed over; ordinary messages and replies
//!   are not.
//! * What should be a message and does not decode is kept raw; it never blocks those behind it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::places::{Place, snowflake};
use crate::{InboundEvent, InboundMessage, MediaAttachment, PeerId, Press, Sender};

/// An ordinary message.
const DEFAULT: u64 = 0;
/// One that answers another.
const REPLY: u64 = 19;

/// A message that may be meant for the bot.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) message: InboundMessage,
    /// It is direct, names the bot, or answers it.
    pub(super) addressed: bool,
    /// It names the bot, and goes on with nothing.
    pub(super) begins: bool,
    pub(super) edited: bool,
}

#[derive(Debug, Deserialize)]
struct Message {
    id: String,
    channel_id: String,
    author: User,
    content: String,
    #[serde(rename = "type", default)]
    kind: u64,
    #[serde(default)]
    webhook_id: Option<String>,
    #[serde(default)]
    edited_timestamp: Option<String>,
    #[serde(default)]
    mentions: Vec<User>,
    #[serde(default)]
    attachments: Vec<Attachment>,
    #[serde(default)]
    referenced_message: Option<Referenced>,
    #[serde(default)]
    member: Option<Member>,
}

#[derive(Debug, Deserialize)]
struct User {
    id: String,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    global_name: Option<String>,
    #[serde(default)]
    bot: bool,
    #[serde(default)]
    system: bool,
}

#[derive(Debug, Deserialize)]
struct Member {
    #[serde(default)]
    nick: Option<String>,
    #[serde(default)]
    user: Option<User>,
}

#[derive(Debug, Deserialize)]
struct Referenced {
    #[serde(default)]
    id: Option<String>,
    author: User,
}

#[derive(Debug, Deserialize)]
struct Attachment {
    id: String,
    filename: String,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    size: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Interaction {
    id: String,
    application_id: String,
    token: String,
    #[serde(default)]
    data: ComponentData,
    #[serde(default)]
    member: Option<Member>,
    #[serde(default)]
    user: Option<User>,
    #[serde(default)]
    message: Option<Pressed>,
}

#[derive(Debug, Default, Deserialize)]
struct ComponentData {
    #[serde(default)]
    custom_id: String,
}

#[derive(Debug, Deserialize)]
struct Pressed {
    id: String,
}

/// Decodes what one bot hears.
#[derive(Debug)]
pub(super) struct Decoder {
    bot: String,
}

impl Decoder {
    pub(super) fn new(bot: u64) -> Self {
        Self { bot: bot.to_string() }
    }

    /// None for what nobody has to answer; an error for what is not understood.
    pub(super) fn message(&self, value: &Value, place: &Place) -> Result<Option<Heard>, InboundEvent> {
        let message = Message::deserialize(value).map_err(|_| undecodable(value))?;
        let author = &message.author;
        let machine = author.bot || author.system || message.webhook_id.is_some();
        if machine || author.id == self.bot || !matches!(message.kind, DEFAULT | REPLY) {
            return Ok(None);
        }
        let order_key = message.id.parse().map_err(|_| undecodable(value))?;
        let channel = message.channel_id.parse().map_err(|_| undecodable(value))?;
        let answers = message.referenced_message.as_ref().is_some_and(|referenced| referenced.author.id == self.bot);
        let named = message.mentions.iter().any(|user| user.id == self.bot);
        let text = self.without_mention(&message.content).to_owned();
        if text.trim().is_empty() && message.attachments.is_empty() {
            return Ok(None);
        }
        let sender = sender(&message.author, message.member.as_ref());
        let address = place.address(channel, &sender.id);
        let (addressed, begins) = (address.direct.is_some() || named || answers, named && !answers);
        let metadata = metadata(&message, place, &sender);
        let file = |attachment: &Attachment| MediaAttachment {
            id: format!("{}/{}/{}", message.channel_id, message.id, attachment.id),
            name: attachment.filename.clone(),
            mime_type: attachment.content_type.clone(),
            size: attachment.size,
        };
        let edited = message.edited_timestamp.is_some();
        let message = InboundMessage {
            address,
            sender,
            event_key: message.id.clone(),
            order_key,
            message_id: message.id.clone(),
            reply_to: message.referenced_message.as_ref().and_then(|referenced| referenced.id.clone()),
            text,
            attachments: message.attachments.iter().map(file).collect(),
            metadata,
        };
        Ok(Some(Heard { message, addressed, begins, edited }))
    }

    /// A press of a button; none for other interactions.
    pub(super) fn press(&self, value: &Value, place: &Place) -> Option<Press> {
        if value["type"] != 3 {
            return None;
        }
        let interaction = Interaction::deserialize(value).ok()?;
        let member = interaction.member;
        let user = interaction.user.as_ref().or_else(|| member.as_ref()?.user.as_ref())?;
        let sender = sender(user, member.as_ref());
        Some(Press {
            address: place.address(snowflake(&value["channel_id"])?, &sender.id),
            sender,
            event_key: interaction.id.clone(),
            order_key: interaction.id.parse().ok()?,
            message_id: interaction.message?.id,
            payload: interaction.data.custom_id,
            token: format!("{}:{}:{}", interaction.id, interaction.token, interaction.application_id),
        })
    }

    /// The bot's name at the start is the envelope, not the letter.
    fn without_mention<'a>(&self, text: &'a str) -> &'a str {
        let trimmed = text.trim_start();
        let inside = trimmed.strip_prefix("<@").map(|rest| rest.strip_prefix('!').unwrap_or(rest));
        let after =
            inside.and_then(|rest| rest.strip_prefix(self.bot.as_str())).and_then(|rest| rest.strip_prefix('>'));
        after.map_or(text, |rest| rest.trim_start_matches([' ', ',', ':', '\n']))
    }
}

fn undecodable(value: &Value) -> InboundEvent {
    let id = snowflake(&value["id"]).unwrap_or_default();
    let order_key = i64::try_from(id).unwrap_or_default();
    InboundEvent::Undecodable { event_key: id.to_string(), order_key, raw: value.to_string() }
}

fn sender(user: &User, member: Option<&Member>) -> Sender {
    let nick = member.and_then(|member| member.nick.clone());
    Sender {
        id: PeerId::from(user.id.as_str()),
        username: user.username.clone(),
        display_name: nick.or_else(|| user.global_name.clone()),
    }
}

fn metadata(message: &Message, place: &Place, sender: &Sender) -> Value {
    let mut meta = Map::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            meta.insert(key.to_owned(), value.into());
        }
    };
    put("channel_id", Some(message.channel_id.clone()));
    put("guild_id", place.guild.map(|guild| guild.to_string()));
    put("message_id", Some(message.id.clone()));
    put("channel_name", place.name.clone());
    put("guild_name", place.guild_name.clone());
    put("username", sender.username.clone());
    put("display_name", sender.display_name.clone());
    Value::Object(meta)
}
