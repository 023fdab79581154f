//! A gateway that ends between the server's acceptance and its own record repeats the same request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::State,
    http::HeaderMap,
    routing::{get, post},
};
use serde_json::{Value, json};
use stakpak_gateway::{Gateway, GatewayCliFlags, GatewayConfig};
use stakpak_test_support::BotApi;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const SESSION: &str = "0b8f7a52-3c1e-4d55-9a57-6f0d2f1c9e11";

/// Accepts messages and never answers: the client does not learn of the run.
#[derive(Default)]
struct SilentServer {
    posts: Mutex<Vec<(String, Value)>>,
    posted: Notify,
}

async fn create(Json(body): Json<Value>) -> Json<Value> {
    Json(json!({"id": SESSION, "title": body["title"], "cwd": null, "created_at": "2026-03-01T09:00:00Z",
        "updated_at": "2026-03-01T09:00:00Z", "run_status": {"state": "idle"}}))
}

async fn accept(State(server): State<Arc<SilentServer>>, headers: HeaderMap, Json(body): Json<Value>) -> Json<Value> {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    server.posts.lock().unwrap().push((key, body));
    server.posted.notify_one();
    std::future::pending().await
}

#[tokio::test]
async fn a_message_is_posted_again_as_the_same_request() {
    let server = Arc::new(SilentServer::default());
    let router = Router::new()
        .route("/v1/sessions", post(create))
        .route(&format!("/v1/sessions/{SESSION}"), get(|| async { create(Json(json!({"title": "x"}))).await }))
        .route(&format!("/v1/sessions/{SESSION}/messages"), post(accept))
        .with_state(Arc::clone(&server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let telegram = BotApi::start().await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("autopilot.toml");
    telegram.say(42, "restart nginx");
    // The second gateway is told another model: the request that may have been accepted stays what it was.
    for model in ["one", "two"] {
        let text = format!(
            "[gateway]\nmodel = \"{model}\"\n[channels.telegram]\ntoken = \"1:x\"\nallow_users = [42]\napi_base_url = \"{}\"\n",
            telegram.base_url()
        );
        std::fs::write(&file, text).unwrap();
        let flags = GatewayCliFlags { store: Some(home.path().join("gateway.db")), ..GatewayCliFlags::default() };
        let mut config = GatewayConfig::load(file.as_path(), &flags).unwrap().with_server(&url, "token");
        config.gateway.state_dir = home.path().to_owned();
        let gateway = Gateway::open(config).await.unwrap();
        // Dropping the future ends the gateway where it is.
        tokio::select! {
            ended = gateway.run(CancellationToken::new()) => panic!("{ended:?}"),
            () = server.posted.notified() => {}
        }
    }
    serving.abort();
    let posts = server.posts.lock().unwrap();
    assert_eq!(posts.len(), 2);
    assert!(posts[0].0.starts_with("gw-"), "{posts:?}");
    assert_eq!(posts[0], posts[1]);
}
