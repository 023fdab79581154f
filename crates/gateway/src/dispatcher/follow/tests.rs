//! G-P17: a server that says nothing, on a clock of our own.

use std::sync::{Arc, Mutex, mpsc};

use axum::{Json, Router, body::Body as HttpBody, extract::State, http::header, response::IntoResponse, routing::get};
use serde_json::{Value, json};
use tokio::time::advance;

use super::*;
use crate::{
    dispatcher::fixtures::{config, conversations, run},
    fake::{FakeChannel, capabilities},
};

/// Its event streams are silent; its run goes on until it was asked about it `asks` times, and ends unheard.
struct Silent {
    began: Instant,
    run: Value,
    asks: usize,
    asked: Mutex<Vec<Duration>>,
}

impl Silent {
    fn asked(&self) -> Vec<Duration> {
        self.asked.lock().unwrap().clone()
    }
}

async fn silence() -> impl IntoResponse {
    let nothing = futures_util::stream::pending::<Result<String, std::convert::Infallible>>();
    ([(header::CONTENT_TYPE, "text/event-stream")], HttpBody::from_stream(nothing))
}

async fn state_of_run(State(silent): State<Arc<Silent>>) -> Json<Value> {
    let mut asked = silent.asked.lock().unwrap();
    asked.push(silent.began.elapsed());
    let mut run = silent.run.clone();
    if asked.len() >= silent.asks {
        run["state"] = "completed".into();
        run["stop_reason"] = "completed".into();
    }
    Json(run)
}

async fn messages() -> Json<Value> {
    let messages =
        [("user", "list"), ("assistant", "The list.")].map(|(role, text)| json!({"role": role, "content": text}));
    Json(json!({"messages": messages, "total": 2, "last_event_id": 0}))
}

/// A server whose run ends after `asks` questions; its address.
async fn serve(run: &OpenRun, asks: usize) -> (Arc<Silent>, String) {
    let usage = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
    let run = json!({"run_id": run.run_id, "session_id": run.session_id, "state": "running",
        "started_at": "2026-03-01T09:00:00Z", "turns": 1, "side_effects": false, "first_event_id": 1, "last_event_id": 1,
        "total_usage": usage});
    let silent = Arc::new(Silent { began: Instant::now(), run, asks, asked: Mutex::default() });
    let router = Router::new()
        .route("/v1/sessions/{id}/events", get(silence))
        .route("/v1/sessions/{id}/runs/{run}", get(state_of_run))
        .route("/v1/sessions/{id}/messages", get(messages))
        .with_state(Arc::clone(&silent));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { drop(axum::serve(listener, router).await) });
    (silent, url)
}

/// While it lives, the paused clock goes on only by [`advance`]: without it, waiting for a socket would move it.
struct Standstill(Option<mpsc::Sender<()>>);

impl Standstill {
    fn new() -> Self {
        let (end, ended) = mpsc::channel();
        tokio::task::spawn_blocking(move || _ = ended.recv());
        Self(Some(end))
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// Of a run whose end nobody hears: when the server was asked, and when the answer was there.
async fn ends_unheard(asks: usize) -> (Vec<Duration>, Duration) {
    let _standstill = Standstill::new();
    let (home, run) = (tempfile::tempdir().unwrap(), run("7"));
    let (silent, url) = serve(&run, asks).await;
    let channel = Arc::new(FakeChannel::new(capabilities(), || (Duration::ZERO, Ok(()))));
    let platform = Arc::clone(&channel) as Arc<dyn crate::Channel>;
    let conversations = Arc::new(conversations(&config(home.path(), &url), platform));
    let following = {
        let (conversations, run) = (Arc::clone(&conversations), run.clone());
        tokio::spawn(async move { conversations.follow(&run, None).await.unwrap() })
    };
    while !following.is_finished() {
        assert!(silent.began.elapsed() < Duration::from_secs(600), "asked at {:?}", silent.asked());
        advance(Duration::from_secs(1)).await;
        // What this second caused is done before the next one begins: the server answers in order.
        for _ in 0..3 {
            drop(conversations.client.get_messages(&run.session_id, 1, 0).await.unwrap());
        }
    }
    let took = silent.began.elapsed();
    let part = conversations.store.take_part(&run.address.chat_key()).await;
    let shown = part.map(|part| format!("{:?}", part.content)).unwrap_or_default() + &channel.seen().sent.join(" ");
    assert!(shown.contains("The list."), "{shown}");
    (silent.asked(), took)
}

/// A silent stream is asked about every 30 seconds, not earlier, and a run that ended meanwhile is told at once: within the
/// 90 seconds of G-P17 whatever the moment.
#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_asked_about_every_thirty_seconds() {
    for asks in [1, 3] {
        let (asked, took) = ends_unheard(asks).await;
        assert_eq!(asked.len(), asks, "{asked:?}");
        for (at, number) in asked.iter().zip(1..) {
            let due = Duration::from_secs(30) * number;
            assert!((due..due + Duration::from_secs(5)).contains(at), "{asked:?}");
        }
        assert!(took < asked[asks - 1] + Duration::from_secs(5), "{asked:?}, told at {took:?}");
    }
}
