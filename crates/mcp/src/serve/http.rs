//! The same over streamable HTTP, as a route to put behind the server's bearer check.

use std::{sync::Arc, time::Duration};

use axum::Router;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};

use super::{Serving, handler::Own};

/// Where it is.
const PATH: &str = "/v1/mcp";
const MAX_BODY: usize = 2 * 1024 * 1024;
/// A conversation in which nothing was said that long is over; no call takes longer.
const IDLE: Duration = Duration::from_secs(65 * 60);

impl Serving {
    /// The route. `hosts` and `origins` are allowed besides loopback and no origin at all.
    pub fn router(&self, hosts: &[String], origins: &[String]) -> Router {
        let config = StreamableHttpServerConfig::default();
        let hosts: Vec<String> = config.allowed_hosts.iter().chain(hosts).cloned().collect();
        let config = config
            .with_allowed_hosts(hosts)
            .with_allowed_origins(origins)
            .enforce_origin_validation()
            .with_max_request_body_bytes(MAX_BODY)
            .with_cancellation_token(self.0.stop.child_token());
        let mut sessions = LocalSessionManager::default();
        sessions.session_config.keep_alive = Some(IDLE);
        let shared = Arc::clone(&self.0);
        let service = StreamableHttpService::new(move || Ok(Own::new(Arc::clone(&shared))), Arc::new(sessions), config);
        Router::new().route_service(PATH, service)
    }
}
