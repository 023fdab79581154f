//! Bounds of a run: wall clock, tokens, cost. Looked at before each request; the clock also ends what hangs.
//!
//! * What the next request may take at most is reserved before it is sent: at most the one under way overspends.
//! * The clock stands still while the run waits for a person. When it stopped is recorded, so that a restart does not count
//!   the wait.

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_protocol::{LastErrorCode, RunLimits, Usage, Usd};

use super::{ActiveRun, Transition, end::Ending};
use crate::{Record, RunAccepted};

/// How long a run may still work.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunClock {
    /// Since when the run waits for a person.
    pub stopped_at: Option<DateTime<Utc>>,
    /// Spent waiting for a person before.
    pub waited: TimeDelta,
}

impl RunClock {
    pub(super) fn stop(&mut self, at: DateTime<Utc>) {
        self.stopped_at.get_or_insert(at);
    }

    pub(super) fn go_on(&mut self, at: DateTime<Utc>) {
        if let Some(stopped) = self.stopped_at.take() {
            self.waited += (at - stopped).max(TimeDelta::zero());
        }
    }
}

impl ActiveRun {
    /// When the run's time is over; none: never, or not while it waits for a person.
    pub(super) fn expires_at(&self) -> Option<DateTime<Utc>> {
        if self.clock.stopped_at.is_some() {
            return None;
        }
        let seconds = i64::try_from(self.accepted.limits.wall_clock_s?).ok()?;
        self.accepted.at.checked_add_signed(TimeDelta::try_seconds(seconds)?)?.checked_add_signed(self.clock.waited)
    }

    /// What the next request may take at most.
    pub(crate) fn most_of_next(&self, max_output_tokens: Option<u64>) -> Usage {
        let (prompt_tokens, completion_tokens) = (self.context.tokens, max_output_tokens.unwrap_or(0));
        let total_tokens = prompt_tokens + completion_tokens;
        Usage { prompt_tokens, completion_tokens, total_tokens, ..Usage::default() }
    }

    /// Why nothing more may be asked, if that is so.
    fn exhausted(&self, now: DateTime<Utc>) -> Option<Ending> {
        let (limits, keys) = (&self.accepted.limits, &self.accepted.limit_keys);
        if self.expires_at().is_some_and(|at| at <= now) {
            let seconds = limits.wall_clock_s.unwrap_or_default();
            return Some(ending(
                LastErrorCode::DeadlineExceeded,
                format!(
                    "the run's time of {seconds} s is over; allow more with {}",
                    keys.wall_clock_s.as_deref().unwrap_or(RunLimits::WALL_CLOCK_KEY)
                ),
            ));
        }
        let next = self.most_of_next(self.accepted.terms.max_output_tokens);
        let spent = self.total_usage.total_tokens;
        if let Some(limit) = limits.tokens.filter(|limit| spent + next.total_tokens > *limit) {
            return Some(ending(
                LastErrorCode::BudgetExceeded,
                format!(
                    "{spent} of the run's {limit} tokens are spent and the next request may take {}; \
                     allow more with {}",
                    next.total_tokens,
                    keys.tokens.as_deref().unwrap_or(RunLimits::TOKENS_KEY)
                ),
            ));
        }
        let (cost, next_cost) = (self.cost.unwrap_or_default(), self.accepted.cost_of(&next).unwrap_or_default());
        let limit = limits.cost_usd.map(Usd::from_dollars);
        if let Some(limit) = limit.filter(|limit| cost.plus(next_cost) > *limit) {
            return Some(ending(
                LastErrorCode::BudgetExceeded,
                format!(
                    "{cost} of the run's {limit} USD are spent and the next request may cost {next_cost}; \
                     allow more with {}",
                    keys.cost_usd.as_deref().unwrap_or(RunLimits::COST_KEY)
                ),
            ));
        }
        None
    }
}

pub(super) fn ending(code: LastErrorCode, message: String) -> Ending {
    Ending::Failed { code, message, retryable: false }
}

impl RunAccepted {
    /// At list price, where it is known.
    pub(crate) fn cost_of(&self, usage: &Usage) -> Option<Usd> {
        self.terms.price.map(|price| price.of(usage))
    }
}

impl Transition<'_> {
    /// Why nothing more may be asked, if that is so.
    pub(super) fn exhausted(&self) -> Option<Ending> {
        self.session.active()?.exhausted(self.rules.now)
    }

    /// Ends a run whose time is over.
    pub(super) fn expire_run(&mut self) {
        let now = self.rules.now;
        let is_over = self.session.active().and_then(ActiveRun::expires_at).is_some_and(|at| at <= now);
        if is_over && let Some(ending) = self.exhausted() {
            self.end(ending);
        }
    }

    /// Stops the clock when the run begins to wait for a person, and starts it again.
    pub(super) fn keep_clock(&mut self) {
        let at = self.rules.now;
        let Some(run) = self.session.active().filter(|run| run.accepted.limits.wall_clock_s.is_some()) else { return };
        match (!self.session.needs_slot(), run.clock.stopped_at.is_some()) {
            (true, false) => self.record(&Record::ClockStopped { at }),
            (false, true) => self.record(&Record::ClockStarted { at }),
            (true, true) | (false, false) => {}
        }
    }
}
