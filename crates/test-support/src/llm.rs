//! A scripted model server: chat completions and responses of OpenAI, messages of Anthropic, Gemini, and Bedrock, over a real
//! socket, streamed, and able to misbehave.
//!
//! Requests are answered from a queue in order of arrival, then with the standing reply, else with an echo. What was asked
//! is recorded. A test that has many requests under way answers them by a function instead; see [`ScriptedLlm::answer_with`].
//! A reply can wait at a [`Gate`] that the test opens; nothing sleeps but a reply that is told to take its time.

mod converse;
mod frames;
mod reply;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
    serve::ListenerExt,
};
use futures_util::stream;
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use self::reply::Reply;
use self::reply::{End, Step};

/// The server; dropping it closes the port.
#[derive(Debug)]
pub struct ScriptedLlm {
    address: SocketAddr,
    script: Arc<Script>,
    server: JoinHandle<()>,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct LlmRequest {
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Path and query.
    pub path: String,
    /// The JSON body.
    pub body: Value,
}

/// Holds a reply back until the test opens it.
#[derive(Debug, Clone, Default)]
pub struct Gate(CancellationToken);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets through what waits, now and later.
    pub fn open(&self) {
        self.0.cancel();
    }

    /// Whether it was opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_cancelled()
    }
}

type Answering = Arc<dyn Fn(&LlmRequest) -> Reply + Send + Sync>;

#[derive(Default)]
struct Script {
    queue: Mutex<VecDeque<Reply>>,
    standing: Mutex<Option<Reply>>,
    answering: Mutex<Option<Answering>>,
    requests: watch::Sender<Vec<LlmRequest>>,
    hang_ups: watch::Sender<usize>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("queue", &self.queue).field("standing", &self.standing).finish_non_exhaustive()
    }
}

impl ScriptedLlm {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no port to listen on.
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let listener = listener.tap_io(|socket| {
            // Without it every small frame waits for the one before to be acknowledged.
            let _ = socket.set_nodelay(true);
        });
        let script = Arc::new(Script::default());
        let router = Router::new()
            .route("/v1/chat/completions", post(answer))
            .route("/v1/responses", post(answer))
            .route("/v1/messages", post(answer))
            .route("/v1beta/models/{call}", post(answer))
            .route("/model/{id}/converse-stream", post(answer))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&script));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { address, script, server }
    }

    /// What a user would write as `api_endpoint`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The same for the Gemini API.
    #[must_use]
    pub fn gemini_url(&self) -> String {
        format!("http://{}/v1beta", self.address)
    }

    /// The same for Amazon Bedrock.
    #[must_use]
    pub fn bedrock_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a reply to the queue.
    pub fn push(&self, reply: Reply) {
        lock(&self.script.queue).push_back(reply);
    }

    /// What every request gets once the queue is empty.
    pub fn always(&self, reply: Reply) {
        *lock(&self.script.standing) = Some(reply);
    }

    /// Every request from now on is answered by this function, and not recorded: the function sees it.
    pub fn answer_with(&self, answering: impl Fn(&LlmRequest) -> Reply + Send + Sync + 'static) {
        *lock(&self.script.answering) = Some(Arc::new(answering));
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<LlmRequest> {
        self.script.requests.borrow().clone()
    }

    /// Waits until there were this many requests; gives all of them.
    pub async fn wait_for_requests(&self, count: usize) -> Vec<LlmRequest> {
        let mut requests = self.script.requests.subscribe();
        // The sender lives as long as this server.
        let _ = requests.wait_for(|requests| requests.len() >= count).await;
        self.requests()
    }

    /// Waits until this many clients hung up before their reply was complete.
    pub async fn wait_for_hang_ups(&self, count: usize) {
        let mut hang_ups = self.script.hang_ups.subscribe();
        let _ = hang_ups.wait_for(|so_far| *so_far >= count).await;
    }
}

impl Drop for ScriptedLlm {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    State(script): State<Arc<Script>>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let headers =
        headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let request = LlmRequest { headers: headers.collect(), path: uri.to_string(), body };
    let answering = lock(&script.answering).clone();
    if let Some(answering) = answering {
        return respond(&answering(&request), &script);
    }
    let queued = lock(&script.queue).pop_front();
    let reply = queued.or_else(|| lock(&script.standing).clone()).unwrap_or_else(|| Reply::echo(&request.body));
    script.requests.send_modify(|requests| requests.push(request));
    respond(&reply, &script)
}

fn respond(reply: &Reply, script: &Arc<Script>) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let hang_up = HangUp { script: Arc::clone(script), complete: false };
    let steps: VecDeque<Step> = reply.steps().into();
    let end = Ending { how: reply.end, sent: reply.sent.clone() };
    let body = Body::from_stream(stream::unfold((steps, end, hang_up), next_bytes));
    let mut response = (status, body).into_response();
    for (name, value) in &reply.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<axum::http::HeaderName>(), value.parse()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

struct Ending {
    how: End,
    sent: Option<Gate>,
}

type Sending = (VecDeque<Step>, Ending, HangUp);

async fn next_bytes((mut steps, end, mut hang_up): Sending) -> Option<(std::io::Result<Bytes>, Sending)> {
    loop {
        match steps.pop_front() {
            Some(Step::Bytes(bytes)) => return Some((Ok(bytes.into()), (steps, end, hang_up))),
            Some(Step::Wait(gate)) => gate.0.cancelled().await,
            Some(Step::Pause(pause)) => tokio::time::sleep(pause).await,
            None => break,
        }
    }
    match end.how {
        End::Close => {
            hang_up.complete = true;
            if let Some(sent) = end.sent {
                sent.open();
            }
            None
        }
        End::Tear => {
            // What was written so far goes out while this task gives way.
            tokio::task::yield_now().await;
            hang_up.complete = true;
            let end = Ending { how: End::Close, sent: None };
            Some((Err(std::io::Error::other("torn")), (steps, end, hang_up)))
        }
        End::Stall => std::future::pending().await,
    }
}

/// Counts replies that were dropped because the client went away.
struct HangUp {
    script: Arc<Script>,
    complete: bool,
}

impl Drop for HangUp {
    fn drop(&mut self) {
        if !self.complete {
            self.script.hang_ups.send_modify(|count| *count += 1);
        }
    }
}
