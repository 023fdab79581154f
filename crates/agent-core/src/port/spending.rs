//! What the runs of a profile have taken, and what they may take together in a day.

use std::{fmt, sync::Arc};

use chrono::{DateTime, NaiveTime, Utc};
use stakpak_protocol::Usd;

/// Tokens, dollars and runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spending {
    /// In and out.
    pub tokens: u64,
    /// At list price; of answers whose price is not known, nothing.
    pub cost: Usd,
    /// Runs that had their first answer.
    pub runs: u64,
}

impl Spending {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            cost: self.cost.plus(other.cost),
            runs: self.runs.saturating_add(other.runs),
        }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            cost: Usd::from_micros(self.cost.micros().saturating_sub(other.cost.micros())),
            runs: self.runs.saturating_sub(other.runs),
        }
    }
}

/// What an answer adds to the spending of its profile: written with the rows of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The profile of the run.
    pub profile: String,
    /// When.
    pub at: DateTime<Utc>,
    /// How much.
    pub spending: Spending,
}

/// What the runs of a profile may take together in a day. None: no limit.
#[derive(Debug, Clone, Default)]
pub struct DayBudget {
    /// Tokens, in and out.
    pub tokens: Option<u64>,
    /// US dollars.
    pub cost: Option<Usd>,
    /// Runs.
    pub runs: Option<u64>,
    /// Which day it is.
    pub calendar: Calendar,
}

impl DayBudget {
    /// Whether there is no limit.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tokens.is_none() && self.cost.is_none() && self.runs.is_none()
    }
}

/// When days begin; of UTC unless it is told otherwise.
#[derive(Clone)]
pub struct Calendar(Arc<dyn Fn(DateTime<Utc>) -> DateTime<Utc> + Send + Sync>);

impl Calendar {
    /// The argument is an instant, the answer the beginning of its day.
    pub fn new(day_began: impl Fn(DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(day_began))
    }

    /// The beginning of the day of `now`.
    #[must_use]
    pub fn day_began(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        (self.0)(now)
    }
}

impl Default for Calendar {
    fn default() -> Self {
        Self::new(|now| now.date_naive().and_time(NaiveTime::MIN).and_utc())
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calendar").finish_non_exhaustive()
    }
}
