//! The identity of a fire: one key for a schedule and a nominal instant, whatever crashes, reloads or clocks do.

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Longer names are replaced by their hash: an idempotency key has at most 255 characters.
const LONGEST_NAME: usize = 120;
const LONGEST_KEY: usize = 64;

/// Unique in the ledger, and the `Idempotency-Key` of the agent run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FireKey(String);

impl FireKey {
    /// Of a nominal instant.
    pub(crate) fn nominal(schedule: &str, instant: DateTime<Utc>) -> Self {
        Self(format!("sched:{}:{}", encoded(schedule), instant.timestamp()))
    }

    /// Of a manual trigger, the same for the same `key` of the caller.
    pub(crate) fn manual(schedule: &str, key: Option<&str>) -> Self {
        let key = match key.map(percent_encoded) {
            None => Uuid::new_v4().to_string(),
            Some(key) if key.len() > LONGEST_KEY => hex(&Sha256::digest(key.as_bytes())),
            Some(key) => key,
        };
        Self(format!("sched:{}:manual:{key}", encoded(schedule)))
    }

    /// Of a nominal instant that has a row already: `missed`, or one that is run once more by the backfill of that number.
    pub(crate) fn backfill(schedule: &str, instant: DateTime<Utc>, backfill: i64) -> Self {
        Self(format!("{}:backfill:{backfill}", Self::nominal(schedule, instant).0))
    }

    /// How much later than its nominal instant it is dispatched: from zero to `most`, the same each time it is asked for.
    pub(crate) fn jitter(&self, most: TimeDelta) -> TimeDelta {
        let most = u64::try_from(most.num_milliseconds()).unwrap_or_default();
        let millis = number_of(&self.0, most);
        TimeDelta::milliseconds(i64::try_from(millis).unwrap_or_default())
    }

    /// Its text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// From zero to `most`, the same for the same text and spread over all texts.
pub(crate) fn number_of(text: &str, most: u64) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    number % most.saturating_add(1)
}

fn encoded(name: &str) -> String {
    let text = percent_encoded(name);
    if text.len() <= LONGEST_NAME { text } else { hex(&Sha256::digest(name.as_bytes())) }
}

fn percent_encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_printable_and_bounded() {
        let instant = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        assert_eq!(FireKey::nominal("disk", instant).as_str(), "sched:disk:1700000000");
        assert_eq!(FireKey::nominal("ä b:c", instant).as_str(), "sched:%C3%A4%20b%3Ac:1700000000");
        assert_eq!(FireKey::manual("disk", Some("a b")).as_str(), "sched:disk:manual:a%20b");
        assert_eq!(FireKey::manual("d", Some(&"k".repeat(255))).as_str().len(), "sched:d:manual:".len() + 64);
        assert_ne!(FireKey::manual("disk", None), FireKey::manual("disk", None));
        let long = FireKey::nominal(&"x".repeat(128), instant);
        assert_eq!(long.as_str().len(), "sched:".len() + 64 + ":1700000000".len());
        assert_ne!(long, FireKey::nominal(&"y".repeat(128), instant));
    }

    #[test]
    fn jitter_is_spread_and_stays_the_same() {
        let most = TimeDelta::seconds(60);
        let offsets: Vec<_> = (0..1000)
            .map(|second| FireKey::nominal("disk", DateTime::from_timestamp(second * 60, 0).unwrap()).jitter(most))
            .collect();
        assert!(offsets.iter().all(|offset| *offset >= TimeDelta::zero() && *offset <= most));
        let mean = offsets.iter().sum::<TimeDelta>() / 1000;
        assert!(mean > TimeDelta::seconds(25) && mean < TimeDelta::seconds(35), "{mean}");
        let key = FireKey::nominal("disk", DateTime::from_timestamp(0, 0).unwrap());
        assert_eq!(key.jitter(most), offsets[0]);
        assert_eq!(key.jitter(TimeDelta::zero()), TimeDelta::zero());
    }
}
