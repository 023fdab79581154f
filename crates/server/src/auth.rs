//! The bearer check: who may ask, how often, and what only a server that goes on takes.

mod failures;
mod tokens;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
pub(crate) use failures::Failures;
use stakpak_protocol::ErrorCode;
pub(crate) use tokens::{Token, Tokens};

use crate::{ApiError, Server, edge::Peer};

/// Who a request comes from: the name of its token, or of no token.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Arc<str>);

/// Name of the token that `ServerConfig::token` is.
pub(crate) const DEFAULT: &str = "default";

/// Name of every caller where no token is asked for.
pub(crate) const ANONYMOUS: &str = "anonymous";

pub(crate) async fn require_token(State(server): State<Server>, mut request: Request, next: Next) -> Response {
    let caller = match server.caller(&request) {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_response(),
    };
    // Reads go on during the drain.
    if server.live().is_draining() && !request.method().is_safe() {
        return ApiError::shutting_down().into_response();
    }
    request.extensions_mut().insert(Caller(caller));
    next.run(request).await
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

impl Server {
    fn caller(&self, request: &Request) -> Result<Arc<str>, ApiError> {
        if self.tokens().is_empty() {
            return Ok(ANONYMOUS.into());
        }
        let Some(token) = bearer(request).and_then(|text| self.tokens().find(text)) else {
            return Err(self.unauthorized(request));
        };
        token.admit().map_err(|seconds| {
            let message = format!("token {} sends too many requests a second; slow down", token.name);
            ApiError::new(ErrorCode::RateLimited, message).retry_after(seconds)
        })?;
        Ok(Arc::clone(&token.name))
    }

    fn unauthorized(&self, request: &Request) -> ApiError {
        let peer = request.extensions().get::<ConnectInfo<Peer>>();
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(Peer(address))| address.ip());
        match self.failures().count(address) {
            Ok(()) => ApiError::new(
                ErrorCode::Unauthorized,
                "a bearer token is needed: send `Authorization: Bearer <token>`; \
                 the token is in ~/.stakpak/autopilot/token",
            ),
            Err(seconds) => ApiError::new(
                ErrorCode::RateLimited,
                "too many requests without a valid token from this address; send the token, or come back later",
            )
            .retry_after(seconds),
        }
    }

    /// Puts the same bearer check in front of routes that are mounted beside the server's own.
    pub fn protect(&self, router: axum::Router) -> axum::Router {
        if !router.has_routes() {
            return router;
        }
        router.route_layer(axum::middleware::from_fn_with_state(self.clone(), require_token))
    }
}
