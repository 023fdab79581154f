//! Texts, edits and signs.
//!
//! A topic that is no more falls back to its chat, a group with another id is followed to it: in both cases the first
//! attempt was certainly not done.

use std::sync::PoisonError;

use serde_json::{Value, json};

use super::{
    TelegramChannel,
    failure::Failure,
    methods::{
        AnswerCallbackQuery, EditMessageText, GetChat, ReactionType, ReplyParameters, SendChatAction, SendMessage,
        Sent, SetMessageReaction,
    },
};
use crate::{
    Address, ApprovalButton, Body, ChannelError, DeliveryReceipt, InboundEvent, MessageRef, OutboundReply, Press,
    PressAnswer, Reaction, chunking::cut::units,
};

/// UTF-16 units of what a presser is told.
const LONGEST_ANSWER: usize = 200;
/// Buttons side by side.
const ROW: usize = 2;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) chat: String,
    pub(super) thread: Option<i64>,
}

impl Place {
    /// Ids are numbers, names of public chats are not.
    pub(super) fn chat_id(&self) -> Value {
        self.chat.parse::<i64>().map_or_else(|_| self.chat.as_str().into(), Value::from)
    }

    /// Tells which chat a name stands for.
    pub(super) fn receipt(self, sent: &Sent) -> DeliveryReceipt {
        let named = sent.chat.as_ref().filter(|_| is_name(&self.chat));
        DeliveryReceipt {
            message_id: sent.message_id.to_string(),
            thread_id: self.thread.map(|id| id.to_string()),
            chat: named.map(|chat| chat.id.to_string()),
        }
    }
}

/// Public groups and channels have names beside their ids.
fn is_name(chat: &str) -> bool {
    chat.starts_with('@')
}

impl TelegramChannel {
    /// The chat that a name stands for.
    pub(super) async fn look_up(&self, address: &Address) -> Result<Address, ChannelError> {
        if !is_name(&address.chat) {
            return Ok(address.clone());
        }
        let found = self.api.try_call(GetChat { chat_id: address.chat.clone() }).await?;
        let chat = found.id.to_string();
        let direct = (found.kind == "private").then(|| chat.as_str().into());
        Ok(Address { chat, direct, ..address.clone() })
    }

    pub(super) async fn send_text(
        &self,
        reply: OutboundReply,
        buttons: &[ApprovalButton],
    ) -> Result<DeliveryReceipt, ChannelError> {
        let OutboundReply { address, body, reply_to, .. } = reply;
        let (text, entities) = parts(body);
        let reply_markup = keyboard(buttons);
        let reply_to = reply_to.and_then(|id| id.parse().ok());
        let send = |place: Place| {
            self.api.call(SendMessage {
                chat_id: place.chat_id(),
                message_thread_id: place.thread,
                text: text.clone(),
                entities: entities.clone(),
                reply_markup: reply_markup.clone(),
                reply_parameters: reply_to
                    .map(|message_id| ReplyParameters { message_id, allow_sending_without_reply: true }),
            })
        };
        let (sent, place) = self.deliver(&address, send).await?;
        Ok(place.receipt(&sent))
    }

