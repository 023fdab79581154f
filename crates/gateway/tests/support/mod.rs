//! A chat platform and an agent server that do as they are told.
#![allow(dead_code, unreachable_pub)]

pub mod agent;
pub mod chat;
pub mod line;

use std::{path::PathBuf, time::Duration};

use stakpak_gateway::{Gateway, GatewayCliFlags, GatewayConfig};
use std::sync::Arc;

use axum::{body::Body, http::Request};
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;

use self::{agent::Agent, chat::Chat};

pub const ANN: &str = "1";
pub const BOB: &str = "2";
pub const EVE: &str = "3";

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything a gateway needs, and the gateway.
pub struct Stage {
    pub home: tempfile::TempDir,
    pub agent: Agent,
    pub chat: Chat,
    pub gateway: Option<Arc<Gateway>>,
    running: Option<JoinHandle<()>>,
    config: String,
    patience: Duration,
}

impl Stage {
    /// The gateway's API does not wait for the platform.
    pub async fn impatient(mut self) -> Self {
        self.patience = Duration::ZERO;
        self.kill().await;
        self.start().await;
        self
    }

    /// With these lines under `[gateway]` and these under `[channels.telegram]`.
    pub async fn new(gateway: &str, telegram: &str) -> Self {
        let config = format!("[gateway]\n{gateway}\n[channels.telegram]\ntoken = \"1:x\"\n{telegram}\n");
        let mut stage = Self {
            home: tempfile::tempdir().unwrap(),
            agent: Agent::start().await,
            chat: Chat::new(),
            gateway: None,
            running: None,
            config,
            patience: PATIENCE,
        };
        stage.start().await;
        stage
    }

    pub fn store_path(&self) -> PathBuf {
        self.home.path().join("gateway.db")
    }

    pub async fn start(&mut self) {
        let file = self.home.path().join("autopilot.toml");
        std::fs::write(&file, &self.config).unwrap();
        let flags = GatewayCliFlags { store: Some(self.store_path()), ..GatewayCliFlags::default() };
        let mut config = GatewayConfig::load(file.as_path(), &flags).unwrap().with_server(self.agent.url(), "token");
        config.gateway.state_dir = self.home.path().to_owned();
        let gateway = Gateway::with_channels(config, vec![self.chat.channel()]).unwrap();
        let gateway = Arc::new(gateway.with_send_patience(self.patience));
        let running = Arc::clone(&gateway);
        self.running = Some(tokio::spawn(async move { running.run(CancellationToken::new()).await.unwrap() }));
        self.gateway = Some(gateway);
        self.chat.connected().await;
    }

    /// `POST /send` under a key.
    pub async fn send(&self, key: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder().method("POST").uri("/send").header("idempotency-key", key);
        self.call(request, Some(body)).await
    }

    /// A request to the gateway's API: status and body.
    pub async fn api(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.call(Request::builder().method(method).uri(path), body).await
    }

    async fn call(&self, request: axum::http::request::Builder, body: Option<&Value>) -> (u16, Value) {
        let request = request.header("authorization", "Bearer token");
        let request = request.header("content-type", "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut router = self.gateway.as_ref().unwrap().api_router().into_service::<Body>();
        let response = router.call(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// Where it is, without a last word.
    pub async fn kill(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
        self.gateway = None;
        self.chat.disconnect();
    }
}

/// Waits until `found` finds something.
pub async fn until<T>(changed: &watch::Sender<u64>, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let mut changed = changed.subscribe();
    let wait = async {
        loop {
            changed.borrow_and_update();
            if let Some(found) = found() {
                return found;
            }
            changed.changed().await.unwrap();
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}
