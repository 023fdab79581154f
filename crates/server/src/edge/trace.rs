//! Every request has an id and a span with it, is counted, and an answer that is an error gets its body here, where the id is
//! known.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use stakpak_protocol::{ErrorCode, RequestId, SessionId};
use tracing::{Instrument, field::Empty, info_span};

use super::write_error;
use crate::{ApiError, Server};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Route of requests that no route takes.
const UNMATCHED: &str = "unmatched";

/// Routes of one session.
const SESSION_ROUTES: &str = "/v1/sessions/{session_id}";

pub(super) async fn trace(State(server): State<Option<Server>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::random();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or(UNMATCHED, |matched| template(matched.as_str()));
    let session = session(route, request.uri().path());
    let span = info_span!(
        "request",
        request_id = %id,
        %method,
        route,
        session_id = session.map(tracing::field::display),
        status = Empty,
        otel.status_code = Empty
    );
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).instrument(span.clone()).await;
    let _entered = span.enter();
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        log(&error);
        response = write_error(&response, *error.0, &id);
    }
    let status = response.status();
    span.record("status", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    tracing::debug!("request answered");
    if let Some(server) = server {
        server.counters().requested(route, &method, status, started.elapsed());
    }
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// What the request is about.
fn session(route: &str, path: &str) -> Option<SessionId> {
    route.starts_with(SESSION_ROUTES).then(|| path.split('/').nth(3)?.parse().ok()).flatten()
}

fn log(ApiError(error): &ApiError) {
    match &error.internal {
        Some(cause) => tracing::error!(code = error.code.as_str(), cause, "request failed"),
        None if error.code == ErrorCode::InternalError => tracing::error!(code = error.code.as_str(), "request failed"),
        None => tracing::info!(code = error.code.as_str(), "request refused"),
    }
}

/// A router that takes everything below a path has no templates of its own.
fn template(matched: &str) -> &str {
    matched.split("/{*").next().unwrap_or(matched)
}
