//! Sessions that were driven a moment ago, so that the next message need not read them again. Bounded by bytes; what is idle
//! for [`Limits::idle_after`](crate::Limits) goes away, and then a session costs no memory at all.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use lru::LruCache;
use stakpak_agent_core::Resident;
use stakpak_protocol::SessionId;
use tokio::time::Instant;

/// Stored bytes of all residents together; they take about twice that of memory.
const MOST_BYTES: usize = 4 << 20;

/// A resident costs this much besides its messages.
const OVERHEAD: usize = 4 << 10;

/// How often is looked for sessions that have been idle for long, at least.
const SWEEP: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Residents {
    idle_after: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    idle: LruCache<SessionId, Idle>,
    bytes: usize,
    swept: bool,
}

#[derive(Debug)]
struct Idle {
    resident: Resident,
    since: Instant,
    bytes: usize,
}

impl Default for Inner {
    fn default() -> Self {
        Self { idle: LruCache::unbounded(), bytes: 0, swept: false }
    }
}

impl Residents {
    pub(crate) fn new(idle_after: Duration) -> Self {
        Self { idle_after, inner: Mutex::default() }
    }

    /// Takes a session out: whoever drives it puts it back.
    pub(crate) fn take(&self, id: SessionId) -> Option<Resident> {
        let mut inner = self.lock();
        let idle = inner.idle.pop(&id)?;
        inner.bytes -= idle.bytes;
        Some(idle.resident)
    }

    /// Keeps a session that nobody drives any more.
    pub(crate) fn put(self: &Arc<Self>, resident: Resident) {
        let bytes = resident.bytes() + OVERHEAD;
        let mut inner = self.lock();
        inner.bytes += bytes;
        if let Some((_, replaced)) = inner.idle.push(resident.id(), Idle { resident, since: Instant::now(), bytes }) {
            inner.bytes -= replaced.bytes;
        }
        inner.shrink(|bytes, _| bytes > MOST_BYTES);
        if !inner.swept && inner.bytes > 0 {
            inner.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn shrink(&mut self, too_much: impl Fn(usize, &Idle) -> bool) {
        while let Some((_, oldest)) = self.idle.peek_lru()
            && too_much(self.bytes, oldest)
        {
            let Some((_, gone)) = self.idle.pop_lru() else { break };
            self.bytes -= gone.bytes;
        }
    }
}

/// Runs while there are residents.
async fn sweep(residents: Weak<Residents>) {
    while let Some(pause) = residents.upgrade().map(|residents| residents.idle_after.min(SWEEP)) {
        tokio::time::sleep(pause).await;
        let Some(residents) = residents.upgrade() else { return };
        let mut inner = residents.lock();
        inner.shrink(|_, idle| idle.since.elapsed() >= residents.idle_after);
        if inner.idle.is_empty() {
            inner.idle = LruCache::unbounded();
            inner.swept = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use stakpak_agent_core::{Journal, NewSession, SessionRow};
    use stakpak_store::SqliteJournal;

    use super::*;

    async fn resident() -> Resident {
        let journal = SqliteJournal::open_in_memory().unwrap();
        let id = SessionId::random();
        let session = SessionRow::new(id, "t", None, Utc::now());
        journal.create_session(NewSession { session, receipt: None }).await.unwrap();
        Resident::open(&journal, id).await.unwrap()
    }

    #[tokio::test]
    async fn a_session_that_nothing_happens_in_goes_out_of_memory() {
        let (one, other) = (resident().await, resident().await);
        let (first, second) = (one.id(), other.id());
        let idle_after = Duration::from_secs(10);
        let residents = Arc::new(Residents::new(idle_after));
        tokio::time::pause();
        residents.put(one);
        tokio::time::sleep(idle_after * 9 / 10).await;
        residents.put(other);
        tokio::time::sleep(idle_after / 2).await;
        assert!(residents.take(first).is_none());
        let kept = residents.take(second).unwrap();
        residents.put(kept);
        tokio::time::sleep(idle_after * 3).await;
        let inner = residents.lock();
        assert_eq!((inner.bytes, inner.idle.len()), (0, 0));
    }
}
