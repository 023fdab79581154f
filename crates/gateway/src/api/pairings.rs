//! `/pairings`: who asks to be let in, and letting them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiError;
use crate::{Pairing, Role, runtime::Parts};

#[derive(Debug, Deserialize)]
pub(super) struct ApproveRequest {
    code: String,
    #[serde(default = "user")]
    role: Role,
}

#[derive(Debug, Deserialize)]
pub(super) struct DenyRequest {
    code: String,
}

fn user() -> Role {
    Role::User
}

pub(super) async fn list(State(parts): State<Arc<Parts>>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "pairings": parts.store.pairings().await? })))
}

pub(super) async fn approve(
    State(parts): State<Arc<Parts>>,
    body: Result<Json<ApproveRequest>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(ApproveRequest { code, role }) = body.map_err(|error| invalid(&error))?;
    let approved = parts.store.approve_pairing(&code, role).await?.ok_or_else(unknown)?;
    parts.deliveries.wake(&approved.address.chat_key());
    Ok(answer("approved", &approved.pairing, Some(role)))
}

pub(super) async fn deny(
    State(parts): State<Arc<Parts>>,
    body: Result<Json<DenyRequest>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(DenyRequest { code }) = body.map_err(|error| invalid(&error))?;
    let pairing = parts.store.deny_pairing(&code).await?.ok_or_else(unknown)?;
    Ok(answer("denied", &pairing, None))
}

fn answer(state: &str, pairing: &Pairing, role: Option<Role>) -> Json<Value> {
    let mut body = json!({ "channel": pairing.channel, "display": pairing.display_name, "state": state,
        "user_id": pairing.user_id });
    if let Some(role) = role {
        body["role"] = json!(role);
    }
    Json(body)
}

fn invalid(error: &JsonRejection) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", error.body_text())
}

fn unknown() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "code: wrong, used, or expired")
}
