//! Projections of sessions that this process wrote last: reading them again needs no database.
//!
//! Only this process's own appends put a row here, and a row leaves before the next append of its session is sent: so what
//! is found here is what the file holds, whatever becomes of the append.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use stakpak_agent_core::SessionRow;
use stakpak_protocol::SessionId;

/// A row takes about half a kilobyte, and some five with the longest title.
const MOST_ROWS: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

#[derive(Debug)]
pub(crate) struct Recent(Mutex<LruCache<SessionId, SessionRow>>);

impl Recent {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(MOST_ROWS)))
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<SessionRow> {
        self.lock().get(&id).cloned()
    }

    pub(crate) fn put(&self, row: SessionRow) {
        self.lock().put(row.id, row);
    }

    pub(crate) fn forget(&self, id: SessionId) {
        self.lock().pop(&id);
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<SessionId, SessionRow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