    pub(super) async fn edit(
        &self,
        message: &MessageRef,
        body: &Body,
        buttons: &[ApprovalButton],
    ) -> Result<(), ChannelError> {
        let message_id = message_id(&message.message_id)?;
        let (text, entities) = parts(body.clone());
        let reply_markup = keyboard(buttons);
        let edit = |place: Place| {
            self.api.try_call(EditMessageText {
                chat_id: place.chat_id(),
                message_id,
                text: text.clone(),
                entities: entities.clone(),
                reply_markup: reply_markup.clone(),
            })
        };
        match self.deliver(&message.address, edit).await {
            Ok(_) | Err(Failure::Unchanged) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) async fn show_typing(&self, address: &Address) -> Result<(), ChannelError> {
        let show = |place: Place| {
            let (chat_id, message_thread_id) = (place.chat_id(), place.thread);
            self.api.try_call(SendChatAction { chat_id, message_thread_id, action: "typing" })
        };
        quietly(self.deliver(address, show).await)
    }

    pub(super) async fn set_reaction(&self, message: &MessageRef, reaction: Reaction) -> Result<(), ChannelError> {
        let message_id = message_id(&message.message_id)?;
        let react = |place: Place| {
            let reaction = [ReactionType { kind: "emoji", emoji: emoji(reaction) }];
            self.api.try_call(SetMessageReaction { chat_id: place.chat_id(), message_id, reaction })
        };
        quietly(self.deliver(&message.address, react).await)
    }

    pub(super) async fn answer_query(&self, press: &Press, answer: PressAnswer) -> Result<(), ChannelError> {
        let (text, show_alert) = match answer {
            PressAnswer::Taken => (None, false),
            PressAnswer::Refused(reason) => (Some(cut(&reason, LONGEST_ANSWER)), true),
        };
        let callback_query_id = press.token.clone();
        match self.api.try_call(AnswerCallbackQuery { callback_query_id, text, show_alert }).await {
            Ok(_) | Err(Failure::TooLate) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Follows a chat to where it is. What was done, and where.
    pub(super) async fn deliver<T, F>(
        &self,
        address: &Address,
        send: impl Fn(Place) -> F,
    ) -> Result<(T, Place), Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let thread = address.thread.as_ref().and_then(|thread| thread.parse().ok());
        let mut place = Place { chat: address.chat.clone(), thread };
        let mut followed = false;
        loop {
            match send(place.clone()).await {
                Err(Failure::NoTopic(_)) if place.thread.is_some() => place.thread = None,
                Err(Failure::MovedTo(chat)) if !followed => {
                    followed = true;
                    self.note_moved(&place.chat, chat);
                    place.chat = chat.to_string();
                }
                outcome => return outcome.map(|done| (done, place)),
            }
        }
    }

    /// Told with the next poll: now the message on its way would be found in the new chat's queue, and sent again.
    fn note_moved(&self, from: &str, to: i64) {
        let event = InboundEvent::Migrated { from: from.to_owned(), to: to.to_string() };
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        if !moved.contains(&event) {
            moved.push(event);
        }
    }
}

/// The reactions that bots may use have no check mark and no cross.
fn emoji(reaction: Reaction) -> &'static str {
    match reaction {
        Reaction::Seen => "👀",
        Reaction::Done => "👍",
        Reaction::Failed => "👎",
    }
}

/// A sign that cannot be shown is no failure.
fn quietly<T>(outcome: Result<T, Failure>) -> Result<(), ChannelError> {
    match outcome.map(drop).map_err(ChannelError::from) {
        Err(ChannelError::Rejected { reason }) => {
            tracing::debug!(reason, "a sign was not shown");
            Ok(())
        }
        outcome => outcome,
    }
}

fn parts(body: Body) -> (String, Option<Value>) {
    (body.text, body.format.and_then(|mut format| format.get_mut("entities").map(Value::take)))
}

fn keyboard(buttons: &[ApprovalButton]) -> Option<Value> {
    let button = |button: &ApprovalButton| json!({ "callback_data": button.callback_data, "text": button.label });
    let rows: Vec<Value> = buttons.chunks(ROW).map(|row| row.iter().map(button).collect()).collect();
    (!rows.is_empty()).then(|| json!({ "inline_keyboard": rows }))
}

fn message_id(id: &str) -> Result<i64, ChannelError> {
    id.parse().map_err(|_| ChannelError::Rejected { reason: format!("`{id}` is no message id of Telegram") })
}

/// At most `limit` UTF-16 units; what is cut off shows.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if units(text) <= limit {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut length = 1;
    for character in text.chars() {
        length += character.len_utf16();
        if length > limit {
            break;
        }
        kept.push(character);
    }
    kept.push('…');
    kept
}
