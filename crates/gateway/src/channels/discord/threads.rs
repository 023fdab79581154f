//! A thread for each mention outside of threads (`auto_thread`).
//!
//! * A thread that is opened from a message has the message's id, so the address of the conversation is known before there
//!   is a thread. It is opened when the first message goes there.
//! * Where the bot may not open threads it answers in the channel, says so in its health, and looks for no thread there any
//!   more. What was meant for a private thread, or for one that was deleted, never goes to the channel.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use lru::LruCache;
use serde::Deserialize;
use serde_json::json;
use serenity::{
    http::Route,
    model::id::{ChannelId, MessageId},
};
use teloxide_reqwest::Method;

use super::{
    DiscordChannel,
    api::Payload,
    failure::Failure,
    outgoing::{self, number},
    places::Place,
};
use crate::{Address, ChannelError, MessageRef};

/// Channels without threads that are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);
/// Characters of a name; the platform takes 100.
const NAME: usize = 80;

/// How mentions outside of threads are answered.
#[derive(Debug)]
pub(super) struct Threads {
    wanted: bool,
    /// Channels where the bot may open none.
    closed: Mutex<LruCache<String, ()>>,
}

/// The message that a thread begins with.
#[derive(Debug, Deserialize)]
struct Starter {
    #[serde(default)]
    content: String,
}

impl Threads {
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, closed: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    fn are_closed_in(&self, chat: &str) -> bool {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).contains(chat)
    }

    /// True for the first time.
    fn close_in(&self, chat: &str) -> bool {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).put(chat.to_owned(), ()).is_none()
    }
}

impl DiscordChannel {
    /// Whether a mention there gets a thread.
    pub(super) fn answers_in_thread(&self, address: &Address, place: &Place) -> bool {
        self.threads.wanted && place.has_threads() && !self.threads.are_closed_in(&address.chat)
    }

    /// Where a message is that somebody or the bot wrote. The one that a thread was opened from is outside of it.
    pub(super) fn place_of_message(&self, message: &MessageRef) -> Result<(ChannelId, MessageId), ChannelError> {
        let Address { chat, thread, .. } = &message.address;
        let starter = thread.as_ref() == Some(&message.message_id);
        let channel = match number(chat, "channel") {
            Ok(parent) if starter && !self.places.begins_threads_inside(parent) => ChannelId::new(parent),
            _ => outgoing::target(&message.address)?,
        };
        Ok((channel, outgoing::message_id(message)?))
    }

    /// The channel of a thread that is not there, if it may be one of those that this bot opens.
    pub(super) fn without_thread(&self, address: &Address, failure: &Failure) -> Option<ChannelId> {
        let missing = self.threads.wanted && address.thread.is_some() && failure.is_unknown_channel();
        missing.then(|| number(&address.chat, "channel").ok().map(ChannelId::new)).flatten()
    }

    /// Where a message goes that could not go to its thread: there, once the thread is open, else to the channel.
    pub(super) async fn open_thread(&self, address: &Address, failure: Failure) -> Result<ChannelId, ChannelError> {
        let Some(channel_id) = self.without_thread(address, &failure) else { return Err(failure.into()) };
        let thread = outgoing::target(address)?;
        let message_id = MessageId::new(thread.get());
        // Without it the thread was another: private, or of the platform's own making.
        let starter: Starter = match self.api.message(channel_id, message_id).await {
            Ok(starter) => starter,
            Err(ChannelError::Rejected { .. } | ChannelError::NotAllowed { .. }) => return Err(failure.into()),
            Err(error) => return Err(not_sent(error)),
        };
        if self.threads.are_closed_in(&address.chat) {
            return Ok(channel_id);
        }
        let body = json!({ "name": name(&starter.content) }).to_string().into_bytes();
        let route = Route::ChannelMessageThreads { channel_id, message_id };
        match self.api.attempt(Method::POST, route, "", Payload::Json(body)).await {
            Ok(_) => Ok(thread),
            Err(failure) if failure.says_thread_exists() => Ok(thread),
            Err(failure) => match failure.into() {
                ChannelError::NotAllowed { reason } => {
                    self.tell_closed(&address.chat, &reason);
                    Ok(channel_id)
                }
                ChannelError::Rejected { reason } => {
                    tracing::warn!(channel = "discord", chat = address.chat, reason, "no thread could be opened");
                    Ok(channel_id)
                }
                error => Err(not_sent(error)),
            },
        }
    }

    fn tell_closed(&self, chat: &str, reason: &str) {
        if !self.threads.close_in(chat) {
            return;
        }
        let place = self.places.name(chat).map_or_else(|| chat.to_owned(), |name| format!("#{name}"));
        let note = format!(
            "answers in {place} itself, as no thread can be opened there: {reason}; the bot needs \"Create Public Threads\" and \"Send Messages in Threads\""
        );
        tracing::warn!(channel = "discord", "{note}");
        self.health.note(note);
    }
}

/// What failed on the way to a message is certainly not the message.
fn not_sent(error: ChannelError) -> ChannelError {
    match error {
        ChannelError::Uncertain { host, reason } => ChannelError::Unreachable { host, reason },
        error => error,
    }
}

/// The beginning of the question, without those it is for.
fn name(content: &str) -> String {
    let words = content.split_whitespace().filter(|word| !(word.starts_with("<@") && word.ends_with('>')));
    let said = words.collect::<Vec<_>>().join(" ");
    let short: String = said.chars().take(NAME).collect();
    match short.as_str() {
        "" => "stakpak".to_owned(),
        short if short.len() < said.len() => format!("{}…", short.trim_end()),
        short => short.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_thread_is_the_beginning_of_the_question() {
        assert_eq!(name("<@12> why is\n db1 full? <@!13>"), "why is db1 full?");
        assert_eq!(name("<@12>"), "stakpak");
        let long = name(&"🦀".repeat(300));
        assert_eq!(long.chars().count(), NAME + 1);
    }
}
