//! Rate limit buckets: one for each route and channel.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::faults::DiscordCall;

/// The buckets of the bot.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    used: HashMap<(DiscordCall, u64), (u32, Instant)>,
}

/// How a bucket stands after a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) limit: u32,
    pub(super) remaining: u32,
    pub(super) reset_after: Duration,
    /// The call was one too many.
    pub(super) exceeded: bool,
}

impl Buckets {
    pub(super) fn count(&mut self, call: DiscordCall, channel: u64) -> Standing {
        let (limit, window) = match call {
            DiscordCall::SendMessage | DiscordCall::EditMessage | DiscordCall::Typing => (5, Duration::from_secs(5)),
            DiscordCall::React => (1, Duration::from_millis(250)),
            _ => (50, Duration::from_secs(1)),
        };
        let now = Instant::now();
        let (used, since) = self.used.entry((call, channel)).or_insert((0, now));
        if now.duration_since(*since) >= window {
            (*used, *since) = (0, now);
        }
        let exceeded = *used >= limit;
        if !exceeded {
            *used += 1;
        }
        let reset_after = window.saturating_sub(now.duration_since(*since));
        Standing { limit, remaining: limit - *used, reset_after, exceeded }
    }
}
