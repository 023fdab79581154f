//! An agent server whose runs propose the calls they are told to, wait for all of them, and end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use uuid::Uuid;

/// One call: id, tool, arguments.
pub type Proposed = (&'static str, &'static str, Value);

#[derive(Default)]
struct Run {
    id: String,
    calls: Vec<Proposed>,
    decided: BTreeMap<String, Value>,
    over: bool,
}

#[derive(Default)]
struct Core {
    /// What the next runs propose.
    scripts: Vec<Vec<Proposed>>,
    runs: Vec<Run>,
    messages: Vec<String>,
    /// What sessions were made from, by their keys.
    created: Vec<(String, Value)>,
    /// Bodies of messages, with the session of each.
    posted: Vec<(String, Value)>,
    events: Vec<Value>,
    /// Why the next run fails, before anybody can listen.
    failure: Option<String>,
    /// So many messages are refused for now.
    refusals: usize,
    /// Sessions that were deleted.
    gone: Vec<String>,
    /// What the messages of the session hold behind the question.
    answer: String,
    posts: usize,
    /// Messages that met a run of somebody else.
    conflicts: usize,
    subscriptions: usize,
    down: bool,
}

struct Shared {
    core: Mutex<Core>,
    changed: watch::Sender<u64>,
    session: String,
}

