//! Sessions: make, list, read.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use stakpak_agent_core::{NewSession, SessionQuery, SessionRow};
use stakpak_protocol::{
    CreateSessionRequest, ErrorBody, ErrorCode, Session, SessionDetail, SessionId, SessionList, SessionStatus,
};
use utoipa::IntoParams;

use crate::{
    ApiError, Server,
    extract::{Json, Path, Query},
    idempotency::{Begun, Keep, Key},
    validate,
};

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1_000;

/// Which sessions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Page size; 100 if absent, above 1000 counts as 1000.
    limit: Option<u64>,
    /// Matches to pass over.
    offset: Option<u64>,
    /// Part of the title, any case.
    search: Option<String>,
    /// `ACTIVE` (default), `DELETED` or `ALL`, any case.
    status: Option<String>,
}

/// Makes a session.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", security(("bearer_auth" = [])),
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
    let row = SessionRow::new(SessionId::random(), body.title, body.cwd, now);
    let session = as_seen(row.clone());
    let receipt = claim.receipt(StatusCode::CREATED, &session);
    server.agent().journal.create_session(NewSession { session: row, receipt }).await?;
    Ok((StatusCode::CREATED, axum::Json(session)).into_response())
}

/// Lists sessions, newest first.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", security(("bearer_auth" = [])), params(ListQuery), responses(
    (status = 200, body = SessionList),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn list(
    State(server): State<Server>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<SessionList>, ApiError> {
    let page = server
        .agent()
        .journal
        .sessions(SessionQuery {
            search: query.search,
            status: status_filter(query.status.as_deref())?,
            limit: query.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT),
            offset: query.offset.unwrap_or(0),
        })
        .await?;
    let sessions = page.sessions.into_iter().map(|row| as_seen(server.with_queue(row))).collect();
    Ok(axum::Json(SessionList { sessions, total: page.total }))
}

fn status_filter(status: Option<&str>) -> Result<Option<SessionStatus>, ApiError> {
    match status.map(str::to_ascii_uppercase).as_deref() {
        None | Some("ACTIVE") => Ok(Some(SessionStatus::Active)),
        Some("DELETED") => Ok(Some(SessionStatus::Deleted)),
        Some("ALL") => Ok(None),
        Some(_) => Err(ApiError::new(ErrorCode::InvalidQuery, "status: must be ACTIVE, DELETED or ALL")),
    }
}

/// Reads a session.
#[utoipa::path(get, path = "/v1/sessions/{session_id}", tag = "sessions", security(("bearer_auth" = [])),
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

impl Server {
    /// The session, deleted ones too.
    pub(super) async fn session(&self, id: SessionId) -> Result<SessionRow, ApiError> {
        let row = self.agent().journal.session(id).await?.ok_or_else(|| ApiError::session_not_found(id))?;
        Ok(self.with_queue(row))
    }
}

/// Messages that can be read: the history, and the system message in front once a run has begun.
pub(super) fn visible_messages(row: &SessionRow) -> u64 {
    row.message_count + u64::from(row.run_first_seq > 0)
}

fn as_seen(row: SessionRow) -> Session {
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
