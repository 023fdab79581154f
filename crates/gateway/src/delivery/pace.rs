//! How often a chat and a bot may be written to.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::{Address, Capabilities, Channel};

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

    /// Whether a message may go there now; if so, it is counted.
    pub(super) fn takes(&self, address: &Address) -> bool {
        let Some(limits) = self.channels.get(address.channel.as_str()) else { return false };
        limits.chat.check_key(&address.chat).is_ok()
            && limits
                .group
                .as_ref()
                .is_none_or(|group| address.direct.is_some() || group.check_key(&address.chat).is_ok())
            && limits.bot.check().is_ok()
    }

    /// Until the next message may go there.
    pub(super) async fn wait(&self, address: &Address) {
        let Some(limits) = self.channels.get(address.channel.as_str()) else { return };
        if limits.chat.len() > 1000 {
            limits.chat.retain_recent();
        }
        limits.chat.until_key_ready(&address.chat).await;
        if let (Some(group), None) = (&limits.group, &address.direct) {
            group.until_key_ready(&address.chat).await;
        }
        limits.bot.until_ready().await;
    }
}

impl Limits {
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
