//! Runs: read, list, cancel, switch the model.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use stakpak_agent_core::{
    ModelTerms, SessionRow,
    session::{Reply, Request},
};
use stakpak_protocol::{
    CancelRequest, CancelResponse, ErrorBody, ErrorCode, Run, RunId, RunList, SessionId, SwitchModelRequest,
    SwitchModelResponse,
};
use utoipa::IntoParams;

use crate::{
    ApiError, Server,
    extract::{Json, Path, Query},
    idempotency::{Begun, Keep, Key},
    validate,
};

/// What one page of runs holds at most, and if nothing is said.
const MAX_LIMIT: usize = 1_000;

/// Ends the active run: durable, and its terminal event is out, when this answers.
#[utoipa::path(post, path = "/v1/sessions/{session_id}/cancel", operation_id = "cancel_run", tag = "runs", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters")),
    request_body = CancelRequest, responses(
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
    key: Key,
    Json(body): Json<CancelRequest>,
) -> Result<Response, ApiError> {
    let claim = match server.begin(key, &body, Keep::Day).await? {
        Begun::Replay(response) => return Ok(response),
        Begun::Go(claim) => claim,
    };
    server.writable_session(id).await?;
    let answer = |reply: &Reply| match reply {
        Reply::Cancelled(run_id) => Some(CancelResponse { cancelled: true, run_id: *run_id }),
        _ => None,
    };
    let response = server.ask(id, Request::Cancel { run_id: body.run_id }, claim, answer).await?;
    response.ok_or_else(ApiError::unexpected_reply)
}

/// Asks another model from the run's next request on; the session keeps it for later runs.
#[utoipa::path(post, path = "/v1/sessions/{session_id}/model", operation_id = "switch_model", tag = "runs", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters")),
    request_body = SwitchModelRequest, responses(
    (status = 200, body = SwitchModelResponse),
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
pub(super) async fn switch_model(
    State(server): State<Server>,
    Path(id): Path<SessionId>,
    key: Key,
    Json(body): Json<SwitchModelRequest>,
) -> Result<Response, ApiError> {
    let claim = match server.begin(key, &body, Keep::Day).await? {
        Begun::Replay(response) => return Ok(response),
        Begun::Go(claim) => claim,
    };
    let session = server.writable_session(id).await?;
    let (model, terms) = server.model_for_latest_run(&session, &body.model).await?;
    let answer = |reply: &Reply| match reply {
        Reply::Switched { run_id, model } => {
            Some(SwitchModelResponse { accepted: true, run_id: *run_id, model: model.clone() })
        }
        _ => None,
    };
    let request = Request::SwitchModel { run_id: body.run_id, model, terms };
    let response = server.ask(id, request, claim, answer).await?;
    response.ok_or_else(ApiError::unexpected_reply)
}

impl Server {
    /// The model's full id in the profile of the session's latest run, the only one that can be active, and what that run's
    /// limits need to know of it.
    async fn model_for_latest_run(&self, session: &SessionRow, name: &str) -> Result<(String, ModelTerms), ApiError> {
        let invalid = |error: &dyn std::fmt::Display| ApiError::new(ErrorCode::InvalidModel, format!("model: {error}"));
        let run = self.latest_run(session).await?;
        let profile = self.agent().profiles.profile(run.as_ref().map(|run| run.profile.as_str()));
        let profile = profile.map_err(|error| invalid(&error))?;
        let model = profile.models.resolve(name).map_err(|error| invalid(&error))?;
        let limits = run.map(|run| run.limits).unwrap_or_default();
        Ok((model.info().full_id(), validate::terms(model.info(), &limits, &profile.day)?))
    }
}

/// Reads a run.
#[utoipa::path(get, path = "/v1/sessions/{session_id}/runs/{run_id}", operation_id = "get_run", tag = "runs", security(("bearer_auth" = [])),
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
    }
    Ok(axum::Json(server.with_queued_state(run)))
}

/// Which runs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// `active`, also if absent: `queued`, `running` and `waiting_approval`.
    state: Option<String>,
    /// Page size; 1000 if absent, above 1000 counts as 1000.
    limit: Option<usize>,
    /// Matches to pass over.
    offset: Option<usize>,
}

/// Lists the active runs of all sessions, oldest first.
#[utoipa::path(get, path = "/v1/runs", operation_id = "list_runs", tag = "runs", security(("bearer_auth" = [])), params(ListQuery), responses(
    (status = 200, body = RunList),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn list(
    State(server): State<Server>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<RunList>, ApiError> {
    if query.state.is_some_and(|state| !state.eq_ignore_ascii_case("active")) {
        return Err(ApiError::new(ErrorCode::InvalidQuery, "state: must be active"));
    }
    let runs = server.agent().journal.active_runs().await?;
    let total = runs.len() as u64;
    let limit = query.limit.unwrap_or(MAX_LIMIT).min(MAX_LIMIT);
    let page = runs.into_iter().skip(query.offset.unwrap_or(0)).take(limit);
    let runs = page.map(|run| server.with_queued_state(run)).collect();
    Ok(axum::Json(RunList { runs, total }))
}
