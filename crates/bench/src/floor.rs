//! The least a server can do and still keep the promises: every event is synced to disk, in groups, before a reader sees it;
//! one model call a run; ids in order. No sessions to manage, no tools, no policy, no SQL, no restart. It asks the model with
//! the last message alone, or, with `--history`, with all of the session's, kept ready in memory.
//!
//! What it reaches on a machine is the limit that the server under test is compared with.

use std::{
    collections::HashMap,
    convert::Infallible,
    fs::File,
    io::Write,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
    routing::{get, post},
    serve::ListenerExt,
};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full};
use hyper::{Request, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use memchr::memmem;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use crate::companion;

/// Events that wait for the disk; beyond it, whoever has one waits.
const QUEUE: usize = 65_536;

/// The floor alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port of 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Address of the model
    #[arg(long)]
    model: String,
    /// The file that events are written to; replaced
    #[arg(long, default_value = "floor.log")]
    log: PathBuf,
    /// Ask the model with the whole history, not with the last message alone
    #[arg(long)]
    history: bool,
    /// End when stdin does
    #[arg(long, hide = true)]
    attached: bool,
}

/// A frame for the disk, and whom to tell when it is there.
struct Append {
    session: String,
    frame: Bytes,
    done: oneshot::Sender<()>,
}

#[derive(Default)]
struct Session {
    /// Those that are durable.
    frames: Mutex<Vec<Bytes>>,
    /// How many there are.
    durable: watch::Sender<usize>,
    /// The messages so far as JSON, each with a comma behind it.
    history: Mutex<String>,
}

struct Floor {
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    ids: AtomicU64,
    log: mpsc::Sender<Append>,
    model: Client<HttpConnector, Full<Bytes>>,
    model_url: String,
    whole_history: bool,
}

pub(crate) async fn serve(args: Args) -> Result<()> {
    let file = File::create(&args.log).with_context(|| format!("{} cannot be made", args.log.display()))?;
    let (log, appends) = mpsc::channel(QUEUE);
    std::thread::spawn(move || write_groups(file, appends));
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let floor = Arc::new(Floor {
        sessions: Mutex::default(),
        ids: AtomicU64::new(1),
        log,
        model: Client::builder(TokioExecutor::new()).build(connector),
        model_url: format!("http://{}/v1/chat/completions", args.model),
        whole_history: args.history,
    });
    let router = Router::new()
        .route("/v1/sessions", post(create))
        .route("/v1/sessions/{id}/messages", post(message))
        .route("/v1/sessions/{id}/events", get(events))
        .with_state(floor);
    let listener = companion::listen(args.port).await?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    tokio::select! {
        () = companion::driver_gone(args.attached) => Ok(()),
        done = async { axum::serve(listener, router).await } => Ok(done?),
    }
}

/// All appends that wait are one write and one sync. Ends the process when the disk fails: there is nothing to measure then.
fn write_groups(mut file: File, mut appends: mpsc::Receiver<Append>) {
    let mut bytes = Vec::new();
    let mut group = Vec::new();
    while let Some(first) = appends.blocking_recv() {
        group.push(first);
        while let Ok(next) = appends.try_recv() {
            group.push(next);
        }
        for append in &group {
            bytes.extend_from_slice(append.session.as_bytes());
            bytes.push(b'\t');
            bytes.extend_from_slice(&append.frame);
        }
        if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_data()) {
            eprintln!("the floor cannot write: {error}");
            std::process::exit(1);
        }
        bytes.clear();
        for append in group.drain(..) {
            let _ = append.done.send(());
        }
    }
}

