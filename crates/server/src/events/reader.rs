//! One reader of one session's events.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use stakpak_agent_core::{Journal, JournalError, SessionRow};
use stakpak_protocol::{
    ErrorCode, EventId, GapDetected, RequestId, ServerShutdown, SessionDeleted, SessionId, SessionStatus,
};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Hub, control_frame, frame, hub::Channel, lag::Place};
use crate::ApiError;

/// What one read of the journal brings at most.
const PAGE_BYTES: usize = 64 * 1024;

/// Silence after which a comment is sent, so that both sides notice a dead connection.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How often a session is looked at that another process drives: nobody here is told of what it writes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a client should wait before it comes back after a shutdown.
const RECONNECT_AFTER_MS: u64 = 1_000;

/// A cursor that moves.
pub(crate) struct Reader {
    session: SessionRow,
    cursor: EventId,
    place: Place,
    channel: Arc<Channel>,
    published: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
    journal: Arc<dyn Journal>,
    gap: Option<Bytes>,
    done: bool,
    /// Another process that lives drives the session: what is new is found in the journal only.
    elsewhere: bool,
    /// For the log: the request's span has ended when the stream begins.
    request: Option<RequestId>,
    /// Of the process and of the session, given back when the reader goes.
    _permits: [OwnedSemaphorePermit; 2],
}

impl Reader {
    /// A reader of what follows `after`; without it, of what is yet to come. Subscribe first, then read the row: so nothing
    /// falls between.
    pub(crate) async fn open(
        hub: &Hub,
        journal: Arc<dyn Journal>,
        session: SessionId,
        after: Option<EventId>,
    ) -> Result<Self, ApiError> {
        let of_process = hub.admit().ok_or_else(too_many_streams)?;
        let not_found = || ApiError::session_not_found(session);
        // Before anything is allocated for a session that may not exist.
        journal.session(session).await?.ok_or_else(not_found)?;
        let channel = hub.channel(session);
        let of_session = channel.admit().ok_or_else(too_many_streams)?;
        let published = channel.published();
        let elsewhere = is_elsewhere(journal.as_ref(), session).await?;
        let row = journal.session(session).await?.ok_or_else(not_found)?;
        channel.reaches(row.last_event_id);
        let (cursor, gap) = match after {
            None => (row.last_event_id, None),
            Some(after) if after <= row.last_event_id => (after, None),
            // Of a client from before a restore: what it knows is not what is here.
            Some(after) => {
                let oldest = oldest(journal.as_ref(), session).await?;
                let before_run = row.run_first_seq.max(oldest.0).saturating_sub(1);
                (EventId(before_run), Some(gap_frame(after, oldest, row.last_event_id)))
            }
        };
        let closed = hub.closed();
        let _permits = [of_process, of_session];
        channel.cursors.published(row.last_event_id);
        let place = Place::take(&channel.cursors, cursor);
        Ok(Self {
            session: row,
            cursor,
            place,
            channel,
            published,
            closed,
            journal,
            gap,
            done: false,
            elsewhere,
            request: None,
            _permits,
        })
    }

    /// Names the request that the stream answers.
    pub(crate) fn asked_by(self, request: Option<RequestId>) -> Self {
        Self { request, ..self }
    }

