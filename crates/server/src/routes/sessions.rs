//! Sessions: make, read, change, delete.

use std::time::Duration;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use stakpak_agent_core::{
    NewSession, SessionRow,
    session::{Refusal, Reply, Request},
};
use stakpak_protocol::{
    CreateSessionRequest, ErrorBody, Session, SessionDetail, SessionId, SessionStatus, UpdateSessionRequest,
};

use crate::{
    ApiError, Server,
    extract::{Json, Path},
    idempotency::{Begun, Keep, Key},
    validate,
};

/// How long a deletion waits for a stream that takes nothing.
const STREAM_END: Duration = Duration::from_secs(1);

/// Makes a session.
#[utoipa::path(post, path = "/v1/sessions", operation_id = "create_session", tag = "sessions", security(("bearer_auth" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters")),
    request_body = CreateSessionRequest, responses(
    (status = 201, body = Session),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 408, body = ErrorBody),
    (status = 409, body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn create(
    State(server): State<Server>,
    key: Key,
    Json(body): Json<CreateSessionRequest>,
) -> Result<Response, ApiError> {
    let claim = match server.begin(key, &body, Keep::Day).await? {
        Begun::Replay(response) => return Ok(response),
        Begun::Go(claim) => claim,
    };
    validate::title(&body.title)?;
    if let Some(cwd) = &body.cwd {
        validate::cwd(cwd)?;
    }
    let now = server.agent().clock.now();
    let id = SessionId::random();
    let title = server.agent().secrets.hide(id, body.title).await;
    let row = SessionRow::new(id, title, body.cwd, now);
    let session = as_seen(row.clone());
    let receipt = claim.receipt(StatusCode::CREATED, &session);
    server.agent().journal.create_session(NewSession { session: row, receipt }).await?;
    Ok((StatusCode::CREATED, axum::Json(session)).into_response())
}

/// Reads a session.
#[utoipa::path(get, path = "/v1/sessions/{session_id}", operation_id = "get_session", tag = "sessions", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path)), responses(
    (status = 200, body = SessionDetail),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn get(
    State(server): State<Server>,
    Path(id): Path<SessionId>,
) -> Result<axum::Json<SessionDetail>, ApiError> {
    let session = as_seen(server.session(id).await?);
    Ok(axum::Json(SessionDetail { session, config: server.config()? }))
}

/// Changes title and visibility; what is absent stays. `{}` changes nothing.
#[utoipa::path(patch, path = "/v1/sessions/{session_id}", operation_id = "update_session", tag = "sessions", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters")),
    request_body = UpdateSessionRequest, responses(
    (status = 200, body = SessionDetail),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 408, body = ErrorBody),
    (status = 409, body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
    (status = 500, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn update(
    State(server): State<Server>,
    Path(id): Path<SessionId>,
    key: Key,
    Json(body): Json<UpdateSessionRequest>,
) -> Result<Response, ApiError> {
    let claim = match server.begin(key, &body, Keep::Day).await? {
        Begun::Replay(response) => return Ok(response),
        Begun::Go(claim) => claim,
    };
    server.writable_session(id).await?;
    if let Some(title) = &body.title {
        validate::title(title)?;
    }
    let (config, now) = (server.config()?, server.clone());
    let answer = move |reply: &Reply| match reply {
        Reply::Changed(row) => {
            let session = as_seen(now.with_queue(SessionRow::clone(row)));
            Some(SessionDetail { session, config: config.clone() })
        }
        _ => None,
    };
    let request = Request::Change { title: body.title, visibility: body.visibility };
    let detail = server.ask(id, request, claim, answer).await?;
    detail.ok_or_else(ApiError::unexpected_reply)
}

/// Ends the active run and deletes the session. Its run and its tasks have ended and its streams are closed when this answers; it can be
/// read until it is purged. Deleting again changes nothing.
#[utoipa::path(delete, path = "/v1/sessions/{session_id}", operation_id = "delete_session", tag = "sessions", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters")), responses(
    (status = 204),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody),
    (status = 500, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn delete(
    State(server): State<Server>,
    Path(id): Path<SessionId>,
    key: Key,
) -> Result<Response, ApiError> {
    let claim = match server.begin(key, &(), Keep::Day).await? {
        Begun::Replay(response) => return Ok(response),
        Begun::Go(claim) => claim,
    };
    server.session(id).await?;
    server.live().request(id, Request::Delete, claim.into_empty_receipt()).await?;
    if let Err(error) = server.agent().tools.end_session(id).await {
        tracing::warn!(session_id = %id, %error, "tasks of a deleted session do not end");
    }
    server.hub().emptied(id, STREAM_END).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Server {
    /// The session, deleted ones too.
    pub(super) async fn session(&self, id: SessionId) -> Result<SessionRow, ApiError> {
        let row = self.agent().journal.session(id).await?.ok_or_else(|| ApiError::session_not_found(id))?;
        Ok(self.with_queue(row))
    }

    /// The session, unless it is deleted.
    pub(super) async fn writable_session(&self, id: SessionId) -> Result<SessionRow, ApiError> {
        let session = self.session(id).await?;
        if session.status == SessionStatus::Deleted { Err(Refusal::Deleted.into()) } else { Ok(session) }
    }
}

/// Messages that can be read: the history, and the system message in front once a run has begun.
pub(super) fn visible_messages(row: &SessionRow) -> u64 {
    row.message_count + u64::from(row.run_first_seq > 0)
}

pub(super) fn as_seen(row: SessionRow) -> Session {
    let message_count = visible_messages(&row);
    Session {
        id: row.id,
        title: row.title,
        cwd: row.cwd,
        created_at: row.created_at,
        updated_at: row.updated_at,
        run_status: row.run_status,
        status: row.status,
        visibility: row.visibility,
        model: row.model,
        message_count,
        last_event_id: row.last_event_id,
        checkpoint_id: row.checkpoint_id,
    }
}
