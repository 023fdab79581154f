//! The list of sessions, page by page.
//!
//! `next` is a token: what was asked for, and the journal's cursor. It needs no memory here and outlives a restart.

use axum::extract::State;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use stakpak_agent_core::{SessionCursor, SessionQuery};
use stakpak_protocol::{ErrorBody, ErrorCode, SessionList, SessionStatus};
use utoipa::IntoParams;

use super::sessions::as_seen;
use crate::{ApiError, Server, extract::Query};

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1_000;

/// Which sessions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Page size; 100 if absent, above 1000 counts as 1000.
    limit: Option<u64>,
    /// Matches to pass over; no meaning together with `page`.
    offset: Option<u64>,
    /// Part of the title, any case.
    search: Option<String>,
    /// `ACTIVE` (default), `DELETED` or `ALL`, any case.
    status: Option<String>,
    /// `next` of the page before. Search, status and limit are those of the first page unless they are given.
    page: Option<String>,
}

/// Lists sessions, newest first.
#[utoipa::path(get, path = "/v1/sessions", operation_id = "list_sessions", tag = "sessions", security(("bearer_auth" = [])), params(ListQuery), responses(
    (status = 200, body = SessionList),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn list(
    State(server): State<Server>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<SessionList>, ApiError> {
    let status = query.status.as_deref().map(status_filter).transpose()?;
    let (mut listing, cursor) = match &query.page {
        None => (Listing::default(), None),
        Some(page) => Listing::parse(page).map(|(listing, cursor)| (listing, Some(cursor))).ok_or_else(bad_page)?,
    };
    listing.limit = query.limit.unwrap_or(listing.limit).min(MAX_LIMIT);
    listing.status = status.unwrap_or(listing.status);
    listing.search = query.search.or(listing.search);
    let found = SessionQuery {
        search: listing.search.clone(),
        status: listing.status,
        limit: listing.limit,
        offset: query.offset.unwrap_or(0),
        cursor,
    };
    let page = server.agent().journal.sessions(found).await?;
    let sessions = page.sessions.into_iter().map(|row| as_seen(server.with_queue(row))).collect();
    let next = page.next.as_ref().map(|cursor| listing.token(cursor));
    Ok(axum::Json(SessionList { sessions, total: page.total, next }))
}

/// None: all.
fn status_filter(status: &str) -> Result<Option<SessionStatus>, ApiError> {
    match status.to_ascii_uppercase().as_str() {
        "ACTIVE" => Ok(Some(SessionStatus::Active)),
        "DELETED" => Ok(Some(SessionStatus::Deleted)),
        "ALL" => Ok(None),
        _ => Err(ApiError::new(ErrorCode::InvalidQuery, "status: must be ACTIVE, DELETED or ALL")),
    }
}

fn bad_page() -> ApiError {
    ApiError::new(ErrorCode::InvalidQuery, "page: must be the `next` of an earlier page; leave it out to begin anew")
}

/// What the pages of one listing have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Listing {
    limit: u64,
    status: Option<SessionStatus>,
    search: Option<String>,
}

impl Default for Listing {
    fn default() -> Self {
        Self { limit: DEFAULT_LIMIT, status: Some(SessionStatus::Active), search: None }
    }
}

impl Listing {
    /// One line of JSON, then the cursor.
    fn token(&self, SessionCursor(cursor): &SessionCursor) -> String {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(cursor);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    fn parse(token: &str) -> Option<(Self, SessionCursor)> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        Some((serde_json::from_slice(&bytes[..end]).ok()?, SessionCursor(bytes[end + 1..].to_vec())))
    }
}
