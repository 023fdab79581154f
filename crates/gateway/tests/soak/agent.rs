//! An agent server that keeps next to nothing: runs say one word and end, unless their message says that they stay.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::{StreamExt, future::ready, stream};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

/// A session's last run.
#[derive(Debug, Clone, Default)]
struct Talk {
    run: String,
    /// Events before it.
    cursor: u64,
    /// It does not end before it is let go.
    stays: bool,
    /// A call of it waits for a person.
    asks: bool,
}

#[derive(Default)]
struct Shared {
    talks: Mutex<HashMap<String, Talk>>,
    released: watch::Sender<bool>,
}

pub struct Agent {
    shared: Arc<Shared>,
    pub url: String,
}

impl Agent {
    pub async fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let router = Router::new()
            .route("/v1/sessions", post(session))
            .route("/v1/sessions/{id}", get(detail))
            .route("/v1/sessions/{id}/messages", post(message))
            .route("/v1/sessions/{id}/runs/{run}", get(run))
            .route("/v1/sessions/{id}/events", get(events))
            .route("/v1/sessions/{id}/tools/pending", get(pending))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { shared, url }
    }

    /// The runs that stay end.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }
}

impl Shared {
    fn talk(&self, session: &str) -> Talk {
        self.talks.lock().unwrap().get(session).cloned().unwrap_or_default()
    }

    fn goes_on(&self, talk: &Talk) -> bool {
        talk.stays && !*self.released.borrow()
    }
}

/// The same for the same key, so that nothing has to be remembered.
fn id_of(headers: &HeaderMap) -> String {
    let digest = Sha256::digest(headers["idempotency-key"].as_bytes());
    Uuid::from_slice(&digest[..16]).unwrap().to_string()
}

fn describe(id: &str, talk: &Talk, goes_on: bool) -> Value {
    let status = if goes_on { json!({"state": "running", "run_id": talk.run}) } else { json!({"state": "idle"}) };
    json!({"id": id, "title": "t", "cwd": "/srv", "created_at": "2026-03-01T09:00:00Z",
        "updated_at": "2026-03-01T09:00:00Z", "run_status": status, "last_event_id": talk.cursor})
}

async fn session(headers: HeaderMap) -> Json<Value> {
    Json(describe(&id_of(&headers), &Talk::default(), false))
}

async fn detail(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Json<Value> {
    let talk = shared.talk(&id);
    let session = describe(&id, &talk, shared.goes_on(&talk));
    Json(json!({"session": session, "config": {"default_model": null, "auto_approve_mode": "none"}}))
}

async fn message(
    State(shared): State<Arc<Shared>>,
    Path(session): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let text = body["message"]["content"].as_str().unwrap();
    let before = shared.talk(&session);
    if shared.goes_on(&before) {
        let refusal = json!({"error": "no", "code": "session_already_running", "request_id": "req_1"});
        return (StatusCode::CONFLICT, Json(refusal)).into_response();
    }
    let stays = text.contains("stay") || text.contains("ask");
    let talk = Talk { run: id_of(&headers), cursor: before.cursor + 3, stays, asks: text.contains("ask") };
    let answer = json!({"run_id": talk.run, "cursor": talk.cursor});
    shared.talks.lock().unwrap().insert(session, talk);
    Json(answer).into_response()
}

async fn run(State(shared): State<Arc<Shared>>, Path((session, id)): Path<(String, String)>) -> Json<Value> {
    let goes_on = shared.goes_on(&shared.talk(&session));
    let mut run = json!({"run_id": id, "session_id": session, "state": if goes_on { "running" } else { "completed" },
        "started_at": "2026-03-01T09:00:00Z", "turns": 1, "side_effects": false, "first_event_id": 1, "last_event_id": 1,
        "total_usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}});
    if !goes_on {
        run["stop_reason"] = "completed".into();
    }
    Json(run)
}

async fn pending(State(shared): State<Arc<Shared>>, Path(session): Path<String>) -> Json<Value> {
    let talk = shared.talk(&session);
    if !talk.asks || !shared.goes_on(&talk) {
        return Json(json!({"run_id": null, "tool_calls": []}));
    }
    let call = json!({"id": "c1", "name": "stakpak__run_command", "arguments": {"command": "ls"}});
    Json(json!({"run_id": talk.run, "tool_calls": [call]}))
}

/// What comes behind the cursor; the end of a run that stays when it is let go.
async fn events(State(shared): State<Arc<Shared>>, Path(session): Path<String>, headers: HeaderMap) -> Response {
    let after: u64 = headers.get("last-event-id").map_or(0, |after| after.to_str().unwrap().parse().unwrap());
    let talk = shared.talk(&session);
    let frame = |offset: u64, name: &str, kind: &str, mut body: Value| {
        body["run_id"] = talk.run.as_str().into();
        let id = talk.cursor + offset;
        let event = json!({"id": id, "session_id": session, "run_id": talk.run, "timestamp": "2026-03-01T09:00:00Z",
            "event": {kind: body}});
        (id > after).then(|| format!("id: {id}\nevent: {name}\ndata: {event}\n\n"))
    };
    let waits = talk.asks.then(|| {
        let body = json!({"pending_tool_call_ids": ["c1"]});
        frame(1, "waiting_for_tool_approval", "WaitingForToolApproval", body)
    });
    let end = json!({"total_turns": 1, "stop_reason": "completed",
        "total_usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}});
    let last = [
        frame(2, "text_complete", "TextComplete", json!({"turn": 1, "text": "Done."})),
        frame(3, "run_completed", "RunCompleted", end),
    ];
    let first = stream::iter(waits.flatten());
    let mut released = shared.released.subscribe();
    let until_released = async move {
        if talk.stays {
            drop(released.wait_for(|released| *released).await);
        }
        stream::iter(last.into_iter().flatten())
    };
    let frames = first.chain(stream::once(until_released).flatten());
    let frames = frames.map(Ok::<_, std::io::Error>).chain(stream::once(ready(Ok(": end\n\n".to_owned()))));
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(frames)).into_response()
}
