//! One file per group of routes; here they become one router and one OpenAPI document.

mod about;
mod docs;
mod events;
mod listing;
mod messages;
mod operations;
mod runs;
mod sessions;
mod tools;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    handler::Handler,
    middleware,
    routing::{get, post},
};
use stakpak_protocol::ErrorCode;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, Ref, Response, ResponseBuilder,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::{ApiError, Server, auth::require_token, fields::name_ignored};

/// All routes, without the edge that [`crate::edge::wrap`] puts around them.
pub fn router(server: &Server) -> Router {
    let session = "/v1/sessions/{session_id}";
    let limits = server.limits();
    let protected = Router::new()
        .route("/v1/sessions", get(listing::list).post(sessions::create))
        .route(session, get(sessions::get).patch(sessions::update).delete(sessions::delete))
        .route(
            &format!("{session}/messages"),
            get(messages::list).post(messages::post.layer(DefaultBodyLimit::max(limits.message_body))),
        )
        .route(&format!("{session}/events"), get(events::stream))
        .route(&format!("{session}/tools/pending"), get(tools::pending))
        .route(&format!("{session}/tools/{{tool_call_id}}/decision"), post(tools::decide_one))
        .route(&format!("{session}/tools/decisions"), post(tools::decide))
        .route(&format!("{session}/tools/resolve"), post(tools::decide))
        .route(&format!("{session}/cancel"), post(runs::cancel))
        .route(&format!("{session}/model"), post(runs::switch_model))
        .route(&format!("{session}/runs/{{run_id}}"), get(runs::get))
        .route("/v1/runs", get(runs::list))
        .route("/v1/models", get(about::models))
        .route("/v1/config", get(about::config))
        .route("/metrics", get(operations::metrics))
        .layer(DefaultBodyLimit::max(limits.body))
        .route_layer(middleware::from_fn(name_ignored))
        .route_layer(middleware::from_fn_with_state(server.clone(), require_token));
    let public = Router::new()
        .route("/v1/health", get(about::health))
        .route("/v1/openapi.json", get(about::openapi_json))
        .route("/v1/ready", get(operations::ready))
        .route("/docs", get(docs::page));
    public
        .merge(protected)
        .fallback(|| async { ApiError::new(ErrorCode::NotFound, "there is no such path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(ErrorCode::MethodNotAllowed, "this path does not take this method; see `Allow`")
        })
        .with_state(server.clone())
}

/// The OpenAPI document, made from the types that the handlers use.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

/// The document with the routes of what lives beside the server; the edge stands before them too.
pub(crate) fn openapi_with(parts: impl IntoIterator<Item = utoipa::openapi::OpenApi>) -> utoipa::openapi::OpenApi {
    let mut document = parts.into_iter().fold(openapi(), utoipa::openapi::OpenApi::merge_from);
    NamesChecked.modify(&mut document);
    document
}

#[derive(OpenApi)]
#[openapi(
    info(title = "stakpak agent server", description = "Sessions, runs and events of the agent."),
    paths(
        about::health, about::openapi_json, about::models, about::config, operations::ready, operations::metrics, docs::page, listing::list,
        sessions::create, sessions::get, sessions::update, sessions::delete, messages::post, messages::list,
        events::stream, tools::pending, tools::decide_one, tools::decide, runs::cancel, runs::switch_model, runs::get, runs::list,
    ),
    components(schemas(
        stakpak_protocol::ErrorBody, stakpak_protocol::EventEnvelope, stakpak_protocol::GapDetected,
        stakpak_protocol::ServerShutdown, stakpak_protocol::SessionDeleted,
    )),
    modifiers(&BearerAuth, &Alias, &NamesChecked),
)]
struct Api;

/// `tools/resolve` is another name of `tools/decisions`.
struct Alias;

impl Modify for Alias {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let tools = "/v1/sessions/{session_id}/tools";
        let Some(mut item) = api.paths.paths.get(&format!("{tools}/decisions")).cloned() else { return };
        if let Some(operation) = &mut item.post {
            operation.operation_id = Some("resolve_tool_calls".to_owned());
        }
        api.paths.paths.insert(format!("{tools}/resolve"), item);
    }
}

/// Every route refuses foreign names: see [`crate::edge`].
struct NamesChecked;

impl Modify for NamesChecked {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let refused = ResponseBuilder::new()
            .description("`Host` or `Origin` is not allowed")
            .content("application/json", Content::new(Some(Ref::from_schema_name("ErrorBody"))))
            .build();
        for item in api.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten() {
                operation.responses.responses.entry("403".to_owned()).or_insert_with(|| refused.clone().into());
            }
        }
    }
}

struct BearerAuth;

impl Modify for BearerAuth {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        api.components.get_or_insert_default().add_security_scheme("bearer_auth", scheme);
        for item in api.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            for operation in operations.into_iter().flatten().filter(|operation| operation.security.is_some()) {
                let responses = &mut operation.responses.responses;
                responses.entry("429".to_owned()).or_insert_with(|| rate_limited().into());
            }
        }
    }
}

/// The bearer check may answer it on every route that it stands before.
fn rate_limited() -> Response {
    let body = Content::new(Some(Ref::from_schema_name("ErrorBody")));
    Response::builder().content("application/json", body).build()
}
