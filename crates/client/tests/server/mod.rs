//! A server on a real socket that answers each request as its test says, and remembers what it was asked.

#![allow(dead_code)]

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use stakpak_client::{StakpakClient, Timing};
use tokio::net::TcpListener;

pub(crate) const TOKEN: &str = "s3cret-token";
pub(crate) const SESSION: &str = "0b8f7a52-3c1e-4d55-9a57-6f0d2f1c9e11";
pub(crate) const RUN: &str = "7d0c2a64-52f1-4f0b-8f3e-1a2b3c4d5e6f";

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Requests before this one.
    pub(crate) nth: usize,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: header::HeaderMap,
    pub(crate) body: serde_json::Value,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn last_event_id(&self) -> u64 {
        self.header("last-event-id").expect("every connection has a cursor").parse().unwrap()
    }
}

pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        let app = Router::new().fallback(move |request: Request| {
            let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap();
                let asked = {
                    let mut log = log.lock().unwrap();
                    let asked = Asked {
                        nth: log.len(),
                        method: parts.method,
                        path: parts.uri.to_string(),
                        headers: parts.headers,
                        body: serde_json::from_slice(&body).unwrap_or_default(),
                    };
                    log.push(asked.clone());
                    asked
                };
                answer(&asked)
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked }
    }

    pub(crate) fn client(&self) -> StakpakClient {
        self.client_with(quick())
    }

    pub(crate) fn client_with(&self, timing: Timing) -> StakpakClient {
        StakpakClient::with_timing(&self.url, TOKEN, timing)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Waits that a test does not feel.
pub(crate) fn quick() -> Timing {
    Timing { retry_first: Duration::from_millis(1), retry_max: Duration::from_secs(2), ..Timing::default() }
}

pub(crate) fn json(status: u16, body: &serde_json::Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::from_u16(status).unwrap(), headers, body.to_string()).into_response()
}

pub(crate) fn error(status: u16, code: &str) -> Response {
    json(status, &serde_json::json!({"error": format!("because of {code}"), "code": code, "request_id": "req_1"}))
}

/// What a stream does after its last byte.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    /// The end of a chunked body.
    Close,
    /// The connection dies in the middle of the body.
    Break,
    /// Nothing more, ever.
    Hang,
}

/// An event stream that sends `chunks` as they are.
pub(crate) fn events(chunks: Vec<Vec<u8>>, then: Then) -> Response {
    let chunks = stream::iter(chunks.into_iter().map(Ok::<_, io::Error>)).then(|chunk| async {
        // Gives each chunk a write of its own.
        tokio::task::yield_now().await;
        chunk
    });
    let body = match then {
        Then::Close => Body::from_stream(chunks),
        Then::Break => {
            let cut = stream::once(async {
                // What came before is sent only when the body pauses.
                tokio::task::yield_now().await;
                Err(io::Error::other("cut"))
            });
            Body::from_stream(chunks.chain(cut))
        }
        Then::Hang => Body::from_stream(chunks.chain(stream::pending())),
    };
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

pub(crate) fn frame(id: u64, name: &str, event: &serde_json::Value) -> String {
    let data = serde_json::json!({
        "id": id, "session_id": SESSION, "run_id": RUN, "timestamp": "2026-03-01T09:00:00Z", "event": event,
    });
    format!("id: {id}\nevent: {name}\ndata: {data}\n\n")
}

pub(crate) fn delta(id: u64, text: &str) -> String {
    frame(id, "text_delta", &serde_json::json!({"TextDelta": {"run_id": RUN, "delta": text}}))
}

pub(crate) fn completed(id: u64) -> String {
    let usage = serde_json::json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
    let payload = serde_json::json!({
        "run_id": RUN, "total_turns": 1, "total_usage": usage, "stop_reason": "completed",
    });
    frame(id, "run_completed", &serde_json::json!({"RunCompleted": payload}))
}
