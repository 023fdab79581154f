//! `/deliveries/{id}`: what became of a `POST /send`, and sending again what was given up.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Value, json};

use super::ApiError;
use crate::{
    clock::now_ms,
    runtime::Parts,
    store::{Delivery, PartState},
};

pub(super) async fn get(State(parts): State<Arc<Parts>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let delivery = find(&parts, &id).await?;
    Ok(Json(body(&id, &delivery)))
}

pub(super) async fn retry(
    State(parts): State<Arc<Parts>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let Some(lane) = parts.store.retry_delivery(&id, now_ms()).await? else { return Err(unknown()) };
    parts.deliveries.wake(&lane);
    let delivery = find(&parts, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(body(&id, &delivery))))
}

pub(super) async fn find(parts: &Parts, id: &str) -> Result<Delivery, ApiError> {
    parts.store.delivery(id).await?.ok_or_else(unknown)
}

fn unknown() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such delivery, or it is older than a week")
}

fn body(id: &str, delivery: &Delivery) -> Value {
    let mut body = json!({ "delivery_id": id, "state": state(&delivery.parts) });
    if let Some(message_id) = delivery.parts.first().and_then(|part| part.message_id.as_deref()) {
        body["message_id"] = message_id.into();
    }
    if let Some(error) = reason(&delivery.parts) {
        body["error"] = error.into();
    }
    if let Some(session_id) = &delivery.session_id {
        body["session_id"] = session_id.as_str().into();
    }
    body
}

/// One word for all messages of a delivery: the worst of those that have ended, unless some have not.
pub(super) fn state(parts: &[PartState]) -> &'static str {
    let any = |states: &[&str]| parts.iter().any(|part| states.contains(&part.state.as_str()));
    match () {
        () if any(&["failed", "dropped"]) => "failed",
        () if any(&["sending"]) => "sending",
        () if any(&["queued"]) => "queued",
        () if any(&["unknown"]) => "unknown",
        () => "sent",
    }
}

/// Why a message is not sent, or was not at the last attempt.
pub(super) fn reason(parts: &[PartState]) -> Option<&str> {
    let failed = parts.iter().filter(|part| matches!(part.state.as_str(), "failed" | "dropped"));
    failed.chain(parts).find_map(|part| part.error.as_deref().filter(|_| part.state != "sent"))
}
