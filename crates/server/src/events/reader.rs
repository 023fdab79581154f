//! One reader of one session's events.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use stakpak_agent_core::{Journal, JournalError, SessionRow};
use stakpak_protocol::{ErrorCode, EventId, GapDetected, ServerShutdown, SessionDeleted, SessionStatus};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Hub, control_frame, frame, hub::Channel};
use crate::ApiError;

/// What one read of the journal brings at most.
const PAGE_BYTES: usize = 64 * 1024;

/// Silence after which a comment is sent, so that both sides notice a dead connection.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How long a client should wait before it comes back after a shutdown.
const RECONNECT_AFTER_MS: u64 = 1_000;

/// A cursor that moves.
pub(crate) struct Reader {
    session: SessionRow,
    cursor: EventId,
    channel: Arc<Channel>,
    published: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
    journal: Arc<dyn Journal>,
    gap: Option<Bytes>,
    done: bool,
    /// Of the process and of the session, given back when the reader goes.
    _permits: [OwnedSemaphorePermit; 2],
}

impl Reader {
    /// A reader of what follows `after`; without it, of what is yet to come. Subscribe first, then read the row: so nothing
    /// falls between.
    pub(crate) async fn open(
        hub: &Hub,
        journal: Arc<dyn Journal>,
        session: stakpak_protocol::SessionId,
        after: Option<EventId>,
    ) -> Result<Self, ApiError> {
        let of_process = hub.admit().ok_or_else(too_many_streams)?;
        let not_found = || ApiError::session_not_found(session);
        // Before anything is allocated for a session that may not exist.
        journal.session(session).await?.ok_or_else(not_found)?;
        let channel = hub.channel(session);
        let of_session = channel.admit().ok_or_else(too_many_streams)?;
        let published = channel.published();
        let row = journal.session(session).await?.ok_or_else(not_found)?;
        channel.starts_at(row.last_event_id);
        let (cursor, gap) = match after {
            None => (row.last_event_id, None),
            Some(after) if after <= row.last_event_id => (after, None),
            Some(after) => (EventId(row.run_first_seq.saturating_sub(1)), Some(gap_frame(after, &row))),
        };
        let closed = hub.closed();
        let _permits = [of_process, of_session];
        Ok(Self { session: row, cursor, channel, published, closed, journal, gap, done: false, _permits })
    }

    /// The next frames, or a keep-alive; none when the stream is over.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(gap) = self.gap.take() {
            return Some(gap);
        }
        if self.done {
            return None;
        }
        loop {
            self.published.borrow_and_update();
            // Looked at before reading: what comes before the deletion is then read.
            let deleted = self.session.status == SessionStatus::Deleted || self.channel.is_deleted();
            match self.read().await {
                Ok(bytes) if !bytes.is_empty() => return Some(bytes),
                Ok(_) if deleted => {
                    self.done = true;
                    let frame = SessionDeleted { session_id: self.session.id };
                    return Some(control_frame("session_deleted", &frame));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(session_id = %self.session.id, error = &error as &dyn std::error::Error, "events cannot be read");
                    return None;
                }
            }
            tokio::select! {
                _ = self.published.changed() => {}
                _ = self.closed.wait_for(|closed| *closed) => {
                    self.done = true;
                    let frame = ServerShutdown { last_event_id: self.cursor.0, reconnect_after_ms: RECONNECT_AFTER_MS };
                    return Some(control_frame("server_shutdown", &frame));
                }
                () = tokio::time::sleep(KEEPALIVE) => return Some(Bytes::from_static(b": keepalive\n\n")),
            }
        }
    }

    async fn read(&mut self) -> Result<Bytes, JournalError> {
        let frames = match self.channel.after(self.cursor) {
            Some(frames) => frames,
            None => {
                let events = self.journal.events(self.session.id, self.cursor, PAGE_BYTES).await?;
                events.iter().map(|event| (event.id, frame(event))).collect()
            }
        };
        if let Some((last, _)) = frames.last() {
            self.cursor = *last;
        }
        Ok(match <[_; 1]>::try_from(frames) {
            Ok([(_, frame)]) => frame,
            Err(frames) => frames.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>().concat().into(),
        })
    }
}

fn too_many_streams() -> ApiError {
    ApiError::new(ErrorCode::TooManyStreams, "too many event streams are open; close one or come back").retry_after(5)
}

fn gap_frame(after: EventId, row: &SessionRow) -> Bytes {
    control_frame(
        "gap_detected",
        &GapDetected {
            requested_after_id: after.0,
            oldest_available_id: row.last_event_id.0.min(1),
            newest_available_id: row.last_event_id.0,
            resume_hint: "refresh_snapshot_then_resume".to_owned(),
        },
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stakpak_protocol::SessionId;
    use stakpak_store::SqliteJournal;

    use super::{Hub, Reader};
    use crate::Limits;

    /// P31: a session that does not exist costs nothing, however many are asked for.
    #[tokio::test]
    async fn an_unknown_session_allocates_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Arc::new(SqliteJournal::open(&directory.path().join("journal.db")).unwrap());
        let hub = Hub::new(&Limits { streams: 1, ..Limits::default() });
        for _ in 0..1_000 {
            let refused = Reader::open(&hub, journal.clone(), SessionId::random(), None).await.err().unwrap();
            assert_eq!(refused.0.code.as_str(), "not_found");
        }
        assert_eq!(hub.sessions(), 0);
    }
}
