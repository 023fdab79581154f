//! Requests without a valid token, counted by address: guessing is slow, and who has a token is never held up.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use lru::LruCache;

use super::tokens::admit;

const A_MINUTE: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// Addresses that are remembered; of more, the ones that failed longest ago are forgotten.
const ADDRESSES: std::num::NonZeroUsize = std::num::NonZeroUsize::new(4_096).unwrap();

pub(crate) struct Failures(Mutex<LruCache<IpAddr, DefaultDirectRateLimiter>>);

impl Failures {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(ADDRESSES)))
    }

    /// Counts a failure.
    ///
    /// # Errors
    /// There were too many from this address: seconds to wait.
    pub(crate) fn count(&self, address: IpAddr) -> Result<(), u64> {
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || RateLimiter::direct(Quota::per_minute(A_MINUTE));
        admit(addresses.get_or_insert(client_of(address), new))
    }
}

/// What one client can choose freely is one: the lower half of an IPv6 address.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn twenty_a_minute_and_each_address_for_itself() {
        let failures = Failures::new();
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        for _ in 0..20 {
            failures.count(address(1)).unwrap();
        }
        // One comes free every three seconds: far slower than this loop.
        let waits: Vec<u64> = (0..100).filter_map(|_| failures.count(address(1)).err()).collect();
        assert!(waits.len() > 90 && waits.iter().all(|seconds| (1..=4).contains(seconds)), "{waits:?}");
        failures.count(address(2)).unwrap();
    }

    #[test]
    fn an_attacker_with_many_addresses_takes_no_more_memory() {
        let failures = Failures::new();
        for number in 0..10_000 {
            failures.count(IpAddr::V4(Ipv4Addr::from_bits(number))).unwrap();
        }
        assert_eq!(failures.0.lock().unwrap().len(), ADDRESSES.get());
    }

    #[test]
    fn addresses_of_one_client_are_one() {
        let client = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), client("2001:db8:1:2::1"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
        assert_ne!(client("::ffff:10.0.0.1"), client("::ffff:10.0.0.2"));
    }
}
