//! How long conversations are made to fit: `[profiles.NAME.compaction]`.

use serde::Deserialize;

/// An absent field leaves the decision to the next level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CompactionConfig {
    /// Otherwise a conversation that is too long ends its run.
    pub enabled: Option<bool>,
    /// Share of the model's window above which something is done.
    pub trigger: Option<f64>,
    /// Share that is left when older messages were summed up.
    pub target: Option<f64>,
}

impl CompactionConfig {
    /// This where it says something, `below` where it does not.
    pub(crate) fn over(self, below: Self) -> Self {
        Self {
            enabled: self.enabled.or(below.enabled),
            trigger: self.trigger.or(below.trigger),
            target: self.target.or(below.target),
        }
    }

    /// The key that is wrong, and what would be right.
    pub(crate) fn wrong(&self) -> Option<(&'static str, &'static str)> {
        if self.trigger.is_some_and(|share| !(0.3..=0.95).contains(&share)) {
            return Some(("trigger", "expected a share from 0.3 to 0.95"));
        }
        let most = self.trigger.unwrap_or(0.8) - 0.1;
        if self.target.is_some_and(|share| !(0.1..=most).contains(&share)) {
            return Some(("target", "expected a share from 0.1 to the trigger less 0.1"));
        }
        None
    }
}
