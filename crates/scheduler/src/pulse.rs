//! Signs of life of the planning loop, told to whoever watches over the process.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

/// How often the loop gives a sign of life, and writes it to the ledger.
pub(crate) const BEAT: Duration = Duration::from_secs(5);

/// A loop that was silent for longer is taken for dead.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// Instants that wait for longer are not being planned.
const LONGEST_LAG: Duration = Duration::from_secs(60);

/// The loop's last sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// Time since the last sign of life, which is written to the ledger.
    pub age: Duration,
    /// How long the oldest instant that is due waits to be planned; zero when none is.
    pub lag: Duration,
    /// How late the instants planned last were. Instants that passed while no loop ran do not count.
    pub last_lateness: Duration,
    /// Whether the last sign of life could be written to the ledger.
    pub ledger_writable: bool,
}

impl Pulse {
    /// Whether schedules fire.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.ledger_writable && self.age <= LONGEST_SILENCE && self.lag <= LONGEST_LAG
    }
}

impl Pulse {
    /// What is wrong, if something is.
    fn problem(&self) -> Option<&'static str> {
        match self {
            _ if self.is_alive() => None,
            Self { ledger_writable: false, .. } => Some("The ledger could not be written."),
            Self { lag, .. } if *lag > LONGEST_LAG => Some("A run that was due was not started for over a minute."),
            Self { .. } => Some("The scheduler gave no sign of life for over half a minute."),
        }
    }
}

/// What is to be told of a loop that does not do its work: each time once, also when it could only be told afterwards. One
/// look is not enough: after a sleep of the host everything is late for a moment.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    bad_looks: u32,
    owed: Option<&'static str>,
}

impl Alarm {
    /// What is still to be told after a look at the pulse.
    pub(crate) fn look(&mut self, pulse: Option<Pulse>) -> Option<&'static str> {
        let problem = pulse.and_then(|pulse| pulse.problem());
        self.bad_looks = if problem.is_some() { self.bad_looks.saturating_add(1) } else { 0 };
        if self.bad_looks == 2 {
            self.owed = problem;
        }
        self.owed
    }

    /// It was.
    pub(crate) fn told(&mut self) {
        self.owed = None;
    }
}

/// Shared by the loop and those who ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heart(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// That began.
    loops: AtomicU64,
    /// None while no loop runs.
    beat: Mutex<Option<Beat>>,
}

#[derive(Debug, Clone, Copy)]
struct Beat {
    at: Instant,
    next: Option<DateTime<Utc>>,
    last_lateness: Duration,
    ledger_writable: bool,
}

impl Heart {
    /// Begins; stops when the value is dropped, however the loop ends.
    pub(crate) fn start(&self) -> Beating {
        let last_lateness = Duration::ZERO;
        self.0.loops.fetch_add(1, Ordering::Relaxed);
        *self.lock() = Some(Beat { at: Instant::now(), next: None, last_lateness, ledger_writable: true });
        Beating(self.clone())
    }

    pub(crate) fn pulse(&self, now: DateTime<Utc>) -> Option<Pulse> {
        let Beat { at, next, last_lateness, ledger_writable } = (*self.lock())?;
        let lag = next.map_or(Duration::ZERO, |next| lateness(next, now));
        Some(Pulse { age: at.elapsed(), lag, last_lateness, ledger_writable })
    }

    /// What the loop waits for.
    pub(crate) fn next(&self) -> Option<DateTime<Utc>> {
        (*self.lock())?.next
    }

    pub(crate) fn loops(&self) -> u64 {
        self.0.loops.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Beat>> {
        self.0.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loop that runs.
#[derive(Debug)]
pub(crate) struct Beating(Heart);

impl Beating {
    /// A sign of life; whether it is in the ledger.
    pub(crate) fn beat(&self, ledger_writable: bool) {
        self.change(|beat| {
            beat.ledger_writable = ledger_writable;
            if ledger_writable {
                beat.at = Instant::now();
            }
        });
    }

    /// The loop waits for this instant.
    pub(crate) fn waits_for(&self, next: Option<DateTime<Utc>>) {
        self.change(|beat| beat.next = next);
    }

    /// The oldest of the instants planned at `now`, if the loop was there when it came.
    pub(crate) fn planned(&self, instant: DateTime<Utc>, now: DateTime<Utc>) {
        self.change(|beat| {
            if beat.next.is_some() {
                beat.last_lateness = lateness(instant, now);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Beat)) {
        if let Some(beat) = &mut *self.0.lock() {
            change(beat);
        }
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

fn lateness(instant: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - instant).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{TimeDelta, Utc};

    use super::{Alarm, Heart, Pulse};

    #[test]
    fn silence_and_lag_have_bounds() {
        let pulse = |age, lag| Pulse {
            age: Duration::from_secs(age),
            lag: Duration::from_secs(lag),
            last_lateness: Duration::ZERO,
            ledger_writable: true,
        };
        assert!(!Pulse { ledger_writable: false, ..pulse(0, 0) }.is_alive());
        assert!(pulse(0, 0).is_alive() && pulse(30, 60).is_alive());
        assert!(!pulse(31, 0).is_alive() && !pulse(0, 61).is_alive());
    }

    #[test]
    fn an_alarm_is_raised_once_each_time_and_not_forgotten() {
        let pulse = |ledger_writable, lag| {
            let lag = Duration::from_secs(lag);
            Some(Pulse { age: Duration::ZERO, lag, last_lateness: Duration::ZERO, ledger_writable })
        };
        let mut alarm = Alarm::default();
        assert_eq!((alarm.look(None), alarm.look(pulse(true, 60))), (None, None));
        assert_eq!((alarm.look(pulse(true, 999)), alarm.look(pulse(true, 0))), (None, None), "for a moment");
        assert_eq!(alarm.look(pulse(false, 0)), None);
        assert!(alarm.look(pulse(false, 0)).unwrap().contains("ledger"));
        assert!(alarm.look(pulse(true, 0)).unwrap().contains("ledger"), "it could not be told while it was so");
        alarm.told();
        assert_eq!((alarm.look(pulse(true, 61)), alarm.look(pulse(true, 0))), (None, None));
        assert_eq!(alarm.look(pulse(true, 61)), None);
        assert!(alarm.look(pulse(true, 61)).unwrap().contains("due"));
        alarm.told();
        assert_eq!(alarm.look(pulse(true, 90)), None, "the same trouble");
    }

    #[test]
    fn a_pulse_lasts_as_long_as_its_loop() {
        let heart = Heart::default();
        let now = Utc::now();
        assert_eq!(heart.pulse(now), None);
        let beating = heart.start();
        beating.planned(now - TimeDelta::hours(9), now);
        assert_eq!(heart.pulse(now).map(|pulse| pulse.last_lateness), Some(Duration::ZERO), "it was not there");
        beating.waits_for(Some(now));
        let late = now + TimeDelta::seconds(90);
        let pulse = heart.pulse(late).expect("a loop runs");
        assert_eq!((pulse.lag, pulse.is_alive()), (Duration::from_secs(90), false));
        beating.planned(now, late);
        beating.waits_for(None);
        let pulse = heart.pulse(late).expect("a loop runs");
        assert_eq!((pulse.lag, pulse.last_lateness), (Duration::ZERO, Duration::from_secs(90)));
        beating.beat(false);
        assert!(!heart.pulse(late).expect("a loop runs").is_alive());
        beating.beat(true);
        assert!(heart.pulse(late).expect("a loop runs").is_alive());
        drop(beating);
        assert_eq!(heart.pulse(now), None);
    }
}
