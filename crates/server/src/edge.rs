//! What stands around every route, of this server and of others mounted beside it: the listener, the check of `Host` and
//! `Origin`, the request id, and the body of errors.

mod listener;
mod trace;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use stakpak_protocol::{ErrorBody, ErrorCode, RequestId};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{ApiError, Server, error::Answer};
use listener::BoundedListener;
pub(crate) use listener::Peer;

/// How long open connections may take to end once shutdown has begun.
pub const LINGER: Duration = Duration::from_secs(2);

/// Of [`serve`], unless something else is configured.
pub const WRITE_STALL: Duration = Duration::from_secs(60);

/// Which names a request may call the server by.
#[derive(Debug, Clone, Default)]
pub struct EdgePolicy {
    /// Host names and addresses besides loopback, without port.
    pub allowed_hosts: Vec<String>,
    /// Values of `Origin`; any other is refused.
    pub allowed_origins: Vec<String>,
}

/// Puts the edge around the routes of a server and those beside it; requests are counted in the metrics of `server`, if
/// there is one.
pub fn wrap(router: Router, policy: EdgePolicy, server: Option<&Server>) -> Router {
    let policy = Arc::new(policy);
    router
        .layer(middleware::from_fn_with_state(policy, check_names))
        .layer(CatchPanicLayer::custom(|_| {
            tracing::error!("a handler panicked; the message is on stderr");
            ApiError::new(ErrorCode::InternalError, "unexpected error; the log has the request id").into_response()
        }))
        .layer(middleware::from_fn_with_state(server.cloned(), trace::trace))
}

/// Serves until `shutdown`, then lets open requests end for a moment. Accepted sockets send at once (`TCP_NODELAY`); one
/// whose client accepts nothing for `write_stall` is closed.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    write_stall: Duration,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let listener = BoundedListener { inner: listener, write_stall };
    let asked = shutdown.clone();
    let serving = axum::serve(listener, router.into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(async move { asked.cancelled().await });
    tokio::select! {
        result = serving.into_future() => result,
        () = async { shutdown.cancelled().await; tokio::time::sleep(LINGER).await } => Ok(()),
    }
}

fn write_error(bare: &Response, error: Answer, id: &RequestId) -> Response {
    let body = ErrorBody { error: error.message, code: error.code, request_id: id.clone(), details: error.details };
    let mut response = (bare.status(), Json(body)).into_response();
    for (name, value) in bare.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    if let Some(seconds) = error.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

async fn check_names(State(policy): State<Arc<EdgePolicy>>, request: Request, next: Next) -> Response {
    if let Err(error) = policy.check(request.headers()) {
        return error.into_response();
    }
    next.run(request).await
}

impl EdgePolicy {
    fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.allows_host(host) {
            return Err(ApiError::new(
                ErrorCode::HostNotAllowed,
                "the Host header names another host; add it to [server].allowed_hosts if it is right",
            ));
        }
        match headers.get(header::ORIGIN) {
            None => Ok(()),
            Some(origin) if self.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) => {
                Ok(())
            }
            Some(_) => Err(ApiError::new(
                ErrorCode::OriginNotAllowed,
                "requests from web pages are refused; add the origin to [server].allowed_origins to allow it",
            )),
        }
    }

    fn allows_host(&self, host: &str) -> bool {
        let name = without_port(host);
        let is_loopback = name.eq_ignore_ascii_case("localhost")
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        is_loopback || self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::EdgePolicy;

    #[test]
    fn only_loopback_and_listed_hosts_pass() {
        let policy = EdgePolicy { allowed_hosts: vec!["ops.example".to_owned()], allowed_origins: Vec::new() };
        for host in ["127.0.0.1:4096", "localhost", "LOCALHOST:1", "[::1]:4096", "127.9.9.9", "ops.example:443"] {
            assert!(policy.allows_host(host), "{host}");
        }
        for host in ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1:4096", "0.0.0.0"]
        {
            assert!(!policy.allows_host(host), "{host}");
        }
    }
}
