//! Runs, or notifications, that ended while the process lives, by schedule and status.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<BTreeMap<(String, &'static str), u64>>>);

impl Tally {
    /// So many more, which are durable.
    pub(crate) fn add(&self, schedule: &str, status: &'static str, more: u64) {
        if more == 0 {
            return;
        }
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((schedule.to_owned(), status)).or_default() += more;
    }

    pub(crate) fn read(&self) -> BTreeMap<(String, &'static str), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
