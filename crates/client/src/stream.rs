//! The events of a session over any number of connections.
//!
//! * The cursor is the id of the last event given to the caller. Each connection starts behind it, and what comes with
//!   an id not above it is dropped: no hole, no repeat.
//! * The stream ends only when there is nothing more to come: the session is gone, or access to it.
//! * [`EventStream::next_event`] may be dropped at any point (as in `select!`): progress towards the next event,
//!   a running wait or connection attempt included, is kept in the stream.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use eventsource_stream::{Event as Frame, EventStreamError, Eventsource};
use futures_util::{StreamExt, future::BoxFuture, stream::BoxStream};
use stakpak_protocol::{CONTROL_EVENTS, EventId, ServerShutdown, SessionId};
use tokio::time::{Instant, Sleep, sleep};

use crate::{ClientError, SseEvent, transport::Transport};

type Frames = BoxStream<'static, Result<Frame, EventStreamError<reqwest::Error>>>;

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
    cursor: EventId,
    /// The server's ids start below the cursor (it was restored from an older state), and said so.
    rewound: bool,
    backoff: Duration,
    last_error: Option<ClientError>,
    reconnects: u64,
    connection: Connection,
}

enum Connection {
    Open { frames: Frames, since: Instant },
    Waiting(Pin<Box<Sleep>>),
    Opening(BoxFuture<'static, Result<Frames, ClientError>>),
    Ended,
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = match self.connection {
            Connection::Open { .. } => "open",
            Connection::Waiting(_) => "waiting",
            Connection::Opening(_) => "opening",
            Connection::Ended => "ended",
        };
        f.debug_struct("EventStream")
            .field("session", &self.session)
            .field("cursor", &self.cursor)
            .field("connection", &connection)
            .finish_non_exhaustive()
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
        let connection = Connection::Open { frames: frames(response), since: Instant::now() };
        Ok(Self { transport, session, cursor, rewound: false, backoff, last_error: None, reconnects: 0, connection })
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
                Connection::Open { frames, .. } => match frames.next().await {
                    Some(Ok(frame)) => {
                        if let Some(event) = self.accept(frame) {
                            return Some(StreamItem::Event(event));
                        }
                    }
                    Some(Err(error)) => self.lost(Some(error)),
                    None => self.lost(None),
                },
                Connection::Waiting(wait) => {
                    wait.await;
                    self.connection = Connection::Opening(self.reopen());
                }
                Connection::Opening(opening) => match opening.await {
                    Ok(frames) => {
                        self.reconnects += 1;
                        self.connection = Connection::Open { frames, since: Instant::now() };
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
        self.cursor.0
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
        if CONTROL_EVENTS.contains(&frame.event.as_str()) {
            // The decoder repeats the last id on frames without one.
            let event = SseEvent { id: None, event_id_u64: None, event_type: frame.event, data: frame.data };
            self.control(&event);
            return Some(event);
        }
        let number = frame.id.parse::<u64>().ok();
        if let Some(id) = number.map(EventId) {
            if id <= self.cursor && !self.rewound {
                return None;
            }
            self.cursor = id;
            self.rewound = false;
            self.backoff = self.transport.timing().retry_first;
        }
        let id = (!frame.id.is_empty()).then_some(frame.id);
        Some(SseEvent { id, event_id_u64: number, event_type: frame.event, data: frame.data })
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
            _ => {
                self.rewound =
                    event.as_gap_detected().is_some_and(|gap| EventId(gap.newest_available_id) < self.cursor);
            }
        }
    }

    fn lost(&mut self, error: Option<EventStreamError<reqwest::Error>>) {
        let address = self.transport.address();
        let error = match error {
            None => ClientError::StreamClosed { address: address.to_owned() },
            Some(EventStreamError::Transport(error)) => ClientError::transport(address, error),
            // A cut inside a character looks like this too.
            Some(EventStreamError::Utf8(_) | EventStreamError::Parser(_)) => {
                ClientError::StreamInvalid { address: address.to_owned() }
            }
        };
        // A connection that held is no part of an earlier series of failures, even when it had nothing to tell.
        let timing = self.transport.timing();
        if matches!(&self.connection, Connection::Open { since, .. } if since.elapsed() > timing.retry_max) {
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
        tracing::debug!(session = %self.session, cursor = %self.cursor, ?wait, %error, "event stream reconnects");
        self.last_error = Some(error);
        self.connection = Connection::Waiting(Box::pin(sleep(wait)));
    }

    fn reopen(&self) -> BoxFuture<'static, Result<Frames, ClientError>> {
        let transport = Arc::clone(&self.transport);
        let (path, cursor) = (events_path(self.session), self.cursor.0);
        Box::pin(async move { transport.open_events_once(&path, cursor).await.map(frames) })
    }
}

fn events_path(session: SessionId) -> String {
    format!("sessions/{session}/events")
}

fn frames(response: reqwest::Response) -> Frames {
    response.bytes_stream().eventsource().boxed()
}
