//! Bodies of messages for Discord.
//!
//! * Nobody is pinged but the author of the message that is answered.
//! * A nonce is the same for all attempts of one message; within some minutes the platform answers a repeated one with the
//!   message that it made.

use serde::{Deserialize, Serialize};
use serenity::{
    all::MessageReferenceKind,
    builder::{
        CreateActionRow, CreateAllowedMentions, CreateButton, CreateInteractionResponse,
        CreateInteractionResponseFollowup, CreateInteractionResponseMessage, CreateMessage, EditMessage,
    },
    model::{
        application::ButtonStyle as Style,
        channel::{MessageFlags, MessageReference, Nonce},
        id::{ChannelId, MessageId},
    },
};
use sha2::{Digest, Sha256};

use crate::{Address, ApprovalButton, Body, ButtonStyle, ChannelError, DeliveryReceipt, MessageRef, OutboundReply};

/// Characters of a nonce.
const NONCE_LENGTH: usize = 25;
/// Buttons of one row, and rows of one message.
const ROW: usize = 5;
/// Two messages this far apart are not two copies of one.
const COPY_WINDOW_MS: u64 = 60 * 60 * 1000;

/// A message that was made.
#[derive(Debug, Deserialize)]
pub(super) struct Made {
    pub(super) id: String,
}

/// A message of a channel, as far as a copy is known by it.
#[derive(Debug, Deserialize)]
pub(super) struct Existing {
    id: String,
    author: Author,
    #[serde(default)]
    content: String,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    message_reference: Option<Reference>,
}

#[derive(Debug, Deserialize)]
struct Author {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Reference {
    #[serde(default)]
    message_id: Option<String>,
}

impl Existing {
    /// Whether it is what `reply` made. The platform forgets nonces; then the same text in answer to the same message is
    /// taken for it, unless both are far apart.
    pub(super) fn is_copy_of(&self, reply: &OutboundReply, bot: &str, now_ms: i64) -> bool {
        if self.author.id != bot {
            return false;
        }
        if self.nonce.is_some() {
            return self.nonce == Some(nonce(&reply.dedupe_key));
        }
        let answers = self.message_reference.as_ref().and_then(|reference| reference.message_id.as_ref());
        let recent = self.id.parse().is_ok_and(|id: u64| {
            u64::try_from(now_ms).unwrap_or_default().saturating_sub(created_ms(id)) < COPY_WINDOW_MS
        });
        // The first answer in a thread has nothing to point to: the question is outside of it.
        let begins_thread = answers.is_none() && reply.reply_to == reply.address.thread;
        let answers_it = begins_thread || answers == reply.reply_to.as_ref();
        recent && reply.reply_to.is_some() && answers_it && self.content == reply.body.text
    }

