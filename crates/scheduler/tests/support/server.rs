//! An agent server on a real socket: sessions, messages, events, runs, decisions and cancel as the contract has them, with
//! idempotency keys, and with points at which the client can be made to die.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::Utc;
use serde_json::{Value, json};
use stakpak_protocol::{
    DecisionsRequest, Event, EventEnvelope, EventId, LastError, LastErrorCode, Message, MessagePart, Run, RunId,
    RunState, SessionId, StopDetail, StopReason, ToolCallId, Usage, Usd,
};
use tokio::sync::{Notify, watch};

use super::chat::Chat;

/// What runs do.
#[derive(Debug, Clone, PartialEq)]
pub enum Play {
    /// Say this and complete.
    Answer(&'static str),
    /// Go on until cancelled.
    Hang,
    /// Go on whatever is asked.
    Stuck,
    /// Ask for a person about one call, then tell what was decided and complete.
    Ask,
    /// The same, and complete without a word.
    AskInVain,
    /// Fail with this text.
    Fail(&'static str),
    /// The same, because the next call would cost more than the run may.
    Broke(&'static str),
    /// The same, and it may pass.
    Stumble(&'static str),
    /// The same, after a tool with side effects.
    Spoil(&'static str),
    /// Close every event stream at once, as a proxy may; the run goes on.
    CutStreams,
    /// Have no session to give, and none for so many seconds.
    Busy(u64),
    /// Refuse the message.
    Refuse(u16, &'static str),
    /// End at the last turn.
    MaxTurns,
    /// The same calls with the same results, until it is stopped.
    Repeat,
}

/// Where the client dies: at request number `at`, before or after it had its effect, and never with an answer.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    pub at: usize,
    pub after_effect: bool,
}

/// Tokens of the call that is under way when a run ends.
pub const LAST_CALL: u64 = 17;

#[derive(Debug, Clone)]
pub struct AgentServer {
    pub url: String,
    /// The gateway beside it.
    pub chat: Chat,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<Model>,
    changed: watch::Sender<u64>,
    died: Notify,
}

#[derive(Debug)]
struct Model {
    play: Play,
    sessions: HashMap<SessionId, Session>,
    answers: HashMap<(String, String), (Value, Value)>,
    requests: Vec<String>,
    death: Option<Death>,
    decisions: Vec<DecisionsRequest>,
    posted: Vec<Value>,
}

#[derive(Debug)]
struct Session {
    title: String,
    events: Vec<EventEnvelope>,
    messages: Vec<Message>,
    run: Option<Run>,
}

type Shape = State<Arc<Shared>>;

impl AgentServer {
    pub async fn start() -> Self {
        let model = Model {
            play: Play::Answer("done"),
            sessions: HashMap::new(),
            answers: HashMap::new(),
            requests: Vec::new(),
            death: None,
            decisions: Vec::new(),
            posted: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(model), changed: watch::channel(0).0, died: Notify::new() });
        let router = Router::new()
            .route("/v1/sessions", post(create))
            .route("/v1/sessions/{session}/messages", get(messages).post(message))
            .route("/v1/sessions/{session}/events", get(events))
            .route("/v1/sessions/{session}/runs/{run}", get(run))
            .route("/v1/sessions/{session}/tools/pending", get(pending))
            .route("/v1/sessions/{session}/tools/decisions", post(decisions))
            .route("/v1/sessions/{session}/cancel", post(cancel))
            .layer(middleware::from_fn_with_state(Arc::clone(&shared), dying))
            .with_state(Arc::clone(&shared));
        let chat = Chat::default();
        let start = {
            let shared = Arc::clone(&shared);
            move |interactive: &Value, runs: bool| shared.start_in_chat(interactive, runs)
        };
        let router = router.merge(chat.router(start).layer(middleware::from_fn_with_state(Arc::clone(&shared), dying)));
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, chat, shared }
    }

    pub fn play(&self, play: Play) {
        self.shared.state().play = play;
    }

    /// The client dies once, there.
    pub fn die(&self, death: Option<Death>) {
        let mut state = self.shared.state();
        state.requests.clear();
        state.death = death;
    }

    /// The same, and the requests so far are remembered.
    pub fn die_later(&self, death: Death) {
        self.shared.state().death = Some(death);
    }

    /// As after a day: a request that is repeated under its key has its effect again.
    pub fn forget_keys(&self) {
        self.shared.state().answers.clear();
    }

    pub async fn died(&self) {
        self.shared.died.notified().await;
    }

    /// Method and path of every request since the last [`AgentServer::die`], ids left out.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    /// Agent runs that were ever started.
    pub fn runs(&self) -> usize {
        self.shared.state().posted.len()
    }

    pub fn titles(&self) -> Vec<String> {
        self.shared.state().sessions.values().map(|session| session.title.clone()).collect()
    }

    pub fn decisions(&self) -> Vec<DecisionsRequest> {
        self.shared.state().decisions.clone()
    }

    /// Bodies of accepted messages.
    pub fn posted(&self) -> Vec<Value> {
        self.shared.state().posted.clone()
    }

    pub fn session_of_run(&self) -> SessionId {
        *self.shared.state().sessions.iter().find(|(_, session)| session.run.is_some()).unwrap().0
    }

    /// How the only run stands.
    pub fn state_of_run(&self) -> RunState {
        let state = self.shared.state();
        state.sessions.values().find_map(|session| session.run.as_ref()).unwrap().state
    }

    /// Every run that goes on has made a model call that took so many tokens.
    pub fn report(&self, tokens: u64) {
        self.report_of("", tokens);
    }

    /// Only runs of sessions whose title begins so.
    pub fn report_of(&self, title: &str, tokens: u64) {
        self.report_costs(title, tokens, None);
    }

    /// And it cost so many millionths of a dollar, if the price is known.
    pub fn report_costs(&self, title: &str, tokens: u64, micros: Option<u64>) {
        let cost_usd = micros.map(Usd::from_micros);
        for session in self.shared.state().sessions.values_mut().filter(|session| session.title.starts_with(title)) {
            let Some(run) = session.run.as_mut().filter(|run| !run.state.is_terminal()) else { continue };
            run.total_usage.total_tokens += tokens;
            run.cost_usd = cost_usd.map(|cost| run.cost_usd.unwrap_or_default().plus(cost));
            let (run_id, turn) = (run.run_id, run.turns);
            let usage = Usage { total_tokens: tokens, ..Usage::default() };
            session.event(Event::UsageReport { run_id, turn, usage, cost_usd });
        }
        self.shared.tell();
    }

    /// Ends every run that goes on.
    pub fn complete_all(&self, text: &str) {
        for session in self.shared.state().sessions.values_mut() {
            session.end(text, RunState::Completed, StopReason::Completed);
        }
        self.shared.tell();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Model> {
        self.state.lock().unwrap()
    }

    /// A run of the gateway, which posts to this server as others do.
    fn start_in_chat(&self, interactive: &Value, runs: bool) -> String {
        let mut state = self.state();
        let (id, play) = (SessionId::random(), state.play.clone());
        let title = interactive["title"].as_str().unwrap().to_owned();
        let mut session = Session { title, events: Vec::new(), messages: Vec::new(), run: None };
        if runs {
            let prompt = interactive["prompt"].as_str().unwrap();
            session.begin(id, Message::user(prompt.to_owned()), &play);
            state.posted.push(interactive.clone());
        }
        state.sessions.insert(id, session);
        drop(state);
        self.tell();
        id.to_string()
    }

    fn tell(&self) {
        self.changed.send_modify(|version| *version += 1);
    }
}

async fn dying(State(shared): Shape, request: Request, next: Next) -> Response {
    let path: Vec<&str> =
        request.uri().path().split('/').map(|part| if part.len() == 36 { "_" } else { part }).collect();
    let (here, after_effect) = {
        let mut state = shared.state();
        let here = state.requests.len();
        state.requests.push(format!("{} {}", request.method(), path.join("/")));
        (state.death.is_some_and(|death| death.at == here), state.death.is_some_and(|death| death.after_effect))
    };
    if here && !after_effect {
        shared.died.notify_one();
        return std::future::pending().await;
    }
    let response = next.run(request).await;
    if here {
        shared.died.notify_one();
        return std::future::pending().await;
    }
    response
}

/// The stored answer of the key, a conflict for another body, or the answer of `effect`.
fn once(
    state: &mut Model,
    path: &str,
    headers: &HeaderMap,
    body: &Value,
    effect: impl FnOnce(&mut Model) -> Value,
) -> Response {
    let key = headers.get("idempotency-key").map(|key| (path.to_owned(), key.to_str().unwrap().to_owned()));
    if let Some(key) = &key
        && let Some((stored, answer)) = state.answers.get(key)
    {
        return match stored == body {
            true => Json(answer.clone()).into_response(),
            false => refusal(409, "idempotency_key_reused"),
        };
    }
    let answer = effect(state);
    if let Some(key) = key {
        state.answers.insert(key, (body.clone(), answer.clone()));
    }
    Json(answer).into_response()
}

fn refusal(status: u16, code: &str) -> Response {
    let body = json!({ "error": format!("refused: {code}"), "code": code, "request_id": "req_0" });
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

async fn create(State(shared): Shape, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if let Play::Busy(seconds) = shared.state().play {
        let mut response = refusal(503, "overloaded");
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        return response;
    }
    once(&mut shared.state(), "sessions", &headers, &body, |state| {
        let id = SessionId::random();
        let title = body["title"].as_str().unwrap().to_owned();
        let session = Session { title: title.clone(), events: Vec::new(), messages: Vec::new(), run: None };
        state.sessions.insert(id, session);
        let now = Utc::now();
        json!({ "id": id, "title": title, "cwd": null, "created_at": now, "updated_at": now,
                "run_status": { "state": "idle" } })
    })
}

async fn message(
    State(shared): Shape,
    Path(session): Path<SessionId>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let response = {
        let mut state = shared.state();
        if let Play::Refuse(status, code) = state.play {
            return refusal(status, code);
        }
        once(&mut state, &format!("{session}/messages"), &headers, &body, |state| {
            state.posted.push(body.clone());
            let play = state.play.clone();
            let message = serde_json::from_value(body["message"].clone()).unwrap();
            let run = state.sessions.get_mut(&session).unwrap().begin(session, message, &play);
            json!({ "run_id": run, "cursor": 0 })
        })
    };
    shared.tell();
    response
}

impl Session {
    fn begin(&mut self, session: SessionId, message: Message, play: &Play) -> RunId {
        let run_id = RunId::random();
        self.messages.push(message);
        self.run = Some(Run {
            run_id,
            session_id: session,
            state: RunState::Running,
            stop_reason: None,
            detail: None,
            started_at: Utc::now(),
            ended_at: None,
            turns: 1,
            side_effects: false,
            checkpoint_id: None,
            first_event_id: EventId(1),
            last_event_id: EventId(1),
            total_usage: Usage::default(),
            cost_usd: None,
            last_error: None,
        });
        self.event(Event::RunStarted { run_id });
        self.event(Event::TurnStarted { run_id, turn: 1 });
        match play {
            Play::Answer(text) => self.end(text, RunState::Completed, StopReason::Completed),
            Play::MaxTurns => self.end("not yet", RunState::Completed, StopReason::MaxTurns),
            Play::Repeat => {
                self.run.as_mut().unwrap().detail = Some(StopDetail::NoProgress);
                self.end("not yet", RunState::Completed, StopReason::MaxTurns);
            }
            Play::Fail(text) | Play::Broke(text) | Play::Stumble(text) | Play::Spoil(text) => {
                self.run.as_mut().unwrap().side_effects = matches!(play, Play::Spoil(_));
                self.end(text, RunState::Failed, StopReason::Error);
                let error = self.run.as_mut().unwrap().last_error.as_mut().unwrap();
                error.retryable = !matches!(play, Play::Fail(_) | Play::Broke(_));
                if matches!(play, Play::Broke(_)) {
                    error.code = LastErrorCode::BudgetExceeded;
                }
            }
            Play::Hang | Play::Stuck | Play::CutStreams => {
                self.event(Event::TextDelta { run_id, delta: "thinking ".to_owned() });
            }
            Play::Refuse(..) | Play::Busy(_) => {}
            Play::Ask | Play::AskInVain => {
                self.run.as_mut().unwrap().state = RunState::WaitingApproval;
                let pending_tool_call_ids = vec![ToolCallId::from("call_1")];
                self.event(Event::WaitingForToolApproval { run_id, pending_tool_call_ids });
            }
        }
        run_id
    }

    fn event(&mut self, event: Event) {
        let run = self.run.as_ref().unwrap();
        self.events.push(EventEnvelope {
            id: EventId(self.events.len() as u64 + 1),
            session_id: run.session_id,
            run_id: Some(run.run_id),
            timestamp: Utc::now(),
            event,
        });
    }

    fn end(&mut self, text: &str, state: RunState, stop_reason: StopReason) {
        let Some(run) = self.run.as_mut().filter(|run| !run.state.is_terminal()) else { return };
        run.state = state;
        run.stop_reason = Some(stop_reason);
        run.ended_at = Some(Utc::now());
        run.total_usage.total_tokens += LAST_CALL;
        let (run_id, detail) = (run.run_id, run.detail);
        if state == RunState::Failed {
            run.last_error = Some(LastError {
                code: LastErrorCode::ProviderError,
                message: text.to_owned(),
                run_id,
                at: Utc::now(),
                retryable: false,
            });
            self.event(Event::RunError { run_id, error: text.to_owned(), retryable: false, unconsumed: Vec::new() });
            return;
        }
        self.messages.push(Message::assistant(vec![MessagePart::text(text)]));
        self.event(Event::RunCompleted {
            run_id,
            total_turns: 1,
            total_usage: Usage::default(),
            stop_reason,
            detail,
            unconsumed: Vec::new(),
        });
    }
}

async fn messages(State(shared): Shape, Path(session): Path<SessionId>) -> Response {
    let state = shared.state();
    let messages = &state.sessions[&session].messages;
    Json(json!({ "messages": messages, "total": messages.len(), "last_event_id": 0 })).into_response()
}

async fn run(State(shared): Shape, Path((session, run)): Path<(SessionId, RunId)>) -> Response {
    let state = shared.state();
    match state.sessions.get(&session).and_then(|session| session.run.as_ref()) {
        Some(found) if found.run_id == run => Json(found).into_response(),
        _ => refusal(404, "not_found"),
    }
}

async fn pending(State(shared): Shape, Path(session): Path<SessionId>) -> Response {
    let state = shared.state();
    match &state.sessions[&session].run {
        Some(run) if run.state == RunState::WaitingApproval => Json(json!({
            "run_id": run.run_id,
            "tool_calls": [{ "id": "call_1", "name": "stakpak__remove", "arguments": { "path": "/srv" },
                             "approval": "ask", "approval_reason": "removes files" }]
        }))
        .into_response(),
        _ => Json(json!({ "run_id": null, "tool_calls": [] })).into_response(),
    }
}

async fn decisions(
    State(shared): Shape,
    Path(session): Path<SessionId>,
    Json(request): Json<DecisionsRequest>,
) -> Response {
    let response = {
        let mut state = shared.state();
        let text = if state.play == Play::AskInVain { "" } else { "done" };
        let session = state.sessions.get_mut(&session).unwrap();
        let waits = session.run.as_ref().unwrap().state == RunState::WaitingApproval;
        session.end(text, RunState::Completed, StopReason::Completed);
        let outcome = if waits { "applied" } else { "too_late" };
        let results: BTreeMap<_, _> = request.decisions.keys().map(|call| (call, outcome)).collect();
        let mut answer = json!({ "accepted": true, "run_id": request.run_id, "results": results });
        if waits {
            state.decisions.push(request);
        } else if let Some(first) = state.decisions.last() {
            let decided: BTreeMap<_, _> = first
                .decisions
                .iter()
                .map(|(call, decision)| {
                    let by = decision.by.as_deref().unwrap_or("client");
                    (call, json!({ "action": decision.action, "by": by, "at": Utc::now() }))
                })
                .collect();
            answer["decided"] = json!(decided);
        }
        Json(answer).into_response()
    };
    shared.tell();
    response
}

async fn cancel(State(shared): Shape, Path(session): Path<SessionId>, Json(body): Json<Value>) -> Response {
    let mut state = shared.state();
    if state.play != Play::Stuck {
        state.sessions.get_mut(&session).unwrap().end("stopped", RunState::Cancelled, StopReason::Cancelled);
    }
    drop(state);
    shared.tell();
    Json(json!({ "cancelled": true, "run_id": body["run_id"] })).into_response()
}

async fn events(State(shared): Shape, Path(session): Path<SessionId>, headers: HeaderMap) -> Response {
    let after: u64 = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(u64::MAX);
    let cut = shared.state().play == Play::CutStreams;
    let changed = shared.changed.subscribe();
    let frames =
        futures_util::stream::unfold((shared, changed, after), move |(shared, mut changed, mut after)| async move {
            loop {
                changed.mark_unchanged();
                let mut frames = String::new();
                for event in shared.state().sessions[&session].events.iter() {
                    if event.id.0 <= after {
                        continue;
                    }
                    after = event.id.0;
                    let data = serde_json::to_string(event).unwrap();
                    frames.push_str(&format!("id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.event.name()));
                }
                if !frames.is_empty() {
                    return Some((Ok::<_, std::io::Error>(Bytes::from(frames)), (shared, changed, after)));
                }
                if cut || changed.changed().await.is_err() {
                    return None;
                }
            }
        });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(frames)).into_response()
}
