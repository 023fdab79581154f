//! G-P17: a server that says nothing, on a clock of our own.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, mpsc},
};

use axum::{Json, Router, body::Body as HttpBody, extract::State, http::header, response::IntoResponse, routing::get};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::advance;

use super::*;
use crate::{
    dispatcher::fixtures::{config, conversations, run},
    fake::{FakeChannel, capabilities},
};

/// Its event streams are silent behind the first events; its run goes on until it was asked about it `asks` times, and ends
/// unheard.
struct Silent {
    began: Instant,
    run: Value,
    asks: usize,
    asked: Mutex<Vec<Duration>>,
    /// What the first stream tells.
    first: Mutex<Vec<String>>,
    /// Whether the first stream ends behind that.
    is_cut: bool,
}

impl Silent {
    fn asked(&self) -> Vec<Duration> {
        self.asked.lock().unwrap().clone()
    }
}

async fn events(State(silent): State<Arc<Silent>>) -> impl IntoResponse {
    let first = std::mem::take(&mut *silent.first.lock().unwrap());
    let ends = silent.is_cut && !first.is_empty();
    let told = stream::iter(first.into_iter().map(Ok::<_, Infallible>));
    let body = if ends { HttpBody::from_stream(told) } else { HttpBody::from_stream(told.chain(stream::pending())) };
    ([(header::CONTENT_TYPE, "text/event-stream")], body)
}

/// Frames of events of the run.
fn frames(run: &OpenRun, events: &[(&str, Value)]) -> Vec<String> {
    let frame = |((name, body), id): (&(&str, Value), usize)| {
        let (mut body, name) = (body.clone(), *name);
        body["run_id"] = run.run_id.clone().into();
        let event = json!({"id": id, "session_id": run.session_id, "run_id": run.run_id,
            "timestamp": "2026-03-01T09:00:00Z", "event": {name: body}});
        format!("id: {id}\nevent: some\ndata: {event}\n\n")
    };
    events.iter().zip(1..).map(frame).collect()
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
async fn serve(run: &OpenRun, asks: usize, first: Vec<String>, is_cut: bool) -> (Arc<Silent>, String) {
    let usage = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
    let run = json!({"run_id": run.run_id, "session_id": run.session_id, "state": "running",
        "started_at": "2026-03-01T09:00:00Z", "turns": 1, "side_effects": false, "first_event_id": 1, "last_event_id": 1,
        "total_usage": usage});
    let first = Mutex::new(first);
    let silent = Arc::new(Silent { began: Instant::now(), run, asks, asked: Mutex::default(), first, is_cut });
    let router = Router::new()
        .route("/v1/sessions/{id}/events", get(events))
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
async fn ends_unheard(asks: usize, first: &[(&str, Value)], is_cut: bool) -> (Vec<Duration>, Duration) {
    let _standstill = Standstill::new();
    let (home, run) = (tempfile::tempdir().unwrap(), run("7"));
    let (silent, url) = serve(&run, asks, frames(&run, first), is_cut).await;
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
    let mut shown = channel.seen().sent.join(" ");
    while let Some(part) = conversations.store.take_part(&run.address.chat_key()).await {
        shown += &format!("{:?}", part.content);
        conversations.store.sent(part.id, None).await.unwrap();
    }
    assert!(shown.contains("The list."), "{shown}");
    (silent.asked(), took)
}

/// Whether each moment is within five seconds of the one that is due.
fn are_due(asked: &[Duration], due: &[u64]) -> bool {
    let is_due = |(at, due): (&Duration, &u64)| (*due..*due + 10).contains(&at.as_secs());
    asked.len() == due.len() && asked.iter().zip(due).all(is_due)
}

/// A silent stream is asked about every 30 seconds and whenever its connection, given up after 45, was made anew; a run that
/// ended meanwhile is told: within the 90 seconds of G-P17 whatever the moment.
#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_asked_about_every_thirty_seconds_and_after_each_reconnect() {
    for (asks, due) in [(1, vec![30]), (2, vec![30, 45, 48]), (3, vec![30, 45, 60])] {
        let (asked, took) = ends_unheard(asks, &[], false).await;
        assert!(are_due(&asked, &due), "{asked:?}");
        assert!(took < Duration::from_secs(90), "{asked:?}, told at {took:?}");
    }
}

/// G-P17: silence before the start, within a tool, within and behind the last text.
#[tokio::test(start_paused = true)]
async fn silence_in_any_state_of_a_run_hides_no_outcome() {
    let started = ("RunStarted", json!({}));
    let tool = ("ToolExecutionStarted", json!({"tool_call_id": "c1", "tool_name": "stakpak__run_command"}));
    let states = [
        vec![],
        vec![started.clone()],
        vec![started.clone(), tool],
        vec![started.clone(), ("TextDelta", json!({"delta": "The l"}))],
        vec![started, ("TextComplete", json!({"text": "The list."}))],
    ];
    for state in &states {
        let (asked, took) = ends_unheard(1, state, false).await;
        assert!(took < Duration::from_secs(90), "{state:?}: asked at {asked:?}, told at {took:?}");
    }
}

/// A connection that was lost may have taken the end of the run with it: long before a silence would have been noticed it is
/// asked for.
#[tokio::test(start_paused = true)]
async fn after_a_cut_the_state_of_the_run_is_asked_for_at_once() {
    let (asked, took) = ends_unheard(1, &[("RunStarted", json!({}))], true).await;
    assert!(asked[0] < QUIET / 2 && took < QUIET, "{asked:?}, told at {took:?}");
}
