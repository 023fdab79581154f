//! The event stream.

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Deserialize;
use stakpak_protocol::{ErrorBody, EventId, RequestId, SessionId};
use utoipa::IntoParams;

use crate::{
    ApiError, Server,
    events::Reader,
    extract::{Path, Query},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Send every event with a larger id, then go on live. Absent: live only.
    after: Option<u64>,
}

/// Events of a session as server-sent events: everything after the cursor, then live, over many runs.
///
/// Each frame has `id`, `event` (the snake_case name) and one line of `data`, an `EventEnvelope` in ASCII JSON. Frames without
/// `id` (`gap_detected`, `server_shutdown`, `session_deleted`) do not move the cursor. A comment every 15 s of silence keeps
/// the connection alive.
#[utoipa::path(get, path = "/v1/sessions/{session_id}/events", operation_id = "stream_events", tag = "events", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path), EventsQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "Cursor; wins over `after`")), responses(
    (status = 200, content_type = "text/event-stream", body = String),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn stream(
    State(server): State<Server>,
    Path(id): Path<SessionId>,
    Query(query): Query<EventsQuery>,
    request: Option<Extension<RequestId>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let header = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let after = header.or(query.after).map(EventId);
    let reader = Reader::open(server.hub(), server.agent().journal.clone(), id, after).await?;
    let reader = reader.asked_by(request.map(|Extension(id)| id));
    let frames = stream::unfold(reader, |mut reader| async move {
        let frame = reader.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), reader))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(frames)).into_response())
}
