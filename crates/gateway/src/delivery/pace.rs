//! How often a chat and a bot may be written to.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::{Address, Capabilities, Channel};

/// Chats that are remembered before those at rest are forgotten.
const MOST_CHATS: usize = 1000;

/// The limits, in the order in which a message meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Limit {
    Chat,
    Group,
    Bot,
}

/// The platforms' limits, so that a 429 stays the exception.
#[derive(Debug)]
pub(super) struct Pace {
    channels: HashMap<String, Limits>,
}

#[derive(Debug)]
struct Limits {
    chat: DefaultKeyedRateLimiter<String>,
    /// Messages a minute in a group.
    group: Option<DefaultKeyedRateLimiter<String>>,
    bot: DefaultDirectRateLimiter,
}

impl Pace {
    pub(super) fn new(channels: &[Arc<dyn Channel>]) -> Self {
        let limits = |channel: &Arc<dyn Channel>| (channel.id().to_string(), Limits::new(&channel.capabilities()));
        Self { channels: channels.iter().map(limits).collect() }
    }

    /// Whether there is an adapter for it.
    pub(super) fn knows(&self, address: &Address) -> bool {
        self.channels.contains_key(address.channel.as_str())
    }

    /// Counts a message that may go there now. Else the first limit that it meets; those before it are counted.
    pub(super) fn take(&self, address: &Address) -> Result<(), Limit> {
        let Some(limits) = self.channels.get(address.channel.as_str()) else { return Ok(()) };
        if limits.chat.len() > MOST_CHATS {
            limits.chat.retain_recent();
        }
        limits.chat.check_key(&address.chat).map_err(|_| Limit::Chat)?;
        if let Some(group) = limits.group(address) {
            group.check_key(&address.chat).map_err(|_| Limit::Group)?;
        }
        limits.bot.check().map_err(|_| Limit::Bot)
    }

    /// Until the next message may go there, as far as `limit` and those behind it are concerned.
    pub(super) async fn wait(&self, address: &Address, limit: Limit) {
        let Some(limits) = self.channels.get(address.channel.as_str()) else { return };
        if limit <= Limit::Chat {
            limits.chat.until_key_ready(&address.chat).await;
        }
        if let Some(group) = limits.group(address).filter(|_| limit <= Limit::Group) {
            group.until_key_ready(&address.chat).await;
        }
        limits.bot.until_ready().await;
    }
}

impl Limits {
    /// A direct chat is no group.
    fn group(&self, address: &Address) -> Option<&DefaultKeyedRateLimiter<String>> {
        self.group.as_ref().filter(|_| address.direct.is_none())
    }

    fn new(capabilities: &Capabilities) -> Self {
        let Capabilities { send_pace, send_burst, group_per_minute, bot_per_second, .. } = *capabilities;
        let pace =
            Quota::with_period(send_pace.max(Duration::from_millis(1))).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        Self {
            chat: RateLimiter::keyed(pace.allow_burst(send_burst)),
            group: group_per_minute.map(|most| RateLimiter::keyed(Quota::per_minute(most))),
            bot: RateLimiter::direct(Quota::per_second(bot_per_second)),
        }
    }
}
