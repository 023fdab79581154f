//! The HTTP API: state for people and programs, and texts that programs send.
//!
//! Its errors have an envelope of their own: `{"error": "<code>", "message": "<text>"}`.

mod approvals;
mod deliveries;
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
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub(crate) use self::send::Turns;
use crate::{StoreError, runtime::Parts};

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
        let mut response = (self.status, Json(json!({ "error": self.code, "message": self.message }))).into_response();
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

async fn status(State(parts): State<Arc<Parts>>, request: Request) -> Result<Json<Value>, ApiError> {
    let mut body = json!({
        "status": if parts.store_failing.load(Ordering::Relaxed) { "degraded" } else { "ok" },
        "channels": parts.channels.len(),
        "active_sessions": parts.store.session_count().await?,
        "uptime_seconds": parts.started.elapsed().as_secs(),
    });
    let expected = parts.config.server.token.expose();
    if expected.is_empty() || bearer(&request).is_some_and(|token| same(token, expected)) {
        let counts = serde_json::to_value(parts.store.queue_counts().await?).unwrap_or_default();
        if let (Some(body), Value::Object(counts)) = (body.as_object_mut(), counts) {
            body.extend(counts);
        }
    }
    Ok(Json(body))
}

async fn channels(State(parts): State<Arc<Parts>>) -> Result<Json<Value>, ApiError> {
    let strangers = parts.store.strangers().await?;
    let mut channels = Vec::new();
    for channel in &parts.channels {
        let id = channel.id();
        let mut entry = serde_json::to_value(channel.health()).unwrap_or_default();
        entry["id"] = json!(id);
        entry["name"] = json!(channel.display_name());
        entry["strangers"] = strangers
            .iter()
            .filter(|stranger| stranger.channel == id.as_str())
            .map(|stranger| json!(stranger))
            .collect();
        channels.push(entry);
    }
    for (name, finding) in &parts.config.channels.disabled {
        channels.push(json!({ "id": name, "name": name, "status": "disabled", "last_error": finding.to_string() }));
    }
    Ok(Json(json!({ "channels": channels })))
}
