//! `/deliveries/{id}`: what became of a `POST /send`, and sending again what was given up.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, ErrorAnswer};
use crate::{
    clock::now_ms,
    runtime::Parts,
    store::{Delivery, PartState},
};

/// What became of a send.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryState)]
pub(super) struct DeliveryAnswer {
    delivery_id: String,
    /// `queued`, `sending`, `sent`, `unknown` or `failed`.
    state: &'static str,
    /// The platform's id of the first message.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    /// Why it is not sent, or was not at the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Where the run takes place.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
}

/// What became of a `POST send`.
#[utoipa::path(get, path = "/deliveries/{id}", operation_id = "get_delivery", tag = "gateway", security(("bearer_auth" = [])), params(("id" = String, Path)), responses(
    (status = 200, body = DeliveryAnswer),
    (status = 401, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 502, body = ErrorAnswer),
))]
pub(super) async fn get(
    State(parts): State<Arc<Parts>>,
    Path(id): Path<String>,
) -> Result<Json<DeliveryAnswer>, ApiError> {
    let delivery = find(&parts, &id).await?;
    Ok(Json(body(&id, &delivery)))
}

/// Sends again what of a delivery was given up or parked. A run that was refused with it is not started: the answer of the
/// request was final.
#[utoipa::path(post, path = "/deliveries/{id}/retry", operation_id = "retry_delivery", tag = "gateway", security(("bearer_auth" = [])), params(("id" = String, Path)), responses(
    (status = 202, body = DeliveryAnswer),
    (status = 401, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 502, body = ErrorAnswer),
))]
pub(super) async fn retry(
    State(parts): State<Arc<Parts>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<DeliveryAnswer>), ApiError> {
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

fn body(id: &str, delivery: &Delivery) -> DeliveryAnswer {
    DeliveryAnswer {
        delivery_id: id.to_owned(),
        state: state(&delivery.parts),
        message_id: delivery.parts.first().and_then(|part| part.message_id.clone()),
        error: reason(&delivery.parts).map(str::to_owned),
        session_id: delivery.session_id.clone(),
    }
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
