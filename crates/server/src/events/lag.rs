//! Who reads the events of one session, and how far each has come.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use stakpak_protocol::EventId;

/// Readers at the moment of asking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReaderTotals {
    /// How many.
    pub(crate) count: usize,
    /// Events that the slowest has not read.
    pub(crate) lag: u64,
}

impl ReaderTotals {
    pub(crate) fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, lag: self.lag.max(other.lag) }
    }
}

/// Cursors of the readers of one session.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    newest: AtomicU64,
    cursors: Mutex<Vec<Arc<AtomicU64>>>,
}

impl Cursors {
    /// The newest event is this one.
    pub(super) fn published(&self, id: EventId) {
        self.newest.fetch_max(id.0, Ordering::Relaxed);
    }

    pub(super) fn totals(&self) -> ReaderTotals {
        let newest = self.newest.load(Ordering::Relaxed);
        let cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let slowest = cursors.iter().map(|cursor| cursor.load(Ordering::Relaxed)).min().unwrap_or(newest);
        ReaderTotals { count: cursors.len(), lag: newest.saturating_sub(slowest) }
    }
}

/// One reader's place among the cursors; it goes with the reader.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Cursors>,
    own: Arc<AtomicU64>,
}

impl Place {
    pub(super) fn take(all: &Arc<Cursors>, cursor: EventId) -> Self {
        let own = Arc::new(AtomicU64::new(cursor.0));
        all.cursors.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&own));
        Self { all: Arc::clone(all), own }
    }

    pub(super) fn moved_to(&self, cursor: EventId) {
        self.own.store(cursor.0, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut cursors = self.all.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = cursors.iter().position(|cursor| Arc::ptr_eq(cursor, &self.own)) {
            cursors.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stakpak_protocol::EventId;

    use super::{Cursors, Place, ReaderTotals};

    #[test]
    fn the_slowest_reader_tells_the_lag() {
        let cursors = Arc::new(Cursors::default());
        cursors.published(EventId(10));
        assert_eq!(cursors.totals(), ReaderTotals { count: 0, lag: 0 });
        let slow = Place::take(&cursors, EventId(4));
        let fast = Place::take(&cursors, EventId(9));
        assert_eq!(cursors.totals(), ReaderTotals { count: 2, lag: 6 });
        slow.moved_to(EventId(10));
        assert_eq!(cursors.totals(), ReaderTotals { count: 2, lag: 1 });
        drop(fast);
        assert_eq!(cursors.totals(), ReaderTotals { count: 1, lag: 0 });
    }
}
