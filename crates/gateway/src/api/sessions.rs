//! `/sessions`: which conversation has which session, and what a session does.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiError;
use crate::{
    SessionMapping,
    runtime::Parts,
    store::{Page, SessionSighting},
};

/// Mappings that one answer lists.
const MOST: u32 = 1_000;

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    offset: u32,
    #[serde(default)]
    channel: Option<String>,
}

pub(super) async fn list(
    State(parts): State<Arc<Parts>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let invalid = |message: String| ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", message);
    let Query(ListQuery { limit, offset, channel }) = query.map_err(|error| invalid(error.body_text()))?;
    let limit = limit.unwrap_or(MOST);
    if !(1..=MOST).contains(&limit) {
        return Err(invalid(format!("limit: must be from 1 to {MOST}")));
    }
    let mappings = parts.store.page(Page { limit, offset, channel }).await?;
    Ok(Json(json!({ "sessions": mappings.iter().map(entry).collect::<Vec<_>>() })))
}

pub(super) async fn get(
    State(parts): State<Arc<Parts>>,
    Path(session_id): Path<String>,
) -> Result<Json<SessionSighting>, ApiError> {
    parts.store.sighting(&session_id).await?.map(Json).ok_or_else(|| {
        let message = "no conversation has this session";
        ApiError::new(StatusCode::NOT_FOUND, "session_not_found", message)
    })
}

fn entry(mapping: &SessionMapping) -> Value {
    json!({
        "routing_key": mapping.routing_key,
        "session_id": mapping.session_id,
        "channel": mapping.channel,
        "target_key": mapping.channel_meta["target_key"],
        "title": mapping.title,
        "updated_at": mapping.updated_at,
    })
}
