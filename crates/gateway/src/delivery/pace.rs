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
        for chats in [Some(&limits.chat), limits.group.as_ref()].into_iter().flatten() {
            if chats.len() > MOST_CHATS {
                chats.retain_recent();
            }
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::time::timeout;

    use super::*;
    use crate::fake::capabilities;

    fn pace(capabilities: &Capabilities) -> Pace {
        Pace { channels: HashMap::from([("telegram".to_owned(), Limits::new(capabilities))]) }
    }

    fn group(chat: &str) -> Address {
        Address { channel: "telegram".into(), chat: chat.to_string(), thread: None, direct: None }
    }

    #[test]
    fn a_chat_at_rest_is_forgotten() {
        let many = NonZeroU32::new(60_000);
        let pace = pace(&Capabilities { send_pace: Duration::ZERO, group_per_minute: many, ..capabilities() });
        for chat in 0..=MOST_CHATS {
            let _ = pace.take(&group(&chat.to_string()));
        }
        let remembered = || {
            let limits = &pace.channels["telegram"];
            limits.chat.len().max(limits.group.as_ref().unwrap().len())
        };
        assert!(remembered() > MOST_CHATS);
        let deadline = Instant::now() + Duration::from_secs(30);
        while remembered() > MOST_CHATS {
            assert!(Instant::now() < deadline, "{} are remembered", remembered());
            let _ = pace.take(&group("0"));
        }
    }

    #[tokio::test]
    async fn what_the_bots_limit_holds_back_is_counted_once_against_its_chat() {
        let (send_pace, one) = (Duration::from_secs(3600), NonZeroU32::MIN);
        let pace = pace(&Capabilities { send_pace, send_burst: one, bot_per_second: one, ..capabilities() });
        assert!((0..100).any(|chat| pace.take(&group(&chat.to_string())) == Err(Limit::Bot)));
        let _ = pace.take(&group("held back"));
        assert_eq!(pace.take(&group("held back")), Err(Limit::Chat), "that was its one message an hour");
        let waited = timeout(Duration::from_secs(60), pace.wait(&group("held back"), Limit::Bot)).await;
        waited.expect("it waits for the bot's limit only");
    }
}
