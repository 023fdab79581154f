//! Waits that grow, with jitter, so that many waiters do not come back at the same instant.

use std::time::Duration;

use uuid::Uuid;

/// The waits of one retried operation.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    floor: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Full jitter: each wait is between 0 and a ceiling that doubles.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, floor: Duration::ZERO, ceiling: first }
    }

    /// As [`Backoff::new`], but never shorter than `first`.
    pub(crate) fn at_least(first: Duration, longest: Duration) -> Self {
        Self { first, longest, floor: first, ceiling: first }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(self.longest);
        self.floor + jitter(ceiling - self.floor.min(ceiling))
    }

    /// The operation went well.
    pub(crate) fn reset(&mut self) {
        self.ceiling = self.first;
    }
}

/// The wait before attempt number `attempt` (from 0), for operations whose attempts are counted in the store.
pub(crate) fn nth_wait(attempt: u32, first: Duration, longest: Duration) -> Duration {
    let ceiling = first.saturating_mul(2u32.saturating_pow(attempt)).min(longest);
    ceiling / 2 + jitter(ceiling / 2)
}

fn jitter(ceiling: Duration) -> Duration {
    let random = Uuid::new_v4().as_u64_pair().1 & 0xffff_ffff;
    let share = f64::from(random as u32) / f64::from(u32::MAX);
    ceiling.mul_f64(share)
}
