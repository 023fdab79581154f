//! `/pairings`: who asks to be let in, and letting them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ApiError, ErrorAnswer};
use crate::{Pairing, Role, runtime::Parts};

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ApprovePairing)]
pub(super) struct ApproveRequest {
    code: String,
    /// `user` if absent.
    #[serde(default = "user")]
    role: Role,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DenyPairing)]
pub(super) struct DenyRequest {
    code: String,
}

/// Who asks to be let in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pairings)]
pub(super) struct ListAnswer {
    pairings: Vec<Pairing>,
}

/// What became of a code.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DecidedPairing)]
pub(super) struct Answer {
    channel: String,
    /// For people; chosen by its bearer.
    display: String,
    /// `approved` or `denied`.
    state: &'static str,
    user_id: String,
    /// What they may do now.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
}

fn user() -> Role {
    Role::User
}

/// Who asks to be let in, oldest first.
#[utoipa::path(get, path = "/pairings", operation_id = "list_pairings", tag = "gateway", security(("bearer_auth" = [])), responses(
    (status = 200, body = ListAnswer),
    (status = 401, body = ErrorAnswer),
    (status = 502, body = ErrorAnswer),
))]
pub(super) async fn list(State(parts): State<Arc<Parts>>) -> Result<Json<ListAnswer>, ApiError> {
    Ok(Json(ListAnswer { pairings: parts.store.pairings().await? }))
}

/// Lets in who was given this code.
#[utoipa::path(post, path = "/pairings/approve", operation_id = "approve_pairing", tag = "gateway", security(("bearer_auth" = [])), request_body = ApproveRequest, responses(
    (status = 200, body = Answer),
    (status = 400, body = ErrorAnswer),
    (status = 401, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 502, body = ErrorAnswer),
))]
pub(super) async fn approve(
    State(parts): State<Arc<Parts>>,
    body: Result<Json<ApproveRequest>, JsonRejection>,
) -> Result<Json<Answer>, ApiError> {
    let Json(ApproveRequest { code, role }) = body.map_err(|error| invalid(&error))?;
    let settled = parts.store.approve_pairing(&code, role).await?.ok_or_else(unknown)?;
    settled.chats.iter().for_each(|chat| parts.deliveries.wake(chat));
    Ok(answer("approved", &settled.pairing, Some(role)))
}

/// Keeps out who was given this code.
#[utoipa::path(post, path = "/pairings/deny", operation_id = "deny_pairing", tag = "gateway", security(("bearer_auth" = [])), request_body = DenyRequest, responses(
    (status = 200, body = Answer),
    (status = 400, body = ErrorAnswer),
    (status = 401, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 502, body = ErrorAnswer),
))]
pub(super) async fn deny(
    State(parts): State<Arc<Parts>>,
    body: Result<Json<DenyRequest>, JsonRejection>,
) -> Result<Json<Answer>, ApiError> {
    let Json(DenyRequest { code }) = body.map_err(|error| invalid(&error))?;
    let settled = parts.store.deny_pairing(&code).await?.ok_or_else(unknown)?;
    settled.chats.iter().for_each(|chat| parts.deliveries.wake(chat));
    Ok(answer("denied", &settled.pairing, None))
}

fn answer(state: &'static str, pairing: &Pairing, role: Option<Role>) -> Json<Answer> {
    Json(Answer {
        channel: pairing.channel.to_string(),
        display: pairing.display_name.clone(),
        state,
        user_id: pairing.user_id.clone(),
        role,
    })
}

fn invalid(error: &JsonRejection) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", error.body_text())
}

fn unknown() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "code: wrong, used, or expired")
}
