//! A gateway between an agent server and platforms that speak their own protocols.

use std::sync::Arc;

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use stakpak_gateway::{Gateway, GatewayCliFlags, GatewayConfig};
use stakpak_test_support::SlackApi;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::agent::Agent;

/// Of server and API.
pub const TOKEN: &str = "server-token-of-the-test";

/// A gateway between an agent server and the platforms of its configuration.
pub struct Line {
    pub agent: Agent,
    pub gateway: Arc<Gateway>,
    running: Option<JoinHandle<()>>,
    cancel: CancellationToken,
    _home: tempfile::TempDir,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

impl Line {
    pub async fn new(config: &str) -> Self {
        let (home, agent) = (tempfile::tempdir().unwrap(), Agent::start().await);
        let file = home.path().join("autopilot.toml");
        std::fs::write(&file, config).unwrap();
        let flags = GatewayCliFlags { store: Some(home.path().join("gateway.db")), ..GatewayCliFlags::default() };
        let mut config = GatewayConfig::load(file.as_path(), &flags).unwrap().with_server(agent.url(), TOKEN);
        config.gateway.state_dir = home.path().to_owned();
        let gateway = Arc::new(Gateway::new(config).unwrap());
        let running = Arc::clone(&gateway);
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let running = Some(tokio::spawn(async move { running.run(stop).await.unwrap() }));
        Self { agent, gateway, running, cancel, _home: home }
    }

    pub async fn slack(slack: &SlackApi) -> Self {
        let (bot, app, url) = (SlackApi::BOT_TOKEN, SlackApi::APP_TOKEN, slack.base_url());
        let line = Self::new(&format!(
            "[gateway]\napproval_route = \"slack:#ops\"\n[channels.slack]\nbot_token = \"{bot}\"\napp_token = \"{app}\"\n\
             api_base_url = \"{url}\"\nallow_users = [\"{ann}\"]\napprovers = [\"{ann}\"]\n",
            ann = SlackApi::ANN
        ))
        .await;
        slack.wait_for_sockets(2).await;
        line
    }

    /// Until everything has come to its end.
    pub async fn stop(&mut self) {
        self.cancel.cancel();
        self.running.take().unwrap().await.unwrap();
    }

    /// What a program sends and what is delivered at once.
    pub async fn send(&self, body: &Value) -> Value {
        let (status, answer) = self.call("POST", "/send", Some(body)).await;
        assert_eq!((status, &answer["delivered"]), (200, &json!(true)), "{answer}");
        answer
    }

    /// A request to the gateway's API: status and body.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"));
        let request = request.header("content-type", "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut router = self.gateway.api_router().into_service::<Body>();
        let response = router.call(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// The session that message number `number`, from 1, went to, and what it was told.
    pub async fn arrived(&self, number: usize) -> (Value, String) {
        self.agent.wait_for_messages(number).await;
        let (session, body) = self.agent.posted().remove(number - 1);
        (session.into(), body["context"].to_string())
    }
}
