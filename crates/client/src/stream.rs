//! The events of a session over any number of connections.
//!
//! * The cursor is the id of the last event given to the caller. Each connection starts behind it, and what comes with
//!   an id not above it is dropped: no hole, no repeat.
//! * The stream ends only when there is nothing more to come: the session is gone, or access to it.
//! * [`EventStream::next_event`] may be dropped at any point (as in `select!`): progress towards the next event,
//!   a running wait or connection attempt included, is kept in the stream.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use reqwest::Response;
use stakpak_protocol::{EventId, ServerShutdown, SessionId};
use tokio::time::{Instant, Sleep, sleep};

use crate::{
    ClientError, SseEvent,
    frames::{Damaged, Frame, Frames},
    position::Position,
    transport::Transport,
};

/// What comes from an [`EventStream`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamItem {
    /// An event, or a control frame.
    Event(SseEvent),
    /// A lost connection was made anew; what was missed follows.
    Reconnected,
}

/// The events of a session.
pub struct EventStream {
    transport: Arc<Transport>,
    session: SessionId,
    position: Position,
    backoff: Duration,
    last_error: Option<ClientError>,
    reconnects: u64,
    connection: Connection,
}

enum Connection {
    Open(Box<Open>),
    Waiting(Pin<Box<Sleep>>),
    Opening(BoxFuture<'static, Result<Response, ClientError>>),
    Ended,
}

struct Open {
    response: Response,
    frames: Frames,
    since: Instant,
}

/// Why a connection gives no further frame.
enum Cut {
    Closed,
    Damaged,
    Transport(reqwest::Error),
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = match self.connection {
            Connection::Open(_) => "open",
            Connection::Waiting(_) => "waiting",
            Connection::Opening(_) => "opening",
            Connection::Ended => "ended",
        };
        f.debug_struct("EventStream")
            .field("session", &self.session)
            .field("cursor", &self.position.cursor)
            .field("connection", &connection)
            .finish_non_exhaustive()
    }
}

impl Connection {
    fn open(response: Response) -> Self {
        Self::Open(Box::new(Open { response, frames: Frames::default(), since: Instant::now() }))
    }
}

impl Open {
    /// The next frame. What is there of it stays when this is dropped.
    async fn next(&mut self) -> Result<Frame, Cut> {
        loop {
            if let Some(frame) = self.frames.next() {
                return frame.map_err(|Damaged| Cut::Damaged);
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.frames.push(&bytes),
                Ok(None) => return Err(Cut::Closed),
                Err(error) => return Err(Cut::Transport(error)),
            }
        }
    }
}

impl EventStream {
    /// Opens the first connection.
    pub(crate) async fn open(
        transport: Arc<Transport>,
        session: SessionId,
        cursor: EventId,
    ) -> Result<Self, ClientError> {
        let response = transport.open_events(&events_path(session), cursor.0).await?;
        let backoff = transport.timing().retry_first;
        let position = Position::behind(cursor);
        let connection = Connection::open(response);
        Ok(Self { transport, session, position, backoff, last_error: None, reconnects: 0, connection })
    }

    /// The next event, however many connections it takes. Control frames come without id.
    ///
    /// None is for good: after `session_deleted`, or when the server answers 401, 403 or 404.
    pub async fn next_event(&mut self) -> Option<SseEvent> {
        loop {
            if let StreamItem::Event(event) = self.next_item().await? {
                return Some(event);
            }
        }
    }

    /// As [`EventStream::next_event`], and tells when a lost connection was made anew: what its reader thinks to be so may
    /// have changed meanwhile.
    pub async fn next_item(&mut self) -> Option<StreamItem> {
        loop {
            match &mut self.connection {
                Connection::Open(open) => match open.next().await {
                    Ok(frame) => {
                        if let Some(event) = self.accept(frame) {
                            return Some(StreamItem::Event(event));
                        }
                    }
                    Err(cut) => self.lost(cut),
                },
                Connection::Waiting(wait) => {
                    wait.await;
                    self.connection = Connection::Opening(self.reopen());
                }
                Connection::Opening(opening) => match opening.await {
                    Ok(response) => {
                        self.reconnects += 1;
                        self.connection = Connection::open(response);
                        return Some(StreamItem::Reconnected);
                    }
                    Err(error) => self.refused(error),
                },
                Connection::Ended => return None,
            }
        }
    }

    /// Id of the last event given out, or where the stream began: persist it and subscribe behind it later.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.position.cursor.0
    }

    /// Why the last connection ended or could not be made; after the end of the stream, why it ended. None before
    /// the first trouble, and after the session was deleted.
    #[must_use]
    pub fn last_error(&self) -> Option<&ClientError> {
        self.last_error.as_ref()
    }

    /// How many times the connection was lost and made anew.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    fn accept(&mut self, frame: Frame) -> Option<SseEvent> {
        let event = self.position.accept(frame)?;
        if event.is_control() {
            self.control(&event);
        } else if event.event_id_u64.is_some() {
            self.backoff = self.transport.timing().retry_first;
        }
        Some(event)
    }

    fn control(&mut self, event: &SseEvent) {
        match event.event_type.as_str() {
            "session_deleted" => {
                self.last_error = None;
                self.connection = Connection::Ended;
            }
            "server_shutdown" => {
                if let Ok(shutdown) = serde_json::from_str::<ServerShutdown>(&event.data) {
                    let asked = Duration::from_millis(shutdown.reconnect_after_ms);
                    self.backoff = self.backoff.max(asked).min(self.transport.timing().retry_max);
                }
            }
            _ => {}
        }
    }

    fn lost(&mut self, cut: Cut) {
        let address = self.transport.address();
        let error = match cut {
            Cut::Closed => ClientError::StreamClosed { address: address.to_owned() },
            Cut::Damaged => ClientError::StreamInvalid { address: address.to_owned() },
            Cut::Transport(error) => ClientError::transport(address, error),
        };
        // A connection that held is no part of an earlier series of failures, even when it had nothing to tell.
        let timing = self.transport.timing();
        if matches!(&self.connection, Connection::Open(open) if open.since.elapsed() > timing.retry_max) {
            self.backoff = timing.retry_first;
        }
        self.wait(error);
    }

    fn refused(&mut self, error: ClientError) {
        if matches!(error.status(), Some(401 | 403 | 404)) {
            self.last_error = Some(error);
            self.connection = Connection::Ended;
        } else {
            self.wait(error);
        }
    }

    fn wait(&mut self, error: ClientError) {
        let longest = self.transport.timing().retry_max;
        let wait = error.retry_after().map_or(self.backoff, |asked| asked.max(self.backoff).min(longest));
        self.backoff = (self.backoff * 2).min(longest);
        tracing::debug!(session = %self.session, cursor = %self.position.cursor, ?wait, %error, "event stream reconnects");
        self.last_error = Some(error);
        self.connection = Connection::Waiting(Box::pin(sleep(wait)));
    }

    fn reopen(&self) -> BoxFuture<'static, Result<Response, ClientError>> {
        let transport = Arc::clone(&self.transport);
        let (path, cursor) = (events_path(self.session), self.position.cursor.0);
        Box::pin(async move { transport.open_events_once(&path, cursor).await })
    }
}

fn events_path(session: SessionId) -> String {
    format!("sessions/{session}/events")
}
