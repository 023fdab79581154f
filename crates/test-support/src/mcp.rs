//! An MCP server that does as it is told: over HTTP by itself, over stdio behind a shell that joins its pipes to a socket.
//!
//! What its tools do follows from their names: see [`ScriptedMcp`].

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

/// The server. Its tools, whatever they are called, do what a part of their name says: `hang` never answers, `die` ends the
/// connection, `flood` answers with `bytes` bytes, `fail` fails, `meta` answers with the request's `_meta`, `progress` tells
/// progress three times and answers when [`ScriptedMcp::open_gate`] was called, `tick` tells it every `every_ms` until then,
/// `structured` answers without text, `image` with one, `refuse` with a JSON-RPC error that repeats `text`, `task` with a task
/// that has ended when it was asked for three times (`endless_task` never, `failing_task` badly), `ask` asks a person, then
/// for a sample, then for roots, and answers with what it was told, `form` the same as a result that requires input; any
/// other answers with its `text`. One that is said to `look` is annotated as read-only.
#[derive(Debug, Clone)]
pub struct ScriptedMcp {
    shared: Arc<Shared>,
    address: SocketAddr,
    http: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    tools: Mutex<Vec<Value>>,
    page: AtomicUsize,
    requests: Mutex<Vec<Value>>,
    silent: AtomicBool,
    connections: watch::Sender<usize>,
    list_changed: watch::Sender<u64>,
    hang_up: watch::Sender<u64>,
    gate: watch::Sender<bool>,
    session: AtomicUsize,
    /// Answers to requests of this server, by id.
    answers: watch::Sender<Vec<Value>>,
    /// How often a task was asked about.
    polls: AtomicUsize,
    /// What its tools say instead of the `text` they are given.
    own: Mutex<Option<String>>,
}

/// How a request is answered.
enum Answer {
    Result(Value),
    Error(Value),
    /// Never.
    None,
    HangUp,
}

impl ScriptedMcp {
    /// Starts it with these tools, by name.
    ///
    /// # Panics
    /// When there is no loopback socket.
    pub async fn start(tools: &[&str]) -> Self {
        let shared = Arc::new(Shared {
            tools: Mutex::new(tools.iter().map(|name| tool(name, "for tests")).collect()),
            page: AtomicUsize::new(usize::MAX),
            requests: Mutex::default(),
            silent: AtomicBool::new(false),
            connections: watch::Sender::new(0),
            list_changed: watch::Sender::new(0),
            hang_up: watch::Sender::new(0),
            gate: watch::Sender::new(false),
            session: AtomicUsize::new(1),
            answers: watch::Sender::new(Vec::new()),
            polls: AtomicUsize::new(0),
            own: Mutex::default(),
        });
        let lines = listener().await;
        let http = listener().await;
        let (address, http_address) = (local(&lines), local(&http));
        let router = Router::new().route("/mcp", post(posted)).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(http, router).await });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = lines.accept().await {
                accepting.connections.send_modify(|count| *count += 1);
                tokio::spawn(Arc::clone(&accepting).converse(stream));
            }
        });
        Self { shared, address, http: http_address }
    }

    /// A command of `bash -c` that is this server over stdio.
    #[must_use]
    pub fn stdio_command(&self) -> String {
        // What is in the background has no input; that end is the server's, and its end is the process's.
        format!("exec 3<>/dev/tcp/127.0.0.1/{}; (cat <&3; kill $$) & cat >&3", self.address.port())
    }

    /// Where it speaks streamable HTTP.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.http)
    }

    /// From now on its tools say this, whatever `text` they are given, and as progress too.
    pub fn say(&self, text: &str) {
        *lock(&self.shared.own) = Some(text.to_owned());
    }

    /// Puts other tools into the list, with this description, and tells whoever is connected.
    pub fn change_tools(&self, names: &[&str], description: &str) {
        *lock(&self.shared.tools) = names.iter().map(|name| tool(name, description)).collect();
        self.shared.list_changed.send_modify(|count| *count += 1);
    }

    /// Gives a tool other arguments, and tells whoever is connected.
    pub fn change_schema(&self, name: &str, schema: Value) {
        if let Some(tool) = lock(&self.shared.tools).iter_mut().find(|tool| tool["name"] == name) {
            tool["inputSchema"] = schema;
        }
        self.shared.list_changed.send_modify(|count| *count += 1);
    }

    /// Lists are given in pages of this size.
    pub fn list_in_pages_of(&self, tools: usize) {
        self.shared.page.store(tools, Ordering::Relaxed);
    }

    /// From now on nothing is answered, or everything again.
    pub fn be_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::Relaxed);
    }

    /// Lets calls of `progress` end.
    pub fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    /// Ends all connections.
    pub fn hang_up(&self) {
        self.shared.hang_up.send_modify(|count| *count += 1);
    }

    /// Forgets the session over HTTP: it is answered with 404.
    pub fn expire_session(&self) {
        self.shared.session.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything that came, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Value> {
        lock(&self.shared.requests).clone()
    }

    /// What came of this method.
    #[must_use]
    pub fn received_of(&self, method: &str) -> Vec<Value> {
        self.received().into_iter().filter(|message| message["method"] == method).collect()
    }

    /// Waits for the nth connection over stdio.
    pub async fn connected(&self, count: usize) {
        let _ = self.shared.connections.subscribe().wait_for(|seen| *seen >= count).await;
    }
}

