//! How often a run may repeat itself: `[profiles.NAME.no_progress]`.

use serde::Deserialize;

/// Turns that may be the same: as many as a run may have at most, and that is as good as never.
const TURNS: std::ops::RangeInclusive<u64> = 2..=256;

/// An absent field leaves the decision to the next level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NoProgressConfig {
    /// Turns in a row with the same calls and results, from which on the model is told.
    pub warn: Option<u64>,
    /// Those at which the run ends.
    pub stop: Option<u64>,
}

impl NoProgressConfig {
    /// This where it says something, `below` where it does not.
    pub(crate) fn over(self, below: Self) -> Self {
        Self { warn: self.warn.or(below.warn), stop: self.stop.or(below.stop) }
    }

    /// The key that is wrong, and what would be right.
    pub(crate) fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let keys = [("warn", self.warn), ("stop", self.stop)];
        let (key, _) = keys.into_iter().find(|(_, turns)| turns.is_some_and(|turns| !TURNS.contains(&turns)))?;
        Some((key, "expected a number of turns from 2 to 256"))
    }
}