pub struct Agent {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Agent {
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            core: Mutex::default(),
            changed: watch::Sender::new(0),
            session: Uuid::new_v4().to_string(),
        });
        let router = Router::new()
            .route("/v1/sessions", post(session))
            .route("/v1/sessions/{id}", get(detail))
            .route("/v1/sessions/{id}/messages", post(message).get(messages))
            .route("/v1/sessions/{id}/runs/{run}", get(run))
            .route("/v1/sessions/{id}/cancel", post(cancel))
            .route("/v1/sessions/{id}/events", get(events))
            .route("/v1/sessions/{id}/tools/pending", get(pending))
            .route("/v1/sessions/{id}/tools/decisions", post(decide))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Self { shared, address, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next run proposes these calls.
    pub fn will_propose(&self, calls: Vec<Proposed>) {
        self.shared.core().scripts.push(calls);
    }

    /// The open run proposes more.
    pub fn propose(&self, calls: Vec<Proposed>) {
        let mut core = self.shared.core();
        let run = core.runs.last_mut().unwrap();
        let (id, names) = (run.id.clone(), ids(&calls));
        run.calls.extend(calls);
        self.shared.publish(&mut core, &id, "WaitingForToolApproval", json!({"pending_tool_call_ids": names}));
        drop(core);
        self.shared.change();
    }

    /// The open run says more.
    pub fn write(&self, delta: &str) {
        let mut core = self.shared.core();
        let id = core.runs.last().unwrap().id.clone();
        self.shared.publish(&mut core, &id, "TextDelta", json!({"turn": 1, "delta": delta}));
        drop(core);
        self.shared.change();
    }

    /// The open run has said a text to its end.
    pub fn complete(&self, text: &str) {
        let mut core = self.shared.core();
        let id = core.runs.last().unwrap().id.clone();
        self.shared.publish(&mut core, &id, "TextComplete", json!({"turn": 1, "text": text}));
        drop(core);
        self.shared.change();
    }

    /// Somebody else starts a run.
    pub fn occupy(&self) {
        let id = Uuid::new_v4().to_string();
        self.shared.core().runs.push(Run { id, calls: vec![("elsewhere", "t", json!({}))], ..Run::default() });
    }

    /// Messages that met a run of somebody else.
    pub fn conflicts(&self) -> usize {
        self.shared.core().conflicts
    }

    /// Waits until events were listened to this often.
    pub async fn wait_for_subscriptions(&self, count: usize) {
        let enough = || (self.shared.core().subscriptions >= count).then_some(());
        super::until(&self.shared.changed, "a listener", enough).await;
    }

    /// The run of somebody else ends.
    pub fn vacate(&self) {
        let mut core = self.shared.core();
        core.runs.last_mut().unwrap().decided.insert("elsewhere".to_owned(), json!({"action": "accept"}));
        self.shared.end_if_decided(&mut core);
        drop(core);
        self.shared.change();
    }

    /// The next run fails before its message is answered.
    pub fn will_fail(&self, error: &str) {
        self.shared.core().failure = Some(error.to_owned());
    }

    /// The next messages are refused for now.
    pub fn refuse_messages(&self, count: usize) {
        self.shared.core().refusals = count;
    }

    /// The sessions so far are no more.
    pub fn delete_sessions(&self) {
        let mut core = self.shared.core();
        let sessions: Vec<_> = core.posted.iter().map(|(session, _)| session.clone()).collect();
        core.gone = sessions;
    }

    /// Calls that are proposed without an event, and a gap where it was.
    pub fn propose_unheard(&self, calls: Vec<Proposed>) {
        let mut core = self.shared.core();
        core.runs.last_mut().unwrap().calls.extend(calls);
        core.events.push(Value::Null);
        drop(core);
        self.shared.change();
    }

    /// The open run ends without an event, with this answer, and a gap where they were.
    pub fn end_unheard(&self, answer: &str) {
        let mut core = self.shared.core();
        core.runs.last_mut().unwrap().over = true;
        core.answer = answer.to_owned();
        core.events.push(Value::Null);
        drop(core);
        self.shared.change();
    }

    /// What waits under an id is something else now.
    pub fn change(&self, call: &str, arguments: Value) {
        let mut core = self.shared.core();
        let calls = &mut core.runs.last_mut().unwrap().calls;
        calls.iter_mut().find(|(id, ..)| *id == call).unwrap().2 = arguments;
    }

    /// Decided by a client other than the gateway.
    pub fn decide_elsewhere(&self, call: &str) {
        let mut core = self.shared.core();
        let run = core.runs.last_mut().unwrap();
        run.decided.insert(call.to_owned(), json!({"action": "reject", "by": "cli"}));
        let id = run.id.clone();
        let body = json!({"tool_call_id": call, "tool_name": "t", "reason": "elsewhere"});
        self.shared.publish(&mut core, &id, "ToolRejected", body);
        drop(core);
        self.shared.change();
    }

    /// Whether decisions fail for a while.
    pub fn is_down(&self, down: bool) {
        self.shared.core().down = down;
    }

    /// Texts of the messages, in order.
    pub fn messages(&self) -> Vec<String> {
        self.shared.core().messages.clone()
    }

    /// What sessions were made from.
    pub fn created(&self) -> Vec<Value> {
        self.shared.core().created.iter().map(|(_, body)| body.clone()).collect()
    }

    /// Bodies of messages, with the session of each.
    pub fn posted(&self) -> Vec<(String, Value)> {
        self.shared.core().posted.clone()
    }

    /// How often decisions were posted.
    pub fn posts(&self) -> usize {
        self.shared.core().posts
    }

    /// Waits until decisions were posted this often.
    pub async fn wait_for_posts(&self, count: usize) {
        super::until(&self.shared.changed, "decisions", || (self.posts() >= count).then_some(())).await;
    }

    /// All decisions so far, by call.
    pub fn decisions(&self) -> BTreeMap<String, Value> {
        self.shared.core().runs.iter().flat_map(|run| run.decided.clone()).collect()
    }

    /// Waits until a call is decided.
    pub async fn decision(&self, call: &str) -> Value {
        super::until(&self.shared.changed, &format!("a decision about {call}"), || self.decisions().remove(call)).await
    }

    /// Waits until this many messages arrived.
    pub async fn wait_for_messages(&self, count: usize) {
        super::until(&self.shared.changed, "messages", || (self.messages().len() >= count).then_some(())).await;
    }
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap()
    }

    fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn publish(&self, core: &mut Core, run: &str, event: &str, mut body: Value) {
        body["run_id"] = run.into();
        let id = core.events.len() + 1;
        core.events.push(json!({"id": id, "session_id": self.session, "run_id": run,
            "timestamp": "2026-03-01T09:00:00Z", "event": {event: body}}));
    }

    fn end_if_decided(&self, core: &mut Core) {
        let Some(run) = core.runs.last_mut() else { return };
        if run.over || run.calls.iter().any(|(id, ..)| !run.decided.contains_key(*id)) {
            return;
        }
        run.over = true;
        let id = run.id.clone();
        self.publish(core, &id, "TextComplete", json!({"turn": 1, "text": "All done."}));
        let body = json!({"total_turns": 1, "stop_reason": "completed",
            "total_usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}});
        self.publish(core, &id, "RunCompleted", body);
    }
}

fn refusal(code: &str) -> Value {
    json!({"error": "no", "code": code, "request_id": "req_1"})
}

fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, character| {
        if character.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(character.to_ascii_lowercase());
        text
    })
}

