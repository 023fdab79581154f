//! The bearer token, and what only a server that goes on takes.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use stakpak_protocol::ErrorCode;
use subtle::ConstantTimeEq;

use crate::{ApiError, Server};

/// Who a request comes from: the name of its token, or of no token.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Arc<str>);

/// A token's digest: comparing digests takes the same time wherever two tokens differ.
#[derive(Debug, Clone)]
pub(crate) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    fn matches(&self, token: &str) -> bool {
        self.0.ct_eq(&Self::of(token).0).into()
    }
}

pub(crate) async fn require_token(State(server): State<Server>, mut request: Request, next: Next) -> Response {
    let caller = match server.token() {
        None => "anonymous",
        Some(digest) if bearer(&request).is_some_and(|token| digest.matches(token)) => "default",
        Some(_) => {
            let message = "a bearer token is needed: send `Authorization: Bearer <token>`; \
                           the token is in ~/.stakpak/autopilot/token";
            return ApiError::new(ErrorCode::Unauthorized, message).into_response();
        }
    };
    // Reads go on during the drain.
    if server.live().is_draining() && !request.method().is_safe() {
        return ApiError::shutting_down().into_response();
    }
    request.extensions_mut().insert(Caller(caller.into()));
    next.run(request).await
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

impl Server {
    /// Puts the same bearer check in front of routes that are mounted beside the server's own.
    pub fn protect(&self, router: axum::Router) -> axum::Router {
        if !router.has_routes() {
            return router;
        }
        router.route_layer(axum::middleware::from_fn_with_state(self.clone(), require_token))
    }
}