    pub(super) fn receipt(&self, address: &Address) -> DeliveryReceipt {
        DeliveryReceipt { message_id: self.id.clone(), thread_id: address.thread.clone(), chat: None }
    }
}

/// When a snowflake was made, Unix ms.
pub(super) fn created_ms(id: u64) -> u64 {
    (id >> 22) + 1_420_070_400_000
}

/// The smallest snowflake of a time, Unix ms.
pub(super) fn snowflake_at(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or_default().saturating_sub(1_420_070_400_000) << 22
}

/// The channel that a message goes to: a thread is a channel of its own.
pub(super) fn target(address: &Address) -> Result<ChannelId, ChannelError> {
    let id = address.thread.as_ref().unwrap_or(&address.chat);
    Ok(ChannelId::new(number(id, "channel")?))
}

/// An id; the platform has none that is 0.
pub(super) fn number(id: &str, what: &str) -> Result<u64, ChannelError> {
    let rejected = || ChannelError::Rejected { reason: format!("`{id}` is not the id of a Discord {what}") };
    id.parse().ok().filter(|id| *id != 0).ok_or_else(rejected)
}

/// The same for the same key, whatever its length.
pub(super) fn nonce(dedupe_key: &str) -> String {
    let digest = Sha256::digest(dedupe_key.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().chars().take(NONCE_LENGTH).collect()
}

pub(super) fn message_id(message: &MessageRef) -> Result<MessageId, ChannelError> {
    Ok(MessageId::new(number(&message.message_id, "message")?))
}

pub(super) fn message(
    reply: &OutboundReply,
    channel: ChannelId,
    buttons: &[ApprovalButton],
) -> Result<Vec<u8>, ChannelError> {
    let mut message = blank(&reply.dedupe_key).content(reply.body.text.clone()).components(rows(buttons)?);
    if let Some(answered) = &reply.reply_to {
        let reference = MessageReference::new(MessageReferenceKind::Default, channel);
        let reference = reference.message_id(MessageId::new(number(answered, "message")?)).fail_if_not_exists(false);
        message = message.reference_message(reference);
    }
    encode(&message)
}

pub(super) fn file(dedupe_key: &str, caption: Option<&str>) -> Result<Vec<u8>, ChannelError> {
    let message = blank(dedupe_key);
    encode(&caption.map_or(message.clone(), |caption| message.content(caption)))
}

fn blank(dedupe_key: &str) -> CreateMessage {
    CreateMessage::new()
        .allowed_mentions(CreateAllowedMentions::new().replied_user(true))
        .flags(MessageFlags::SUPPRESS_EMBEDS)
        .nonce(Nonce::String(nonce(dedupe_key)))
        .enforce_nonce(true)
}

pub(super) fn edit(body: &Body, buttons: &[ApprovalButton]) -> Result<Vec<u8>, ChannelError> {
    let mentions = CreateAllowedMentions::new().replied_user(false);
    encode(&EditMessage::new().content(body.text.clone()).components(rows(buttons)?).allowed_mentions(mentions))
}

/// What only the presser sees.
pub(super) fn private(text: &str) -> Result<Vec<u8>, ChannelError> {
    let mentions = CreateAllowedMentions::new();
    encode(&CreateInteractionResponseFollowup::new().content(text).ephemeral(true).allowed_mentions(mentions))
}

/// The same as the acknowledgement of a press.
pub(super) fn private_answer(text: &str) -> Result<Vec<u8>, ChannelError> {
    let mentions = CreateAllowedMentions::new();
    let message = CreateInteractionResponseMessage::new().content(text).ephemeral(true).allowed_mentions(mentions);
    encode(&CreateInteractionResponse::Message(message))
}

fn rows(buttons: &[ApprovalButton]) -> Result<Vec<CreateActionRow>, ChannelError> {
    if buttons.len() > ROW * ROW {
        return Err(ChannelError::Rejected {
            reason: format!("{} buttons are more than a message holds", buttons.len()),
        });
    }
    let button = |button: &ApprovalButton| {
        let style = match button.style {
            ButtonStyle::Success => Style::Success,
            ButtonStyle::Danger => Style::Danger,
            ButtonStyle::Secondary => Style::Secondary,
        };
        CreateButton::new(button.callback_data.clone()).label(button.label.clone()).style(style)
    };
    Ok(buttons.chunks(ROW).map(|row| CreateActionRow::Buttons(row.iter().map(button).collect())).collect())
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, ChannelError> {
    serde_json::to_vec(value).map_err(|error| ChannelError::Rejected { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// G-P41: where the platform forgot the nonce.
    #[test]
    fn the_first_answer_of_a_thread_is_known_without_what_it_answers() {
        let now = 1_780_000_000_000;
        let id = snowflake_at(now).to_string();
        let reply = |thread: Option<&str>, reply_to: Option<&str>| OutboundReply {
            address: Address {
                channel: "discord".into(),
                chat: "5".to_owned(),
                thread: thread.map(str::to_owned),
                direct: None,
            },
            body: Body::plain("42"),
            reply_to: reply_to.map(str::to_owned),
            dedupe_key: "k".to_owned(),
        };
        let found = json!({ "id": id, "author": { "id": "1" }, "content": "42" });
        let found = Existing::deserialize(found).unwrap();
        assert!(found.is_copy_of(&reply(Some("7"), Some("7")), "1", now));
        assert!(!found.is_copy_of(&reply(Some("7"), Some("8")), "1", now), "a later question");
        assert!(!found.is_copy_of(&reply(Some("7"), None), "1", now), "any text");
        assert!(!found.is_copy_of(&reply(None, None), "1", now), "any text");
    }
}
