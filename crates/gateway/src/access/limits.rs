//! How fast people may write. Kept in memory: a restart forgives.

use std::{
    collections::HashSet,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};

const PER_USER: NonZeroU32 = NonZeroU32::new(20).unwrap();
const PER_BOT: NonZeroU32 = NonZeroU32::new(200).unwrap();
/// Users remembered before those who are quiet are forgotten.
const MOST_USERS: usize = 4096;

type Keyed<C> = RateLimiter<String, HashMapStateStore<String>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// Messages a minute, of each person and to each bot.
#[derive(Debug)]
pub(crate) struct Limits<C: Clock = DefaultClock> {
    users: Keyed<C>,
    bots: Keyed<C>,
    /// Who was told that they write too fast, until they do not.
    told: Mutex<HashSet<String>>,
}

/// Whether a message comes too fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
    Fine,
    /// The first one that does.
    TooFast,
    /// Its writer knows.
    StillTooFast,
}

impl Limits {
    pub(crate) fn new() -> Self {
        Self::with_clock(DefaultClock::default())
    }
}

impl<C: Clock + Clone> Limits<C> {
    fn with_clock(clock: C) -> Self {
        Self {
            users: RateLimiter::new(Quota::per_minute(PER_USER), HashMapStateStore::default(), clock.clone()),
            bots: RateLimiter::new(Quota::per_minute(PER_BOT), HashMapStateStore::default(), clock),
            told: Mutex::default(),
        }
    }

    /// Counts a message of `user` to the bot.
    pub(crate) fn count(&self, channel: &str, account: &str, user: &str) -> Rate {
        if self.users.len() > MOST_USERS {
            self.users.retain_recent();
        }
        let person = format!("{channel}:{user}");
        let fine =
            self.users.check_key(&person).is_ok() && self.bots.check_key(&format!("{channel}:{account}")).is_ok();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if fine {
            told.remove(&person);
            return Rate::Fine;
        }
        if told.insert(person) { Rate::TooFast } else { Rate::StillTooFast }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn twenty_messages_a_minute_then_one_notice_then_silence_until_it_falls() {
        let clock = FakeRelativeClock::default();
        let limits = Limits::with_clock(clock.clone());
        let count = |user: &str| limits.count("telegram", "bot", user);
        for _ in 0..20 {
            assert_eq!(count("ann"), Rate::Fine);
        }
        assert_eq!([count("ann"), count("ann"), count("ann")], [Rate::TooFast, Rate::StillTooFast, Rate::StillTooFast]);
        assert_eq!(count("bob"), Rate::Fine, "others are not concerned");
        clock.advance(Duration::from_secs(60));
        assert_eq!(count("ann"), Rate::Fine);
    }

    #[test]
    fn two_hundred_messages_a_minute_to_one_bot() {
        let limits = Limits::with_clock(FakeRelativeClock::default());
        let fine = |account: &str| {
            (0..300).filter(|user| limits.count("slack", account, &format!("u{user}")) == Rate::Fine).count()
        };
        assert_eq!(fine("one"), 200);
        assert_eq!(limits.count("slack", "two", "u999"), Rate::Fine, "another bot is not concerned");
    }
}
