//! What the server is: health, its API document, models, configuration.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use stakpak_protocol::{Config, ErrorBody, ErrorCode, Health, ModelsResponse};

use crate::{ApiError, Server};

/// Liveness: 200 while the process answers.
#[utoipa::path(get, path = "/v1/health", operation_id = "get_health", tag = "about", responses((status = 200, body = Health)))]
pub(super) async fn health(State(server): State<Server>) -> Json<Health> {
    let uptime = server.agent().clock.now() - server.started_at();
    Json(Health {
        status: "ok".to_owned(),
        version: server.version().to_owned(),
        uptime_seconds: u64::try_from(uptime.num_seconds()).unwrap_or(0),
    })
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", operation_id = "get_openapi", tag = "about", responses(
    (status = 200, description = "An OpenAPI 3.1 document", body = serde_json::Value),
))]
pub(super) async fn openapi_json(State(server): State<Server>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], server.document().to_owned()).into_response()
}

/// The models that runs can use, default first.
#[utoipa::path(get, path = "/v1/models", operation_id = "list_models", tag = "about", security(("bearer_auth" = [])), responses(
    (status = 200, body = ModelsResponse),
    (status = 401, body = ErrorBody),
    (status = 500, body = ErrorBody),
))]
pub(super) async fn models(State(server): State<Server>) -> Result<Json<ModelsResponse>, ApiError> {
    let profile = server.boot_profile()?;
    Ok(Json(ModelsResponse { models: profile.models.list() }))
}

/// The server's configuration as clients see it.
#[utoipa::path(get, path = "/v1/config", operation_id = "get_config", tag = "about", security(("bearer_auth" = [])), responses(
    (status = 200, body = Config),
    (status = 401, body = ErrorBody),
    (status = 500, body = ErrorBody),
))]
pub(super) async fn config(State(server): State<Server>) -> Result<Json<Config>, ApiError> {
    server.config().map(Json)
}

impl Server {
    pub(super) fn config(&self) -> Result<Config, ApiError> {
        let profile = self.boot_profile()?;
        Ok(Config { default_model: profile.models.default_model(), auto_approve_mode: profile.policy.mode() })
    }

    fn boot_profile(&self) -> Result<std::sync::Arc<stakpak_agent_core::Profile>, ApiError> {
        self.agent().profiles.profile(None).map_err(|error| {
            ApiError::new(ErrorCode::InternalError, format!("the server's profile is unusable: {error}"))
        })
    }
}
