//! `/outbox`: messages that were parked, sent again at the operator's word.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, ErrorAnswer};
use crate::runtime::Parts;

/// A message that is sent again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetriedMessage)]
pub(super) struct Answer {
    id: i64,
    /// `queued`.
    state: &'static str,
}

/// Sends a parked message again.
#[utoipa::path(post, path = "/outbox/{id}/retry", operation_id = "retry_message", tag = "gateway", security(("bearer_auth" = [])), params(("id" = i64, Path)), responses(
    (status = 202, body = Answer),
    (status = 401, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 502, body = ErrorAnswer),
))]
pub(super) async fn retry(
    State(parts): State<Arc<Parts>>,
    Path(id): Path<i64>,
) -> Result<(StatusCode, Json<Answer>), ApiError> {
    let Some(lane) = parts.store.retry_undelivered(id).await? else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", "id: no such message is parked"));
    };
    parts.deliveries.wake(&lane);
    Ok((StatusCode::ACCEPTED, Json(Answer { id, state: "queued" })))
}
