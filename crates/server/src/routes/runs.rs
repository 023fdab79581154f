//! Runs: read, cancel.

use std::sync::Arc;

use axum::extract::State;
use stakpak_agent_core::session::Request;
use stakpak_protocol::{
    CancelRequest, CancelResponse, ErrorBody, ErrorCode, Run, RunId, RunState, RunStatus, SessionId,
};

use crate::{
    ApiError, Server,
    extract::{Json, Path},
};

/// Ends the active run: durable, and its terminal event is out, when this answers.
#[utoipa::path(post, path = "/v1/sessions/{session_id}/cancel", tag = "runs", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path)), request_body = CancelRequest, responses(
    (status = 200, body = CancelResponse),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 408, body = ErrorBody),
    (status = 409, body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn cancel(
    State(server): State<Server>,
    Path(id): Path<SessionId>,
    Json(body): Json<CancelRequest>,
) -> Result<axum::Json<CancelResponse>, ApiError> {
    server.session(id).await?;
    let request = Request::Cancel { run_id: body.run_id };
    server.live().request(id, request, Arc::new(|_| None)).await?;
    Ok(axum::Json(CancelResponse { cancelled: true, run_id: body.run_id }))
}

/// Reads a run.
#[utoipa::path(get, path = "/v1/sessions/{session_id}/runs/{run_id}", tag = "runs", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path), ("run_id" = RunId, Path)), responses(
    (status = 200, body = Run),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn get(
    State(server): State<Server>,
    Path((id, run_id)): Path<(SessionId, RunId)>,
) -> Result<axum::Json<Run>, ApiError> {
    let session = server.session(id).await?;
    let run = server.agent().journal.run(id, run_id).await?;
    let mut run =
        run.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("run {run_id} does not exist in session {id}")))?;
    if !run.state.is_terminal() {
        run.last_event_id = session.last_event_id;
        if matches!(session.run_status, RunStatus::Starting { .. }) {
            run.state = RunState::Queued;
        }
    }
    Ok(axum::Json(run))
}
