//! For those who operate the server: readiness and numbers.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use stakpak_protocol::{ErrorBody, ErrorCode, Ready};

use crate::{ApiError, Server, metrics};

/// Readiness: whether the server can do its work now. The journal is written to, at most once a second.
#[utoipa::path(get, path = "/v1/ready", tag = "about", responses(
    (status = 200, description = "Every part works, or is not used", body = Ready),
    (status = 503, description = "A part does not work; `checks` names it", body = Ready),
))]
pub(super) async fn ready(State(server): State<Server>) -> Response {
    let ready = server.ready().await;
    let status = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ready)).into_response()
}

/// Numbers in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "about", security(("bearer_auth" = [])), responses(
    (status = 200, content_type = "text/plain", body = String),
    (status = 401, body = ErrorBody),
    (status = 500, body = ErrorBody),
))]
pub(super) async fn metrics(State(server): State<Server>) -> Result<Response, ApiError> {
    let text = server.metrics().await.map_err(|error| {
        tracing::error!(%error, "the metrics cannot be written");
        ApiError::new(ErrorCode::InternalError, "unexpected error; the log has the request id")
    })?;
    Ok(([(header::CONTENT_TYPE, metrics::TEXT)], text).into_response())
}
