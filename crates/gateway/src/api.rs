//! The HTTP API: state for people and programs, and texts that programs send.
//!
//! Its errors have an envelope of their own: `{"error": "<code>", "message": "<text>"}`.

mod approvals;
mod deliveries;
mod document;
mod outbox;
mod pairings;
mod send;
mod sessions;

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

pub use self::document::openapi;
pub(crate) use self::send::Turns;
use crate::{
    ChannelStatus, StoreError,
    runtime::Parts,
    store::{QueueCounts, Stranger},
};

pub(crate) fn router(parts: Arc<Parts>) -> Router {
    let protected = Router::new()
        .route("/channels", get(channels))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{session_id}", get(sessions::get))
        .route("/send", post(send::send).layer(DefaultBodyLimit::max(send::MAX_BODY)))
        .route("/deliveries/{id}", get(deliveries::get))
        .route("/deliveries/{id}/retry", post(deliveries::retry))
        .route("/approvals", get(approvals::list))
        .route("/approvals/{id}", post(approvals::decide))
        .route("/pairings", get(pairings::list))
        .route("/pairings/approve", post(pairings::approve))
        .route("/pairings/deny", post(pairings::deny))
        .route("/outbox/{id}/retry", post(outbox::retry))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&parts), require_token));
    Router::new()
        .route("/status", get(status))
        .merge(protected)
        .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such path") })
        .with_state(parts)
}

/// An answer that is not 2xx, as it is sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayError)]
pub(crate) struct ErrorAnswer {
    /// What programs go by.
    error: &'static str,
    /// For people.
    message: String,
}

/// An answer that is not 2xx.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// When to try again, in seconds.
    retry_after: Option<u32>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorAnswer { error: self.code, message: self.message })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the gateway store failed");
        Self::new(StatusCode::BAD_GATEWAY, "session_lookup_failed", "the gateway's store cannot be used; see its log")
    }
}

/// A blank token leaves the routes open: then the gateway listens on loopback only, which its host sees to.
async fn require_token(State(parts): State<Arc<Parts>>, request: Request, next: Next) -> Response {
    let expected = parts.config.server.token.expose();
    if expected.is_empty() || bearer(&request).is_some_and(|token| same(token, expected)) {
        return next.run(request).await;
    }
    let mut refused =
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is needed").into_response();
    refused.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    refused
}

fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// Digests are compared, so the time does not depend on where two tokens differ.
fn same(token: &str, expected: &str) -> bool {
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    digest(token).as_slice().ct_eq(digest(expected).as_slice()).into()
}

/// How the gateway goes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayStatus)]
struct StatusAnswer {
    /// `ok`, or `degraded` while the store cannot be written.
    status: &'static str,
    /// Configured channels.
    channels: usize,
    /// Conversations with a session.
    active_sessions: i64,
    uptime_seconds: u64,
    /// Runs that have not ended. This and the following: with the token only.
    #[serde(skip_serializing_if = "Option::is_none")]
    active_runs: Option<i64>,
    /// Messages that have not become runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    inbox_pending: Option<i64>,
    /// Texts to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox_pending: Option<i64>,
    /// Texts that may or may not have been sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox_unknown: Option<i64>,
    /// Texts the platform refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox_failed: Option<i64>,
    /// Requests that wait for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    approvals_pending: Option<i64>,
}

/// The gateway's state; more of it with the token.
#[utoipa::path(get, path = "/status", operation_id = "get_gateway_status", tag = "gateway", responses(
    (status = 200, body = StatusAnswer),
    (status = 502, body = ErrorAnswer),
))]
async fn status(State(parts): State<Arc<Parts>>, request: Request) -> Result<Json<StatusAnswer>, ApiError> {
    let expected = parts.config.server.token.expose();
    let may_know_more = expected.is_empty() || bearer(&request).is_some_and(|token| same(token, expected));
    let queues = if may_know_more { Some(parts.store.queue_counts().await?) } else { None };
    let of = |size: fn(&QueueCounts) -> i64| queues.as_ref().map(size);
    Ok(Json(StatusAnswer {
        status: if parts.store_failing.load(Ordering::Relaxed) { "degraded" } else { "ok" },
        channels: parts.channels.len(),
        active_sessions: parts.store.session_count().await?,
        uptime_seconds: parts.started.elapsed().as_secs(),
        active_runs: of(|queues| queues.active_runs),
        inbox_pending: of(|queues| queues.inbox_pending),
        outbox_pending: of(|queues| queues.outbox_pending),
        outbox_unknown: of(|queues| queues.outbox_unknown),
        outbox_failed: of(|queues| queues.outbox_failed),
        approvals_pending: of(|queues| queues.approvals_pending),
    }))
}

/// The platforms.
#[derive(Debug, Serialize, ToSchema)]
struct ChannelsAnswer {
    channels: Vec<ChannelEntry>,
}

/// A platform and how it goes.
#[derive(Debug, Serialize, ToSchema)]
struct ChannelEntry {
    id: String,
    name: String,
    status: ChannelStatus,
    /// The bot's name, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    /// When the state began, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    /// When the platform last sent an event, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_event_at: Option<i64>,
    /// Why it is degraded, failed or disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// Who was turned away.
    #[serde(skip_serializing_if = "Option::is_none")]
    strangers: Option<Vec<Stranger>>,
}

/// The platforms and how each goes.
#[utoipa::path(get, path = "/channels", operation_id = "list_channels", tag = "gateway", security(("bearer_auth" = [])), responses(
    (status = 200, body = ChannelsAnswer),
    (status = 401, body = ErrorAnswer),
    (status = 502, body = ErrorAnswer),
))]
async fn channels(State(parts): State<Arc<Parts>>) -> Result<Json<ChannelsAnswer>, ApiError> {
    let strangers = parts.store.strangers().await?;
    let running = parts.channels.iter().map(|channel| {
        let (id, health) = (channel.id(), channel.health());
        ChannelEntry {
            name: channel.display_name().to_owned(),
            status: health.status,
            identity: health.identity,
            since: Some(health.since),
            last_event_at: health.last_event_at,
            last_error: health.last_error,
            strangers: Some(strangers.iter().filter(|stranger| stranger.channel == id.as_str()).cloned().collect()),
            id: id.to_string(),
        }
    });
    let disabled = parts.config.channels.disabled.iter().map(|(name, finding)| ChannelEntry {
        id: (*name).to_string(),
        name: (*name).to_string(),
        status: ChannelStatus::Disabled,
        identity: None,
        since: None,
        last_event_at: None,
        last_error: Some(finding.to_string()),
        strangers: None,
    });
    Ok(Json(ChannelsAnswer { channels: running.chain(disabled).collect() }))
}
