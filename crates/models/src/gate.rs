//! What all requests with one credential share: how many there are at once, and when none is even tried.
//!
//! * After [`FAILURES`] transient failures in a row nothing is sent for a while; then one request tries, and the others wait
//!   for what comes of it. Each failed try doubles the while.
//! * A request that is refused here never reached the provider, and counts for nothing.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_agent_core::{Clock, SystemClock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// In a row.
const FAILURES: u32 = 5;

const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The gates of a process, by credential; a configuration that is read again finds the same ones.
#[derive(Clone)]
pub struct Gates {
    clock: Arc<dyn Clock>,
    gates: Arc<Mutex<HashMap<Credential, Arc<Gate>>>>,
}

/// Profiles that give a key other bounds count for themselves.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Credential {
    pub(crate) endpoint: String,
    pub(crate) key: Option<String>,
    pub(crate) most_at_once: usize,
}

impl Gates {
    /// Open ones.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, gates: Arc::default() }
    }

    pub(crate) fn of(&self, credential: Credential) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let most = credential.most_at_once;
        let gate = gates.entry(credential).or_insert_with(|| Arc::new(Gate::new(Arc::clone(&self.clock), most)));
        Arc::clone(gate)
    }
}

impl Default for Gates {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl fmt::Debug for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gates").finish_non_exhaustive()
    }
}

/// What requests with one credential pass.
pub(crate) struct Gate {
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
}

/// A request that has passed. It holds its place until it is dropped.
pub(crate) struct Passed {
    gate: Arc<Gate>,
    is_trial: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Gate {
    fn new(clock: Arc<dyn Clock>, most_at_once: usize) -> Self {
        let places = Arc::new(Semaphore::new(most_at_once.clamp(1, Semaphore::MAX_PERMITS)));
        Self { clock, places, breaker: Mutex::default() }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// How long nothing will be sent.
    pub(crate) async fn pass(self: &Arc<Self>) -> Result<Passed, Duration> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let is_trial = self.breaker().admit(self.clock.now())?;
        Ok(Passed { gate: Arc::clone(self), is_trial, _place: place })
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passed {
    /// The provider has begun to answer.
    pub(crate) fn heard(&mut self) {
        if std::mem::take(&mut self.is_trial) {
            self.gate.breaker().heard();
        }
    }

    /// The answer is complete, or the refusal says nothing of the provider's health.
    pub(crate) fn succeeded(&self) {
        self.gate.breaker().succeeded();
    }

    /// In a way that may pass.
    pub(crate) fn failed(&self) {
        self.gate.breaker().failed(self.gate.clock.now(), self.is_trial);
    }
}

/// Pure: the time is told.
#[derive(Debug, Default)]
struct Breaker {
    /// In a row.
    failures: u32,
    /// Pauses in a row.
    pauses: u32,
    /// Nothing is sent before.
    until: Option<DateTime<Utc>>,
}

impl Breaker {
    /// Whether the request is one that tries; else how long nothing is sent.
    fn admit(&mut self, now: DateTime<Utc>) -> Result<bool, Duration> {
        let Some(until) = self.until else { return Ok(false) };
        match (until - now).to_std() {
            Ok(left) if !left.is_zero() => Err(left),
            // One that never tells what came of it holds the others up for one more pause.
            _ => {
                self.until = Some(now + self.pause());
                Ok(true)
            }
        }
    }

    fn heard(&mut self) {
        self.until = None;
        self.failures = FAILURES - 1;
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }

    fn failed(&mut self, now: DateTime<Utc>, is_trial: bool) {
        // Those that were under way when it began are no news.
        if self.until.is_some() && !is_trial {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if is_trial || self.failures >= FAILURES {
            self.pauses = self.pauses.saturating_add(1);
            self.until = Some(now + self.pause());
        }
    }

    fn pause(&self) -> TimeDelta {
        let doublings = self.pauses.saturating_sub(1).min(8);
        TimeDelta::from_std((FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE)).unwrap_or(TimeDelta::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn broken() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert_eq!(breaker.admit(at(0)), Ok(false));
            breaker.failed(at(0), false);
        }
        breaker
    }

    #[test]
    fn five_in_a_row_are_followed_by_a_pause() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            for _ in 0..4 {
                breaker.failed(at(0), false);
            }
            assert_eq!(breaker.admit(at(0)), Ok(false));
            breaker.succeeded();
        }
        let mut breaker = broken();
        assert_eq!(breaker.admit(at(0)), Err(Duration::from_secs(30)));
        assert_eq!(breaker.admit(at(29)), Err(Duration::from_secs(1)));
    }

    #[test]
    fn one_tries_and_the_pause_doubles_up_to_ten_minutes() {
        let mut breaker = broken();
        let mut now = 0;
        for pause in [30, 60, 120, 240, 480, 600, 600] {
            now += pause;
            assert_eq!(breaker.admit(at(now - 1)), Err(Duration::from_secs(1)), "{pause}");
            assert_eq!(breaker.admit(at(now)), Ok(true), "{pause}");
            assert!(breaker.admit(at(now)).is_err(), "the others wait for it");
            breaker.failed(at(now), true);
        }
    }

    #[test]
    fn failures_of_before_do_not_lengthen_the_pause() {
        let mut breaker = broken();
        for _ in 0..20 {
            breaker.failed(at(1), false);
        }
        assert_eq!(breaker.admit(at(30)), Ok(true));
    }

    #[test]
    fn an_answer_ends_it_and_a_torn_one_begins_it_again() {
        let mut breaker = broken();
        assert_eq!(breaker.admit(at(30)), Ok(true));
        breaker.heard();
        assert_eq!(breaker.admit(at(30)), Ok(false), "the others go on with the first word");
        breaker.failed(at(31), false);
        assert_eq!(breaker.admit(at(90)), Err(Duration::from_secs(1)), "twice as long");
        assert_eq!(breaker.admit(at(91)), Ok(true));
        breaker.succeeded();
        for _ in 0..4 {
            breaker.failed(at(92), false);
        }
        assert_eq!(breaker.admit(at(92)), Ok(false));
    }

    #[test]
    fn one_that_never_tells_is_followed_by_another() {
        let mut breaker = broken();
        assert_eq!(breaker.admit(at(30)), Ok(true));
        assert_eq!(breaker.admit(at(59)), Err(Duration::from_secs(1)));
        assert_eq!(breaker.admit(at(60)), Ok(true));
    }
}
