//! What is known about channels: their kind, guild, parent and names.
//!
//! Learned from the gateway, looked up where that has not told it, and bounded.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use serde_json::Value;
use serenity::model::id::ChannelId;

use super::api::Api;
use crate::{Address, ChannelError, PeerId};

/// More than one bot meets in a day.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// The type of a direct chat.
const DIRECT: u64 = 1;

/// A channel, a thread or a direct chat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// None for direct chats.
    pub(super) guild: Option<u64>,
    /// The channel of a thread.
    pub(super) parent: Option<u64>,
    /// As the platform numbers it, where that is known.
    pub(super) kind: Option<u64>,
    /// The other party of a direct chat, where that is known.
    pub(super) person: Option<u64>,
    pub(super) name: Option<String>,
    pub(super) guild_name: Option<String>,
}

impl Place {
    /// Whether messages there can get a thread: text and announcement channels.
    pub(super) fn has_threads(&self) -> bool {
        self.guild.is_some() && self.parent.is_none() && matches!(self.kind, Some(0 | 5))
    }

    /// Forums and media channels hold threads only; the message that began one is inside of it.
    fn is_forum(&self) -> bool {
        matches!(self.kind, Some(15 | 16))
    }

    /// Where a message of this person is.
    pub(super) fn address(&self, channel: u64, person: &PeerId) -> Address {
        let (chat, thread) = self.chat_and_thread(channel);
        let direct = self.guild.is_none().then(|| person.clone());
        Address { channel: "discord".into(), chat, thread, direct }
    }

    /// A thread belongs to its channel.
    pub(super) fn chat_and_thread(&self, channel: u64) -> (String, Option<String>) {
        match self.parent {
            Some(parent) => (parent.to_string(), Some(channel.to_string())),
            None => (channel.to_string(), None),
        }
    }
}

#[derive(Debug)]
pub(super) struct Places {
    channels: Mutex<LruCache<u64, Place>>,
    /// Direct chats by person.
    directs: Mutex<LruCache<u64, u64>>,
    guilds: Mutex<LruCache<u64, String>>,
}

impl Places {
    pub(super) fn new() -> Self {
        let (channels, directs) = (LruCache::new(CAPACITY), LruCache::new(CAPACITY));
        let guilds = LruCache::new(CAPACITY);
        Self { channels: Mutex::new(channels), directs: Mutex::new(directs), guilds: Mutex::new(guilds) }
    }

    pub(super) fn learn_guild(&self, guild: u64, name: &str) {
        lock(&self.guilds).put(guild, name.to_owned());
    }

    /// Remembers a channel as the platform describes it; within GUILD_CREATE it does not name its guild.
    pub(super) fn learn(&self, channel: &Value, guild: Option<u64>) -> Option<(u64, Place)> {
        let id = snowflake(&channel["id"])?;
        let kind = channel["type"].as_u64()?;
        let guild = snowflake(&channel["guild_id"]).or(guild);
        // Announcement, public and private threads. The parent of any other channel is a category.
        let parent = snowflake(&channel["parent_id"]).filter(|_| matches!(kind, 10..=12));
        let name = channel["name"].as_str().map(str::to_owned);
        let guild_name = guild.and_then(|guild| lock(&self.guilds).get(&guild).cloned());
        let person = snowflake(&channel["recipients"][0]["id"]).filter(|_| kind == DIRECT);
        if let Some(person) = person {
            lock(&self.directs).put(person, id);
        }
        let place = Place { guild, parent, kind: Some(kind), person, name, guild_name };
        lock(&self.channels).put(id, place.clone());
        Some((id, place))
    }

    /// The direct chat with a person, if there was anything there.
    pub(super) fn direct_chat_of(&self, person: u64) -> Option<u64> {
        lock(&self.directs).get(&person).copied()
    }

    /// What people call a channel, if that was told.
    pub(super) fn name(&self, channel: &str) -> Option<String> {
        lock(&self.channels).get(&channel.parse().ok()?)?.name.clone()
    }

    /// Whether a thread of this channel was begun by a message outside of it.
    pub(super) fn begins_threads_inside(&self, channel: u64) -> bool {
        lock(&self.channels).get(&channel).is_some_and(Place::is_forum)
    }

    /// The place of a channel. One that the bot may not look at counts as a plain one of the guild it was named with.
    pub(super) async fn find(&self, api: &Api, id: u64, guild: Option<u64>) -> Result<Place, ChannelError> {
        let known = lock(&self.channels).get(&id).cloned();
        if let Some(place) = known {
            return Ok(place);
        }
        match api.channel(ChannelId::new(id)).await {
            Ok(channel) => Ok(self.learn(&channel, guild).map(|(_, place)| place).unwrap_or_default()),
            Err(ChannelError::NotAllowed { .. } | ChannelError::Rejected { .. }) => {
                Ok(Place { guild, ..Place::default() })
            }
            Err(error) => Err(error),
        }
    }
}

/// An id; none for 0, which is none.
pub(super) fn snowflake(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok().filter(|id| *id != 0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
