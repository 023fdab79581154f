//! Who waits for events of which session, and the newest frames of sessions that somebody reads.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use stakpak_agent_core::{EventRecord, Publisher};
use stakpak_protocol::{EventId, SessionId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    frame,
    lag::{Cursors, ReaderTotals},
};
use crate::Limits;

/// Frames that one session's cache holds; readers further behind read the journal.
const CACHE_BYTES: usize = 256 * 1024;

/// All sessions that somebody reads.
#[derive(Debug)]
pub(crate) struct Hub {
    channels: Mutex<HashMap<SessionId, Weak<Channel>>>,
    closed: watch::Sender<bool>,
    streams: Arc<Semaphore>,
    streams_per_session: usize,
}

/// One session that somebody reads.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Counts publications: a change means that there may be more to read.
    published: watch::Sender<u64>,
    /// The session is deleted: streams end behind what was published.
    deleted: AtomicBool,
    cache: Mutex<Cache>,
    streams: Arc<Semaphore>,
    pub(super) cursors: Arc<Cursors>,
}

#[derive(Debug, Default)]
struct Cache {
    /// All events above this id are here; none: nothing was published since the first reader came.
    floor: Option<EventId>,
    /// The newest event that is known of.
    newest: Option<EventId>,
    frames: VecDeque<(EventId, Bytes)>,
    bytes: usize,
}

impl Hub {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            channels: Mutex::default(),
            closed: watch::Sender::default(),
            streams: Arc::new(Semaphore::new(limits.streams.min(Semaphore::MAX_PERMITS))),
            streams_per_session: limits.streams_per_session.min(Semaphore::MAX_PERMITS),
        }
    }

    /// The right to one more stream in the process; none when there are too many.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }

    /// The session's channel; it lives as long as somebody holds it.
    pub(crate) fn channel(&self, session: SessionId) -> Arc<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&session).and_then(Weak::upgrade) {
            return channel;
        }
        channels.retain(|_, channel| channel.strong_count() > 0);
        let channel = Arc::new(Channel {
            published: watch::Sender::new(0),
            deleted: AtomicBool::new(false),
            cache: Mutex::default(),
            streams: Arc::new(Semaphore::new(self.streams_per_session)),
            cursors: Arc::default(),
        });
        channels.insert(session, Arc::downgrade(&channel));
        channel
    }

    /// How many sessions it knows.
    #[cfg(test)]
    pub(super) fn sessions(&self) -> usize {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until the session has no stream, `patience` at most: one that takes nothing holds nobody up.
    pub(crate) async fn emptied(&self, session: SessionId, patience: Duration) {
        if let Some(channel) = self.existing(session) {
            let _ = tokio::time::timeout(patience, channel.published.closed()).await;
        }
    }

    fn existing(&self, session: SessionId) -> Option<Arc<Channel>> {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.get(&session).and_then(Weak::upgrade)
    }

    /// All open streams.
    pub(crate) fn readers(&self) -> ReaderTotals {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let open = channels.values().filter_map(Weak::upgrade).map(|channel| channel.cursors.totals());
        open.fold(ReaderTotals::default(), ReaderTotals::and)
    }

    /// Tells every reader that the server goes down.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    pub(crate) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }
}

impl Publisher for Hub {
    fn publish(&self, session: SessionId, events: &[EventRecord]) {
        if events.is_empty() {
            return;
        }
        if let Some(channel) = self.existing(session) {
            channel.publish(events);
        }
    }

    fn close(&self, session: SessionId) {
        if let Some(channel) = self.existing(session) {
            channel.close();
        }
    }
}

impl Channel {
    fn publish(&self, events: &[EventRecord]) {
        {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                cache.push(event.id, frame(event));
            }
        }
        if let Some(newest) = events.last() {
            self.cursors.published(newest.id);
        }
        self.published.send_modify(|count| *count += 1);
    }

    /// The right to one more stream of the session; none when there are too many.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }

    fn close(&self) {
        self.deleted.store(true, Ordering::Release);
        self.published.send_modify(|count| *count += 1);
    }

    /// Whether nothing will be published any more.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// The session's newest event when it was read. What is newer than all that was published here was written by another
    /// process, or is about to be published: readers behind it ask the journal. If nothing is, a reader of a quiet session need
    /// not ask it.
    pub(crate) fn reaches(&self, newest: EventId) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.newest.is_none_or(|known| known < newest) {
            *cache = Cache { floor: Some(newest), newest: Some(newest), ..Cache::default() };
        }
    }

    /// Frames after the cursor; none when the cache does not reach back to it.
    pub(crate) fn after(&self, cursor: EventId) -> Option<Vec<(EventId, Bytes)>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.floor? > cursor {
            return None;
        }
        let first = cache.frames.partition_point(|(id, _)| *id <= cursor);
        Some(cache.frames.range(first..).cloned().collect())
    }
}

impl Cache {
    fn push(&mut self, id: EventId, frame: Bytes) {
        self.floor.get_or_insert(EventId(id.0 - 1));
        self.newest = self.newest.max(Some(id));
        self.bytes += frame.len();
        self.frames.push_back((id, frame));
        while self.bytes > CACHE_BYTES {
            let Some((id, oldest)) = self.frames.pop_front() else { break };
            self.bytes -= oldest.len();
            self.floor = Some(id);
        }
    }
}
