//! `/sessions`: which conversation has which session, and what a session does.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, ErrorAnswer};
use crate::{
    SessionMapping,
    runtime::Parts,
    store::{Page, SessionSighting},
};

/// Mappings that one answer lists.
const MOST: u32 = 1_000;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// 1 to 1,000, which it is if absent.
    #[serde(default)]
    limit: Option<u32>,
    /// Counted from the newest.
    #[serde(default)]
    offset: u32,
    /// Only those of this platform.
    #[serde(default)]
    channel: Option<String>,
}

/// A page of conversations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConversationsPage)]
pub(super) struct ListAnswer {
    sessions: Vec<Entry>,
}

/// A conversation and its session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conversation)]
struct Entry {
    routing_key: String,
    session_id: String,
    /// Where the last message came from.
    channel: String,
    /// The chat it was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_key: Option<String>,
    title: String,
    /// Unix ms of the last message.
    updated_at: i64,
}

/// Conversations with a session, newest first.
#[utoipa::path(get, path = "/sessions", operation_id = "list_conversations", tag = "gateway", security(("bearer_auth" = [])), params(ListQuery), responses(
    (status = 200, body = ListAnswer),
    (status = 400, body = ErrorAnswer),
    (status = 401, body = ErrorAnswer),
    (status = 502, body = ErrorAnswer),
))]

pub(super) async fn list(
    State(parts): State<Arc<Parts>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<ListAnswer>, ApiError> {
    let invalid = |message: String| ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", message);
    let Query(ListQuery { limit, offset, channel }) = query.map_err(|error| invalid(error.body_text()))?;
    let limit = limit.unwrap_or(MOST);
    if !(1..=MOST).contains(&limit) {
        return Err(invalid(format!("limit: must be from 1 to {MOST}")));
    }
    let mappings = parts.store.page(Page { limit, offset, channel }).await?;
    Ok(Json(ListAnswer { sessions: mappings.into_iter().map(Entry::of).collect() }))
}

/// What the session of a conversation does, and did last.
#[utoipa::path(get, path = "/sessions/{session_id}", operation_id = "get_conversation", tag = "gateway", security(("bearer_auth" = [])), params(("session_id" = String, Path)), responses(
    (status = 200, body = SessionSighting),
    (status = 401, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 502, body = ErrorAnswer),
))]
pub(super) async fn get(
    State(parts): State<Arc<Parts>>,
    Path(session_id): Path<String>,
) -> Result<Json<SessionSighting>, ApiError> {
    parts.store.sighting(&session_id).await?.map(Json).ok_or_else(|| {
        let message = "no conversation has this session";
        ApiError::new(StatusCode::NOT_FOUND, "session_not_found", message)
    })
}

impl Entry {
    fn of(mapping: SessionMapping) -> Self {
        Self {
            routing_key: mapping.routing_key,
            session_id: mapping.session_id,
            channel: mapping.channel.to_string(),
            target_key: mapping.channel_meta["target_key"].as_str().map(str::to_owned),
            title: mapping.title,
            updated_at: mapping.updated_at,
        }
    }
}
