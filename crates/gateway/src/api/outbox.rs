//! `/outbox`: messages that were parked, sent again at the operator's word.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Value, json};

use super::ApiError;
use crate::runtime::Parts;

pub(super) async fn retry(
    State(parts): State<Arc<Parts>>,
    Path(id): Path<i64>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let Some(lane) = parts.store.retry_undelivered(id).await? else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", "id: no such message is parked"));
    };
    parts.deliveries.wake(&lane);
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id, "state": "queued" }))))
}
