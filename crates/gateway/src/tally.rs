//! What happened since the gateway began, for whoever measures. Nothing here names a person or a chat.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::ChannelId;

/// Bounds of the time from hearing of a message to having it, in seconds.
const ACCEPT_BOUNDS: &[f64] = &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Bounds of the time that a run waits for a person, in seconds.
const APPROVAL_BOUNDS: &[f64] = &[1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14_400.0];
/// All outcomes of runs.
const OUTCOMES: [&str; 4] = ["completed", "failed", "cancelled", "timed_out"];

/// Counts; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<Happened>>);

/// Everything that is counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// From hearing of messages to having them durably, by what came together.
    pub accepts: Spread,
    /// From a prompt to the decision of all it asks about.
    pub approval_waits: Spread,
    /// Ended runs by outcome: `completed`, `failed`, `cancelled`, `timed_out`.
    pub runs: BTreeMap<&'static str, u64>,
    /// Attempts to send by platform and result: `sent`, `refused`, `rate_limited`, `uncertain`, `not_sent`, `given_up`.
    pub sends: BTreeMap<(ChannelId, &'static str), u64>,
    /// How long a platform asked to wait before the next attempt, all times together.
    pub rate_limit_waits: BTreeMap<ChannelId, Duration>,
    /// Connections to the agent server's events that were lost while a run was followed.
    pub stream_reconnects: u64,
    /// Times that the agent server no longer had the events asked for.
    pub stream_gaps: u64,
}

/// How durations are spread.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    bounds: &'static [f64],
    counts: Vec<u64>,
    /// All there were, those above the highest bound too.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
}

impl Default for Happened {
    fn default() -> Self {
        Self {
            accepts: Spread::new(ACCEPT_BOUNDS),
            approval_waits: Spread::new(APPROVAL_BOUNDS),
            runs: OUTCOMES.map(|outcome| (outcome, 0)).into(),
            sends: BTreeMap::new(),
            rate_limit_waits: BTreeMap::new(),
            stream_reconnects: 0,
            stream_gaps: 0,
        }
    }
}

impl Spread {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len()], count: 0, sum: 0.0 }
    }

    fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        for (bound, count) in self.bounds.iter().zip(&mut self.counts) {
            *count += u64::from(seconds <= *bound);
        }
        self.count += 1;
        self.sum += seconds;
    }

    /// Upper bounds in seconds, each with the number of durations up to it.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        self.bounds.iter().copied().zip(self.counts.iter().copied())
    }
}

impl Tally {
    pub(crate) fn accepted(&self, took: Duration) {
        self.lock().accepts.add(took);
    }

    pub(crate) fn decided(&self, waited: Duration) {
        self.lock().approval_waits.add(waited);
    }

    pub(crate) fn run_ended(&self, outcome: &'static str) {
        *self.lock().runs.entry(outcome).or_default() += 1;
    }

    pub(crate) fn attempted(&self, channel: &ChannelId, result: &'static str) {
        *self.lock().sends.entry((channel.clone(), result)).or_default() += 1;
    }

    pub(crate) fn rate_limited(&self, channel: &ChannelId, wait: Duration) {
        *self.lock().rate_limit_waits.entry(channel.clone()).or_default() += wait;
    }

    pub(crate) fn stream_reconnected(&self, times: u64) {
        self.lock().stream_reconnects += times;
    }

    pub(crate) fn stream_gap(&self) {
        self.lock().stream_gaps += 1;
    }

    pub(crate) fn read(&self) -> Happened {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Happened> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_every_bucket_that_it_fits_in() {
        let tally = Tally::default();
        for seconds in [1, 20, 100_000] {
            tally.decided(Duration::from_secs(seconds));
        }
        let waits = tally.read().approval_waits;
        let of = |bound: f64| waits.buckets().find(|(found, _)| (found - bound).abs() < 1e-9).map(|(_, count)| count);
        assert_eq!((of(1.0), of(15.0), of(30.0), of(14_400.0)), (Some(1), Some(1), Some(2), Some(2)));
        assert_eq!((waits.count, waits.sum), (3, 100_021.0));
    }
}