fn ids(calls: &[Proposed]) -> Vec<&'static str> {
    calls.iter().map(|(id, ..)| *id).collect()
}

fn describe(id: &str) -> Value {
    json!({"id": id, "title": "t", "cwd": "/srv", "created_at": "2026-03-01T09:00:00Z",
        "updated_at": "2026-03-01T09:00:00Z", "run_status": {"state": "idle"}})
}

/// One session for each key; the first is always the same.
async fn session(State(shared): State<Arc<Shared>>, headers: HeaderMap, Json(body): Json<Value>) -> Json<Value> {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let mut core = shared.core();
    let at = core.created.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        core.created.push((key, body));
        core.created.len() - 1
    });
    let id = if at == 0 { shared.session.clone() } else { Uuid::from_u128(at as u128).to_string() };
    Json(describe(&id))
}

async fn cancel(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let mut core = shared.core();
    let run = core.runs.last_mut().unwrap();
    run.over = true;
    let id = run.id.clone();
    let body = json!({"total_turns": 1, "stop_reason": "cancelled",
        "total_usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}});
    shared.publish(&mut core, &id, "RunCompleted", body);
    drop(core);
    shared.change();
    Json(json!({"cancelled": true, "run_id": id}))
}

async fn detail(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Json<Value> {
    let core = shared.core();
    let mut session = describe(&id);
    session["last_event_id"] = core.events.len().into();
    if let Some(run) = core.runs.last().filter(|run| !run.over) {
        session["run_status"] = json!({"state": "running", "run_id": run.id});
    }
    Json(json!({"session": session, "config": {"default_model": null, "auto_approve_mode": "none"}}))
}

async fn message(State(shared): State<Arc<Shared>>, Path(session): Path<String>, Json(body): Json<Value>) -> Response {
    let mut core = shared.core();
    if core.gone.contains(&session) {
        return (StatusCode::NOT_FOUND, Json(refusal("not_found"))).into_response();
    }
    if core.refusals > 0 {
        core.refusals -= 1;
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({}))).into_response();
    }
    if core.runs.last().is_some_and(|run| !run.over) {
        core.conflicts += 1;
        let body = refusal("session_already_running");
        return (StatusCode::CONFLICT, Json(body)).into_response();
    }
    core.messages.push(body["message"]["content"].to_string());
    core.posted.push((session, body));
    let calls = if core.scripts.is_empty() { Vec::new() } else { core.scripts.remove(0) };
    let cursor = core.events.len();
    let id = Uuid::new_v4().to_string();
    let names = ids(&calls);
    core.runs.push(Run { id: id.clone(), calls, ..Run::default() });
    if !names.is_empty() {
        shared.publish(&mut core, &id, "WaitingForToolApproval", json!({"pending_tool_call_ids": names}));
    }
    if let Some(error) = core.failure.take() {
        core.runs.last_mut().unwrap().over = true;
        shared.publish(&mut core, &id, "RunError", json!({"error": error, "retryable": false}));
    }
    shared.end_if_decided(&mut core);
    drop(core);
    shared.change();
    Json(json!({"run_id": id, "cursor": cursor})).into_response()
}

async fn messages(State(shared): State<Arc<Shared>>, Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    let core = shared.core();
    let all =
        [("user", "list"), ("assistant", &core.answer)].map(|(role, text)| json!({"role": role, "content": text}));
    let offset: usize = query.get("offset").map_or(0, |offset| offset.parse().unwrap());
    let limit: usize = query.get("limit").map_or(100, |limit| limit.parse().unwrap());
    let page: Vec<_> = all.into_iter().skip(offset).take(limit).collect();
    Json(json!({"messages": page, "total": 2, "last_event_id": core.events.len()}))
}

async fn run(State(shared): State<Arc<Shared>>, Path((session, id)): Path<(String, String)>) -> Json<Value> {
    let core = shared.core();
    let over = core.runs.iter().any(|run| run.id == id && run.over);
    let mut run = json!({"run_id": id, "session_id": session, "state": if over { "completed" } else { "running" },
        "started_at": "2026-03-01T09:00:00Z", "turns": 1, "side_effects": false, "first_event_id": 1, "last_event_id": 1,
        "total_usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}});
    if over {
        run["stop_reason"] = "completed".into();
    }
    Json(run)
}

async fn pending(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let core = shared.core();
    let Some(run) = core.runs.last().filter(|run| !run.over) else {
        return Json(json!({"run_id": null, "tool_calls": []}));
    };
    let waiting = run.calls.iter().filter(|(id, ..)| !run.decided.contains_key(*id));
    let calls: Vec<_> =
        waiting.map(|(id, name, arguments)| json!({"id": id, "name": name, "arguments": arguments})).collect();
    let run_id = (!calls.is_empty()).then_some(&run.id);
    Json(json!({"run_id": run_id, "tool_calls": calls}))
}

async fn decide(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    let mut core = shared.core();
    core.posts += 1;
    if core.down {
        drop(core);
        shared.change();
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({}))).into_response();
    }
    let Some(run) = core.runs.last_mut().filter(|run| !run.over && body["run_id"] == run.id.as_str()) else {
        let body = refusal("session_not_running");
        return (StatusCode::CONFLICT, Json(body)).into_response();
    };
    let (mut results, mut decided) = (serde_json::Map::new(), serde_json::Map::new());
    for (call, decision) in body["decisions"].as_object().unwrap() {
        let outcome = if run.decided.contains_key(call) { "too_late" } else { "applied" };
        if let Some(first) = run.decided.get(call).filter(|first| first["by"].is_string()) {
            let by = json!({"action": first["action"], "by": first["by"], "at": "2026-03-01T09:00:00Z"});
            decided.insert(call.clone(), by);
        }
        run.decided.entry(call.clone()).or_insert_with(|| decision.clone());
        results.insert(call.clone(), outcome.into());
    }
    let answer = json!({"accepted": true, "run_id": run.id, "results": results, "decided": decided});
    shared.end_if_decided(&mut core);
    drop(core);
    shared.change();
    Json(answer).into_response()
}

async fn events(State(shared): State<Arc<Shared>>, Path(_id): Path<String>, headers: HeaderMap) -> Response {
    let after: usize = headers.get("last-event-id").map_or(0, |after| after.to_str().unwrap().parse().unwrap());
    shared.core().subscriptions += 1;
    shared.change();
    let changed = shared.changed.subscribe();
    let frames = stream::unfold((shared, changed, after), |(shared, mut changed, after)| async move {
        loop {
            changed.borrow_and_update();
            let event = shared.core().events.get(after).cloned();
            if let Some(Value::Null) = event {
                let gap = json!({"requested_after_id": after, "oldest_available_id": after + 2,
                    "newest_available_id": after + 2, "resume_hint": "refresh_snapshot_then_resume"});
                let frame = format!("event: gap_detected\ndata: {gap}\n\n");
                return Some((Ok(frame), (shared, changed, after + 1)));
            }
            if let Some(event) = event {
                let name = event["event"].as_object().unwrap().keys().next().map(|name| snake(name)).unwrap();
                let frame = format!("id: {}\nevent: {name}\ndata: {event}\n\n", after + 1);
                return Some((Ok::<_, std::io::Error>(frame), (shared, changed, after + 1)));
            }
            changed.changed().await.ok()?;
        }
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(frames)).into_response()
}
