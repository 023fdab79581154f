//! What the writer counts: plain atomics, so that a commit pays a few nanoseconds for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the time of a commit, in microseconds.
const MICROSECONDS: [u64; 13] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// Upper bounds of the jobs of a commit.
const JOBS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Bounds of the longest list, and one place for what is beyond the last.
const PLACES: usize = MICROSECONDS.len() + 1;

/// What the writer has done since the database was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Transactions committed.
    pub commits: u64,
    /// Transactions that could not be committed: every job in them failed.
    pub failed_commits: u64,
    /// Jobs committed, also those that failed alone.
    pub jobs: u64,
    /// Jobs that wait for their commit.
    pub waiting: u64,
    /// Time of the commits in microseconds, sync of the disk included.
    pub commit_microseconds: Distribution,
    /// Jobs of the commits.
    pub commit_jobs: Distribution,
}

/// How values are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distribution {
    bounds: &'static [u64],
    counts: [u64; PLACES],
    /// Of all values.
    pub sum: u64,
}

impl Distribution {
    /// Each upper bound with the number of values up to it; values beyond the last bound are only in [`Self::count`].
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut below = 0;
        self.bounds.iter().zip(self.counts).map(move |(bound, count)| {
            below += count;
            (*bound, below)
        })
    }

    /// The number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[derive(Debug)]
struct Spread {
    bounds: &'static [u64],
    counts: [AtomicU64; PLACES],
    sum: AtomicU64,
}

impl Spread {
    fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: Default::default(), sum: AtomicU64::new(0) }
    }

    fn add(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn read(&self) -> Distribution {
        let counts = std::array::from_fn(|place| self.counts[place].load(Ordering::Relaxed));
        Distribution { bounds: self.bounds, counts, sum: self.sum.load(Ordering::Relaxed) }
    }
}

#[derive(Debug)]
pub(crate) struct Counters {
    queued: AtomicU64,
    jobs: AtomicU64,
    lost_jobs: AtomicU64,
    failed_commits: AtomicU64,
    commit_microseconds: Spread,
    commit_jobs: Spread,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            queued: AtomicU64::new(0),
            jobs: AtomicU64::new(0),
            lost_jobs: AtomicU64::new(0),
            failed_commits: AtomicU64::new(0),
            commit_microseconds: Spread::new(&MICROSECONDS),
            commit_jobs: Spread::new(&JOBS),
        }
    }
}

impl Counters {
    pub(crate) fn queued(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn committed(&self, jobs: usize, took: Duration) {
        self.jobs.fetch_add(jobs as u64, Ordering::Relaxed);
        self.commit_jobs.add(jobs as u64);
        self.commit_microseconds.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn failed(&self, jobs: usize) {
        self.lost_jobs.fetch_add(jobs as u64, Ordering::Relaxed);
        self.failed_commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> Stats {
        let (jobs, lost) = (self.jobs.load(Ordering::Relaxed), self.lost_jobs.load(Ordering::Relaxed));
        let commit_jobs = self.commit_jobs.read();
        Stats {
            commits: commit_jobs.count(),
            failed_commits: self.failed_commits.load(Ordering::Relaxed),
            jobs,
            waiting: self.queued.load(Ordering::Relaxed).saturating_sub(jobs + lost),
            commit_microseconds: self.commit_microseconds.read(),
            commit_jobs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counters;
    use std::time::Duration;

    #[test]
    fn a_value_counts_up_to_the_first_bound_that_is_not_below_it() {
        let counters = Counters::default();
        for (jobs, took) in [(1, 100), (3, 101), (256, 6_000_000)] {
            counters.committed(jobs, Duration::from_micros(took));
        }
        let stats = counters.stats();
        let times: Vec<_> = stats.commit_microseconds.buckets().collect();
        assert_eq!((times[0], times[1], times[12]), ((100, 1), (250, 2), (5_000_000, 2)));
        assert_eq!((stats.commit_microseconds.count(), stats.commit_microseconds.sum), (3, 6_000_201));
        let jobs: Vec<_> = stats.commit_jobs.buckets().map(|(_, count)| count).collect();
        assert_eq!(jobs, [1, 1, 2, 2, 2, 2, 2, 2, 3]);
    }

    #[test]
    fn what_was_queued_waits_until_it_is_committed_or_lost() {
        let counters = Counters::default();
        (0..5).for_each(|_| counters.queued());
        assert_eq!(counters.stats().waiting, 5);
        counters.committed(2, Duration::ZERO);
        counters.failed(1);
        let stats = counters.stats();
        assert_eq!((stats.waiting, stats.commits, stats.failed_commits, stats.jobs), (2, 1, 1, 2));
    }
}
