//! Tool calls that wait for a person, and decisions about them.

use std::collections::BTreeMap;

use axum::{Extension, extract::State, response::Response};
use stakpak_agent_core::{
    Resident,
    session::{Call, Reply, Request},
};
use stakpak_protocol::{
    DecisionOutcome, DecisionRequest, DecisionsRequest, DecisionsResponse, ErrorBody, ErrorCode, PendingToolsResponse,
    RunStatus, SessionId, ToolCallId, ToolDecision, ToolDecisionAction,
};

use crate::{
    ApiError, Server,
    auth::Caller,
    extract::{Json, Path},
    idempotency::{Begun, Claim, Keep, Key},
};

/// Calls that wait for a person.
#[utoipa::path(get, path = "/v1/sessions/{session_id}/tools/pending", operation_id = "list_pending_tools", tag = "tools", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path)), responses(
    (status = 200, body = PendingToolsResponse),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn pending(
    State(server): State<Server>,
    Path(id): Path<SessionId>,
) -> Result<axum::Json<PendingToolsResponse>, ApiError> {
    let session = server.session(id).await?;
    let none = PendingToolsResponse { run_id: None, tool_calls: Vec::new() };
    if !matches!(session.run_status, RunStatus::Running { pending_tool_calls: Some(_), .. }) {
        return Ok(axum::Json(none));
    }
    let resident = Resident::open(server.agent().journal.as_ref(), id).await?;
    let waiting = resident.session().active().map(|run| PendingToolsResponse {
        run_id: Some(run.accepted.run_id),
        tool_calls: run.waiting_calls().map(Call::proposed).collect(),
    });
    Ok(axum::Json(waiting.filter(|pending| !pending.tool_calls.is_empty()).unwrap_or(none)))
}

/// Decides about one call.
#[utoipa::path(post, path = "/v1/sessions/{session_id}/tools/{tool_call_id}/decision", operation_id = "decide_tool_call", tag = "tools",
    security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path), ("tool_call_id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters")),
    request_body = DecisionRequest, responses(
    (status = 200, body = DecisionsResponse),
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
pub(super) async fn decide_one(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    Path((id, call)): Path<(SessionId, String)>,
    key: Key,
    Json(body): Json<DecisionRequest>,
) -> Result<Response, ApiError> {
    let call = ToolCallId(call);
    let body = DecisionsRequest { run_id: body.run_id, decisions: BTreeMap::from([(call.clone(), body.decision)]) };
    let claim = match server.begin(key, &body, Keep::Day).await? {
        Begun::Replay(response) => return Ok(response),
        Begun::Go(claim) => claim,
    };
    let known = move |response: &DecisionsResponse| response.results.get(&call) != Some(&DecisionOutcome::Unknown);
    let response = server.decide(id, body, caller, claim, known).await?;
    let not_found = || ApiError::new(ErrorCode::NotFound, "this tool call is not part of the run");
    response.ok_or_else(not_found)
}

/// Decides about any number of calls, in any order. Nothing a decision says can fail the run.
#[utoipa::path(post, path = "/v1/sessions/{session_id}/tools/decisions", operation_id = "decide_tool_calls", tag = "tools", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters")),
    request_body = DecisionsRequest, responses(
    (status = 200, body = DecisionsResponse),
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
pub(super) async fn decide(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SessionId>,
    key: Key,
    Json(body): Json<DecisionsRequest>,
) -> Result<Response, ApiError> {
    let claim = match server.begin(key, &body, Keep::Day).await? {
        Begun::Replay(response) => return Ok(response),
        Begun::Go(claim) => claim,
    };
    let response = server.decide(id, body, caller, claim, |_| true).await?;
    response.ok_or_else(ApiError::unexpected_reply)
}

impl Server {
    /// None when the answer is not `wanted`: it is then no success, and its key stays free.
    async fn decide(
        &self,
        id: SessionId,
        body: DecisionsRequest,
        Caller(by): Caller,
        claim: Claim,
        wanted: impl Fn(&DecisionsResponse) -> bool + Send + Sync + 'static,
    ) -> Result<Option<Response>, ApiError> {
        self.writable_session(id).await?;
        for (call, decision) in &body.decisions {
            check(call, decision)?;
        }
        let answer = move |reply: &Reply| match reply {
            Reply::Decided(response) => Some(response.clone()).filter(&wanted),
            _ => None,
        };
        let request = Request::Decide { run_id: body.run_id, decisions: body.decisions, by: by.to_string() };
        self.ask(id, request, claim, answer).await
    }
}

fn check(call: &ToolCallId, decision: &ToolDecision) -> Result<(), ApiError> {
    if decision.action == ToolDecisionAction::CustomResult && decision.content.is_none() {
        return Err(ApiError::new(
            ErrorCode::InvalidRequest,
            format!("decisions.{call}.content: a custom_result needs it"),
        ));
    }
    if decision.scope == Some(stakpak_protocol::DecisionScope::Session) {
        return Err(ApiError::new(
            ErrorCode::InvalidRequest,
            format!("decisions.{call}.scope: `session` is not supported by this version; use `once`"),
        ));
    }
    Ok(())
}