impl Floor {
    fn id(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    fn session(&self, id: &str) -> Result<Arc<Session>, StatusCode> {
        lock(&self.sessions).get(id).cloned().ok_or(StatusCode::NOT_FOUND)
    }

    /// Durable, then visible. A session has one run at a time, so that ids need no lock of their own.
    async fn append(&self, id: &str, session: &Session, run: &str, name: &str, event: Value) {
        let place = lock(&session.frames).len() + 1;
        let data = json!({"id": place, "session_id": id, "run_id": run, "event": event});
        let frame = Bytes::from(format!("id: {place}\nevent: {name}\ndata: {data}\n\n"));
        let (done, written) = oneshot::channel();
        let append = Append { session: id.to_owned(), frame: frame.clone(), done };
        if self.log.send(append).await.is_err() || written.await.is_err() {
            return;
        }
        lock(&session.frames).push(frame);
        session.durable.send_replace(place);
    }

    /// Asks the model; the text of each piece that arrives is one event.
    async fn run(&self, id: &str, session: &Session, run: &str, message: &Value) -> Result<()> {
        let before = if self.whole_history { lock(&session.history).clone() } else { String::new() };
        let body = format!(r#"{{"model":"mock-1","stream":true,"messages":[{before}{message}]}}"#);
        let request = Request::post(&self.model_url).header(CONTENT_TYPE, "application/json").body(body.into())?;
        let mut answer = self.model.request(request).await?.into_body();
        let mut rest = Vec::new();
        let mut said = String::new();
        while let Some(piece) = answer.frame().await {
            let Ok(piece) = piece?.into_data() else { continue };
            rest.extend_from_slice(&piece);
            let text = take_text(&mut rest);
            if !text.is_empty() {
                said.push_str(&text);
                let event = json!({"TextDelta": {"run_id": run, "delta": text}});
                self.append(id, session, run, "text_delta", event).await;
            }
        }
        if self.whole_history {
            let answer = json!({"role": "assistant", "content": said});
            lock(&session.history).push_str(&format!("{message},{answer},"));
        }
        self.append(id, session, run, "run_completed", json!({"RunCompleted": {"run_id": run}})).await;
        Ok(())
    }
}

/// The text of the whole chunks in `bytes`, which are taken out.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut from = 0;
    while let Some(end) = memmem::find(&bytes[from..], b"\n\n") {
        let chunk = bytes[from..from + end].strip_prefix(b"data: ").unwrap_or_default();
        from += end + 2;
        if let Ok(chunk) = serde_json::from_slice::<Value>(chunk) {
            text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        }
    }
    bytes.drain(..from);
    text
}

async fn create(State(floor): State<Arc<Floor>>) -> Json<Value> {
    let id = floor.id();
    lock(&floor.sessions).insert(id.clone(), Arc::default());
    Json(json!({"id": id}))
}

async fn message(
    State(floor): State<Arc<Floor>>,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let session = floor.session(&id)?;
    let run = floor.id();
    floor.append(&id, &session, &run, "run_started", json!({"RunStarted": {"run_id": run}})).await;
    let answer = Json(json!({"run_id": run}));
    tokio::spawn(async move {
        if let Err(error) = floor.run(&id, &session, &run, &body["message"]).await {
            eprintln!("a run of the floor failed: {error}");
        }
    });
    Ok(answer)
}

#[derive(serde::Deserialize)]
struct Cursor {
    after: usize,
}

async fn events(
    State(floor): State<Arc<Floor>>,
    Path(id): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<Response, StatusCode> {
    let session = floor.session(&id)?;
    let durable = session.durable.subscribe();
    let frames = stream::unfold((session, durable, cursor.after), |(session, mut durable, at)| async move {
        loop {
            durable.borrow_and_update();
            let new = lock(&session.frames).get(at..).unwrap_or_default().to_vec();
            if !new.is_empty() {
                let at = at + new.len();
                return Some((Ok::<_, Infallible>(Bytes::from(new.concat())), (session, durable, at)));
            }
            durable.changed().await.ok()?;
        }
    });
    let mut response = Response::new(Body::from_stream(frames));
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_taken_from_whole_chunks_only() {
        let chunk = r#"data: {"choices":[{"delta":{"content":"a"}}]}"#;
        let mut bytes = format!("{chunk}\n\n{chunk}\n\ndata: [DONE]\n\ndata: {{").into_bytes();
        assert_eq!((take_text(&mut bytes), bytes.as_slice()), ("aa".to_owned(), &b"data: {"[..]));
    }
}