impl Shared {
    async fn converse(self: Arc<Self>, stream: TcpStream) {
        let (read, mut write) = stream.into_split();
        let (send, mut outgoing) = mpsc::channel::<String>(64);
        let mut lines = BufReader::new(read).lines();
        let (mut changed, mut hang_up) = (self.list_changed.subscribe(), self.hang_up.subscribe());
        loop {
            tokio::select! {
                line = lines.next_line() => {
                    let Ok(Some(line)) = line else { return };
                    let Ok(message) = serde_json::from_str(&line) else { continue };
                    let (shared, send) = (Arc::clone(&self), send.clone());
                    tokio::spawn(async move { shared.take(message, &send).await });
                }
                Some(line) = outgoing.recv() => {
                    if line.is_empty() || write.write_all(line.as_bytes()).await.is_err() {
                        return;
                    }
                }
                _ = changed.changed() => {
                    let note = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
                    let _ = write.write_all(format!("{note}\n").as_bytes()).await;
                }
                _ = hang_up.changed() => return,
            }
        }
    }

    async fn take(&self, message: Value, send: &mpsc::Sender<String>) {
        let id = message["id"].clone();
        let answer = self.answer(&message, Some(send)).await;
        let line = match answer {
            Answer::HangUp => String::new(),
            Answer::None => return,
            // The id last, as the TypeScript SDK writes it.
            Answer::Result(result) => format!("{{\"result\":{result},\"jsonrpc\":\"2.0\",\"id\":{id}}}\n"),
            Answer::Error(error) => format!("{{\"error\":{error},\"jsonrpc\":\"2.0\",\"id\":{id}}}\n"),
        };
        let _ = send.send(line).await;
    }

