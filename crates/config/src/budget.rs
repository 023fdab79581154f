//! `budget` of a profile: what its runs may take.

use serde::Deserialize;

/// None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// US dollars of one run, above 0.
    pub usd_per_run: Option<f64>,
    /// Tokens of one run, in and out; at least 1.
    pub tokens_per_run: Option<u64>,
    /// US dollars of a day, above 0.
    pub usd_per_day: Option<f64>,
    /// Tokens of a day, in and out; at least 1.
    pub tokens_per_day: Option<u64>,
    /// Runs of a day, at least 1.
    pub runs_per_day: Option<u64>,
}

impl Budget {
    /// The first key with a limit that would let nothing run.
    pub(crate) fn unusable(&self) -> Option<&'static str> {
        let dollars = [("usd_per_run", self.usd_per_run), ("usd_per_day", self.usd_per_day)];
        let counts = [
            ("tokens_per_run", self.tokens_per_run),
            ("tokens_per_day", self.tokens_per_day),
            ("runs_per_day", self.runs_per_day),
        ];
        let bad_dollars =
            dollars.into_iter().find(|(_, limit)| limit.is_some_and(|usd| !usd.is_finite() || usd <= 0.0));
        bad_dollars.map(|(key, _)| key).or(counts.into_iter().find(|(_, limit)| *limit == Some(0)).map(|(key, _)| key))
    }

    /// Each limit where this has one, that of `below` where not.
    pub(crate) fn over(self, below: Self) -> Self {
        Self {
            usd_per_run: self.usd_per_run.or(below.usd_per_run),
            tokens_per_run: self.tokens_per_run.or(below.tokens_per_run),
            usd_per_day: self.usd_per_day.or(below.usd_per_day),
            tokens_per_day: self.tokens_per_day.or(below.tokens_per_day),
            runs_per_day: self.runs_per_day.or(below.runs_per_day),
        }
    }
}