    /// The next frames, or a keep-alive; none when the stream is over.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(gap) = self.gap.take() {
            return Some(gap);
        }
        if self.done {
            return None;
        }
        let mut keepalive = std::pin::pin!(tokio::time::sleep(KEEPALIVE));
        loop {
            // Looked at first: with events that keep coming there is always more to read.
            if *self.closed.borrow() {
                return Some(self.shut_down());
            }
            self.published.borrow_and_update();
            let looked = self.look_elsewhere().await;
            // Looked at before reading: what comes before the deletion is then read.
            let deleted = self.session.status == SessionStatus::Deleted || self.channel.is_deleted();
            let read = match looked {
                Ok(()) => self.read().await,
                Err(error) => Err(error),
            };
            match read {
                Ok(bytes) if !bytes.is_empty() => return Some(bytes),
                Ok(_) if deleted => {
                    self.done = true;
                    let frame = SessionDeleted { session_id: self.session.id };
                    return Some(control_frame("session_deleted", &frame));
                }
                Ok(_) => {}
                Err(error) => {
                    let request_id = self.request.as_ref().map(tracing::field::display);
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(request_id, session_id = %self.session.id, error, "events cannot be read");
                    return None;
                }
            }
            tokio::select! {
                _ = self.published.changed() => {}
                _ = self.closed.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY), if self.elsewhere => {}
                () = &mut keepalive => return Some(Bytes::from_static(b": keepalive\n\n")),
            }
        }
    }

    /// The last frame: the client comes back with its cursor.
    fn shut_down(&mut self) -> Bytes {
        self.done = true;
        let frame = ServerShutdown { last_event_id: self.cursor.0, reconnect_after_ms: RECONNECT_AFTER_MS };
        control_frame("server_shutdown", &frame)
    }

    /// Takes note of what another process wrote. Whether it lives is asked first: if it does not, this is all there is of it.
    async fn look_elsewhere(&mut self) -> Result<(), JournalError> {
        if self.elsewhere {
            self.elsewhere = is_elsewhere(self.journal.as_ref(), self.session.id).await?;
            if let Some(row) = self.journal.session(self.session.id).await? {
                self.channel.reaches(row.last_event_id);
                self.session.status = row.status;
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Bytes, JournalError> {
        let frames = match self.channel.after(self.cursor) {
            Some(frames) => frames,
            None => match self.journal.events(self.session.id, self.cursor, PAGE_BYTES).await {
                Ok(events) => events.iter().map(|event| (event.id, frame(event))).collect(),
                Err(JournalError::EventsGone { oldest, newest, .. }) => {
                    let gap = gap_frame(self.cursor, oldest, newest);
                    self.cursor = EventId(oldest.0 - 1);
                    return Ok(gap);
                }
                Err(error) => return Err(error),
            },
        };
        if let Some((last, _)) = frames.last() {
            self.cursor = *last;
            self.place.moved_to(*last);
        }
        Ok(match <[_; 1]>::try_from(frames) {
            Ok([(_, frame)]) => frame,
            Err(frames) => frames.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>().concat().into(),
        })
    }
}

/// Whether another process that lives drives the session.
async fn is_elsewhere(journal: &dyn Journal, session: SessionId) -> Result<bool, JournalError> {
    match journal.claim(session).await {
        Ok(()) => Ok(false),
        Err(JournalError::Elsewhere { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn too_many_streams() -> ApiError {
    ApiError::new(ErrorCode::TooManyStreams, "too many event streams are open; close one or come back").retry_after(5)
}

/// The oldest event that can be read; 0 if there is none.
async fn oldest(journal: &dyn Journal, session: SessionId) -> Result<EventId, JournalError> {
    match journal.events(session, EventId(0), 1).await {
        Ok(events) => Ok(events.first().map_or(EventId(0), |event| event.id)),
        Err(JournalError::EventsGone { oldest, .. }) => Ok(oldest),
        Err(error) => Err(error),
    }
}

fn gap_frame(after: EventId, oldest: EventId, newest: EventId) -> Bytes {
    control_frame(
        "gap_detected",
        &GapDetected {
            requested_after_id: after.0,
            oldest_available_id: oldest.0,
            newest_available_id: newest.0,
            resume_hint: "refresh_snapshot_then_resume".to_owned(),
        },
    )
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use stakpak_agent_core::{Append, EventRecord, NewSession, Progress, Publisher, Retention, Row, RowClass, Upkeep};
    use stakpak_store::SqliteJournal;

    use super::*;
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

    /// A reader that is slower than retention is told in the middle of its stream, and goes on with what is kept.
    #[tokio::test]
    async fn a_reader_that_needs_what_is_gone_is_told_in_mid_stream() {
        let journal = Arc::new(SqliteJournal::open_in_memory().unwrap());
        let session = with_events(&journal, 40).await;
        let hub = Hub::new(&Limits::default());
        let mut reader = Reader::open(&hub, journal.clone(), session.id, Some(EventId(0))).await.ok().unwrap();
        let first = reader.next().await.unwrap();
        let seen = reader.cursor.0;
        assert!(seen < 30 && first.starts_with(b"id: 1\n"), "{seen}");

        let policy = Retention { events_bytes: Some(50_000), ..Retention::default() };
        while journal.tidy(session.id, &policy, Utc::now()).await.unwrap() == Progress::More {}
        let oldest = oldest(journal.as_ref(), session.id).await.unwrap();
        assert!(oldest.0 > seen + 1);
        assert_eq!(reader.next().await.unwrap(), gap_frame(EventId(seen), oldest, EventId(40)));
        let mut rest = Vec::new();
        while reader.cursor < EventId(40) {
            rest.extend(reader.next().await.unwrap());
        }
        let rest = String::from_utf8(rest).unwrap();
        assert!(rest.starts_with(&format!("id: {oldest}\n")));
        assert_eq!(rest.matches("\n\n").count() as u64, 41 - oldest.0);
    }

    /// A session with events of 10 kB.
    async fn with_events(journal: &SqliteJournal, count: u64) -> SessionRow {
        let mut session = SessionRow::new(SessionId::random(), "", None, DateTime::UNIX_EPOCH);
        journal.create_session(NewSession { session: session.clone(), receipt: None }).await.unwrap();
        let payload = serde_json::json!({"text": "x".repeat(10_000), "timestamp": Utc::now()}).to_string();
        let row = |seq| Row {
            seq,
            class: RowClass::Event,
            kind: "text_complete".into(),
            payload: payload.clone(),
            message_index: None,
        };
        (session.last_seq, session.last_event_id) = (count, EventId(count));
        let rows = (1..=count).map(row).collect();
        let append = Append {
            epoch: journal.epoch(),
            session: session.clone(),
            rows,
            run: None,
            receipt: None,
            snapshot: None,
            spent: None,
        };
        journal.append(append).await.unwrap();
        session
    }

    /// P32: a reader is told of the shutdown however much there is to read.
    #[tokio::test]
    async fn events_that_keep_coming_do_not_hold_back_the_shutdown() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Arc::new(SqliteJournal::open(&directory.path().join("journal.db")).unwrap());
        let session = SessionId::random();
        let row = SessionRow::new(session, "", None, chrono::Utc::now());
        journal.create_session(NewSession { session: row, receipt: None }).await.unwrap();
        let hub = Hub::new(&Limits::default());
        let mut reader = Reader::open(&hub, journal, session, None).await.unwrap();
        let publish = |id: u64| {
            let event = EventRecord { id: EventId(id), name: "text_delta".into(), data: "{}".into() };
            hub.publish(session, &[event]);
        };
        publish(1);
        assert!(reader.next().await.unwrap().starts_with(b"id: 1\n"));
        publish(2);
        hub.close();
        publish(3);
        let last = reader.next().await.unwrap();
        assert!(last.starts_with(b"event: server_shutdown\ndata: {\"last_event_id\":1,"), "{last:?}");
        assert!(reader.next().await.is_none(), "nothing follows");
    }
}