    async fn answer(&self, message: &Value, send: Option<&mpsc::Sender<String>>) -> Answer {
        lock(&self.requests).push(message.clone());
        if message.get("method").is_none() {
            self.answers.send_modify(|answers| answers.push(message.clone()));
            return Answer::None;
        }
        if self.silent.load(Ordering::Relaxed) || message.get("id").is_none() {
            return Answer::None;
        }
        match message["method"].as_str().unwrap_or_default() {
            "initialize" => Answer::Result(json!({
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {"listChanged": true}},
                "serverInfo": {"name": "scripted", "version": "1"},
            })),
            "ping" => Answer::Result(json!({})),
            "tools/list" => Answer::Result(self.list(&message["params"]["cursor"])),
            "tools/call" => self.call(&message["params"], send).await,
            "tasks/get" => self.task(&message["params"]["taskId"]),
            "tasks/cancel" => Answer::Result(json!({"resultType": "complete"})),
            method => Answer::Error(json!({"code": -32601, "message": format!("{method} is not known")})),
        }
    }

    fn list(&self, cursor: &Value) -> Value {
        let tools = lock(&self.tools);
        let from: usize = cursor.as_str().and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
        let to = from.saturating_add(self.page.load(Ordering::Relaxed)).min(tools.len());
        let mut page = json!({"tools": tools[from..to]});
        if to < tools.len() {
            page["nextCursor"] = json!(to.to_string());
        }
        page
    }

    async fn call(&self, params: &Value, send: Option<&mpsc::Sender<String>>) -> Answer {
        let name = params["name"].as_str().unwrap_or_default();
        let says = |what: &str| name.contains(what);
        let text = |text: &str| Answer::Result(json!({"content": [{"type": "text", "text": text}]}));
        let own = lock(&self.own).as_ref().map(|own| json!({"text": own}));
        let arguments = own.as_ref().unwrap_or(&params["arguments"]);
        match () {
            () if says("task") => Answer::Result(task_now(&json!(name), "working", json!({"resultType": "task"}))),
            () if says("hang") => Answer::None,
            () if says("die") => Answer::HangUp,
            () if says("flood") => {
                let bytes = arguments["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
                text(&"x".repeat(bytes))
            }
            () if says("fail") => {
                Answer::Result(json!({"content": [{"type": "text", "text": "it failed"}], "isError": true}))
            }
            () if says("meta") => text(&params["_meta"].to_string()),
            () if says("structured") => Answer::Result(json!({"content": [], "structuredContent": arguments})),
            () if says("image") => Answer::Result(json!({"content": [
                {"type": "text", "text": arguments["text"].as_str().unwrap_or("a dot")},
                {"type": "image", "data": DOT, "mimeType": "image/png"},
            ]})),
            () if says("refuse") => Answer::Error(json!({"code": -32602, "message": arguments["text"]})),
            () if says("ask") => text(&self.ask(send).await),
            () if says("form") && params.get("inputResponses").is_none() => Answer::Result(json!({
                "resultType": "input_required",
                "requestState": "as it was",
                "inputRequests": {"name": {"method": "elicitation/create", "params": question()}},
            })),
            () if says("form") => text(&json!([params["inputResponses"], params["requestState"]]).to_string()),
            () if says("progress") => {
                self.tell_progress(params, send).await;
                text("done")
            }
            () if says("tick") => {
                let every = std::time::Duration::from_millis(arguments["every_ms"].as_u64().unwrap_or(100));
                let mut gate = self.gate.subscribe();
                while tokio::time::timeout(every, gate.wait_for(|open| *open)).await.is_err() {
                    self.tell(params, 1, send).await;
                }
                text("done")
            }
            () => text(arguments["text"].as_str().unwrap_or("no text")),
        }
    }

    /// Asks for what only a person or a model can give; what came back, in order.
    async fn ask(&self, send: Option<&mpsc::Sender<String>>) -> String {
        let sample = json!({"messages": [], "maxTokens": 1});
        let mut told = Vec::new();
        let asked = [("elicitation/create", question()), ("sampling/createMessage", sample), ("roots/list", json!({}))];
        for (method, params) in asked {
            let request = json!({"jsonrpc": "2.0", "id": format!("of {method}"), "method": method, "params": params});
            if let Some(send) = send {
                let _ = send.send(format!("{request}\n")).await;
            }
            let mut answers = self.answers.subscribe();
            let mine = |answer: &&Value| answer["id"] == request["id"];
            let Ok(answers) = answers.wait_for(|answers| answers.iter().any(|answer| mine(&answer))).await else {
                continue;
            };
            told.extend(answers.iter().find(mine).map(|answer| {
                let error = answer["error"]["code"].to_string();
                answer["result"]["action"].as_str().map_or(error, str::to_owned)
            }));
        }
        told.join(" ")
    }

    fn task(&self, id: &Value) -> Answer {
        let says = |what: &str| id.as_str().is_some_and(|id| id.contains(what));
        let polls = self.polls.fetch_add(1, Ordering::Relaxed) + 1;
        Answer::Result(match polls {
            _ if says("endless") => task_now(id, "working", json!({"statusMessage": format!("step {polls}")})),
            0..=2 => task_now(id, "working", json!({"statusMessage": format!("step {polls}")})),
            _ if says("failing") => task_now(id, "failed", json!({"error": {"code": -32000, "message": "it broke"}})),
            _ => {
                let result = json!({"content": [{"type": "text", "text": "the task is done"}]});
                task_now(id, "completed", json!({"result": result}))
            }
        })
    }

    async fn tell_progress(&self, params: &Value, send: Option<&mpsc::Sender<String>>) {
        for step in 1..=3 {
            self.tell(params, step, send).await;
        }
        let _ = self.gate.subscribe().wait_for(|open| *open).await;
    }

    async fn tell(&self, params: &Value, step: u64, send: Option<&mpsc::Sender<String>>) {
        let message = lock(&self.own).clone().unwrap_or_else(|| "working".to_owned());
        let note = json!({
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {"progressToken": params["_meta"]["progressToken"], "progress": step, "total": 3, "message": message},
        });
        if let Some(send) = send {
            let _ = send.send(format!("{note}\n")).await;
        }
    }
}

/// One black pixel.
const DOT: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=";

fn question() -> Value {
    json!({"message": "your name?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}})
}

fn task_now(id: &Value, status: &str, more: Value) -> Value {
    let mut task = json!({
        "taskId": id, "status": status, "createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "2026-01-01T00:00:00Z",
        "ttlMs": null, "pollIntervalMs": 100,
    });
    if let (Some(task), Value::Object(more)) = (task.as_object_mut(), more) {
        task.extend(more);
    }
    task
}

async fn posted(State(shared): State<Arc<Shared>>, headers: HeaderMap, Json(message): Json<Value>) -> Response {
    let session = shared.session.load(Ordering::Relaxed).to_string();
    let is_first = message["method"] == "initialize";
    if !is_first && headers.get("mcp-session-id").is_none_or(|sent| sent.as_bytes() != session.as_bytes()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let id = message["id"].clone();
    let mut noted = message;
    noted["authorization"] = headers.get("authorization").and_then(|value| value.to_str().ok()).into();
    let answer = match shared.answer(&noted, None).await {
        Answer::Result(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Answer::Error(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
        Answer::None if id.is_null() => return StatusCode::ACCEPTED.into_response(),
        Answer::None => std::future::pending().await,
        Answer::HangUp => return StatusCode::BAD_GATEWAY.into_response(),
    };
    ([("mcp-session-id", session)], Json(answer)).into_response()
}

fn tool(name: &str, description: &str) -> Value {
    let mut tool = json!({"name": name, "description": description, "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}});
    if name.contains("look") {
        tool["annotations"] = json!({"readOnlyHint": true});
    }
    tool
}

#[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
async fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback socket")
}

#[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
fn local(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound socket has an address")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
