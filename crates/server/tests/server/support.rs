//! A server on a real socket and a real journal, with a scripted model and scripted tools behind its ports.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use stakpak_agent_core::{
    AgentConfig, Compaction, DayBudget, Effect, InvalidCall, Journal, Model, ModelAnswer, ModelError, ModelEvent,
    ModelRequest, ModelStream, Models, NoSecrets, Place, Policy, Profile, ProfileError, Profiles, Sandbox, SystemClock,
    ToolCall, ToolContext, ToolOutcome, ToolSpec, Tools, UnknownModel, Upkeep,
};
use stakpak_client::StakpakClient;
use stakpak_protocol::{
    EventEnvelope, FinishReason, MessagePart, ModelCost, ModelInfo, ModelLimit, RunLimits, SessionId, ToolCallId, Usage,
};
use stakpak_server::{Limits, Part, Server, ServerConfig, edge};
use stakpak_store::SqliteJournal;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "test-token-0123456789";

/// Another valid token.
pub const ANN: &str = "anns-token-0123456789";

/// What the model does when it is asked next.
pub enum Step {
    /// Text, word by word, then the end.
    Say(&'static str),
    /// The first piece at once, the others when the gate opens, then the end.
    SayGated(Vec<&'static str>, Arc<Semaphore>),
    /// Word after word, without end.
    Babble,
    /// Calls of tools.
    Call(Vec<(&'static str, &'static str, Value)>),
    /// These parts, without deltas.
    Answer(Vec<MessagePart>),
    /// The same, with what the provider said beside them.
    Reason(Vec<MessagePart>, Value),
    /// Nothing, for ever.
    Silence,
    /// An error.
    Fail(ModelError),
    /// A panic.
    Panic,
}

#[derive(Default)]
pub struct ScriptedModel {
    pub steps: Mutex<VecDeque<Step>>,
    pub requests: Mutex<Vec<ModelRequest>>,
    info: Option<ModelInfo>,
}

#[async_trait]
impl Model for ScriptedModel {
    fn info(&self) -> &ModelInfo {
        self.info.as_ref().unwrap()
    }

    async fn stream(&self, request: ModelRequest) -> Result<ModelStream, ModelError> {
        self.requests.lock().unwrap().push(request);
        let step = self.steps.lock().unwrap().pop_front().unwrap_or(Step::Say("nothing is scripted"));
        Ok(match step {
            Step::Say(text) => {
                let words: Vec<_> = text.split_inclusive(' ').map(|word| Ok(ModelEvent::Text(word.into()))).collect();
                stream::iter(words)
                    .chain(stream::iter([done(vec![MessagePart::text(text)], FinishReason::Stop)]))
                    .boxed()
            }
            Step::SayGated(pieces, gate) => {
                let text: String = pieces.concat();
                let pieces = pieces.into_iter().enumerate();
                stream::iter(pieces)
                    .then(move |(index, piece)| {
                        let gate = Arc::clone(&gate);
                        async move {
                            if index > 0 {
                                gate.acquire().await.unwrap().forget();
                            }
                            Ok(ModelEvent::Text(piece.into()))
                        }
                    })
                    .chain(stream::iter([done(vec![MessagePart::text(text)], FinishReason::Stop)]))
                    .boxed()
            }
            Step::Call(calls) => {
                let parts = calls.into_iter().map(|(id, name, arguments)| MessagePart::ToolCall {
                    id: id.into(),
                    name: name.into(),
                    arguments,
                    metadata: None,
                    provider_options: None,
                });
                stream::iter([done(parts.collect(), FinishReason::ToolCalls)]).boxed()
            }
            Step::Answer(parts) => {
                let calls = parts.iter().any(|part| matches!(part, MessagePart::ToolCall { .. }));
                let finish = if calls { FinishReason::ToolCalls } else { FinishReason::Stop };
                stream::iter([done(parts, finish)]).boxed()
            }
            Step::Reason(parts, reasoning) => {
                let Ok(ModelEvent::Done(mut answer)) = done(parts, FinishReason::ToolCalls) else { unreachable!() };
                answer.reasoning = Some(reasoning);
                stream::iter([Ok(ModelEvent::Done(answer))]).boxed()
            }
            Step::Silence => stream::pending().boxed(),
            Step::Babble => stream::repeat(())
                .then(|()| async {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    Ok(ModelEvent::Text("blah ".into()))
                })
                .boxed(),
            Step::Fail(error) => return Err(error),
            Step::Panic => panic!("scripted"),
        })
    }
}

fn done(parts: Vec<MessagePart>, finish: FinishReason) -> Result<ModelEvent, ModelError> {
    let usage = Usage { prompt_tokens: 12, completion_tokens: 5, total_tokens: 17, ..Usage::default() };
    Ok(ModelEvent::Done(ModelAnswer { parts, reasoning: None, usage, finish }))
}

/// Most tokens of an answer of `test/other`: tells which model a request was for.
pub const OTHER_OUTPUT: u64 = 777;

/// `test/other`: the same script under another name.
struct OtherModel {
    script: Arc<ScriptedModel>,
    info: ModelInfo,
}

#[async_trait]
impl Model for OtherModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    async fn stream(&self, request: ModelRequest) -> Result<ModelStream, ModelError> {
        self.script.stream(request).await
    }
}

struct TwoModels(Arc<ScriptedModel>);

impl TwoModels {
    fn other(&self) -> ModelInfo {
        let limit = ModelLimit { output: OTHER_OUTPUT, ..ModelLimit::default() };
        ModelInfo { id: "other".into(), name: "Other".into(), limit, cost: None, ..self.0.info().clone() }
    }
}

impl Models for TwoModels {
    fn list(&self) -> Vec<ModelInfo> {
        vec![self.0.info().clone(), self.other()]
    }
    fn default_model(&self) -> Option<String> {
        Some("test/scripted".into())
    }
    fn resolve(&self, id: &str) -> Result<Arc<dyn Model>, UnknownModel> {
        if id == "test/scripted" || id == "scripted" {
            return Ok(self.0.clone());
        }
        if id == "test/other" || id == "other" {
            return Ok(Arc::new(OtherModel { script: self.0.clone(), info: self.other() }));
        }
        Err(UnknownModel { message: format!("{id} is unknown; did you mean test/scripted?") })
    }
}

struct OneProfile(Arc<Profile>);

impl Profiles for OneProfile {
    fn profile(&self, name: Option<&str>) -> Result<Arc<Profile>, ProfileError> {
        match name {
            None | Some("default") => Ok(self.0.clone()),
            Some(name) => Err(ProfileError { message: format!("{name} is unknown") }),
        }
    }
}

/// `stakpak__act` changes something (counted), `stakpak__look` does not. Both wait for the gate when `gated` is true, and
/// say what `says` says.
pub struct FakeTools {
    specs: Vec<ToolSpec>,
    pub acted: Mutex<Vec<ToolCallId>>,
    pub directories: Mutex<Vec<PathBuf>>,
    pub forgotten: Mutex<Vec<SessionId>>,
    pub keep_files: AtomicBool,
    pub started: Semaphore,
    pub gate: Semaphore,
}

impl FakeTools {
    pub fn new() -> Self {
        let spec = |name: &str| ToolSpec {
            name: format!("stakpak__{name}"),
            description: name.into(),
            input_schema: json!({"type": "object"}),
        };
        Self {
            specs: vec![spec("act"), spec("look")],
            acted: Mutex::default(),
            directories: Mutex::default(),
            forgotten: Mutex::default(),
            keep_files: AtomicBool::new(false),
            started: Semaphore::new(0),
            gate: Semaphore::new(0),
        }
    }
}

#[async_trait]
impl Tools for FakeTools {
    fn specs(&self) -> Arc<[ToolSpec]> {
        self.specs.as_slice().into()
    }
    fn check(&self, name: &str, arguments: &Value) -> Result<(), InvalidCall> {
        if !self.specs.iter().any(|spec| spec.name == name) {
            return Err(InvalidCall { code: "UNKNOWN_TOOL", message: format!("there is no tool {name}") });
        }
        if !arguments.is_object() {
            return Err(InvalidCall { code: "INVALID_ARGUMENTS", message: "must be an object".into() });
        }
        Ok(())
    }
    fn effect(&self, call: &ToolCall) -> Effect {
        if call.name == "stakpak__look" { Effect::Pure } else { Effect::Unsafe }
    }
    fn place(&self, _call: &ToolCall, _cwd: &Path) -> Option<Place> {
        None
    }
    fn needs_question(&self, _call: &ToolCall, _cwd: &Path) -> Option<String> {
        None
    }
    async fn run(&self, call: &ToolCall, context: ToolContext) -> ToolOutcome {
        self.acted.lock().unwrap().push(call.id.clone());
        self.directories.lock().unwrap().push(context.cwd.clone());
        self.started.add_permits(1);
        if call.arguments["gated"] == json!(true) {
            tokio::select! {
                permit = self.gate.acquire() => permit.unwrap().forget(),
                () = context.cancel.cancelled() => return ToolOutcome::Cancelled,
            }
        }
        match call.arguments["says"].as_str() {
            Some(says) => ToolOutcome::text(says),
            None => ToolOutcome::text(format!("{} done", call.id)),
        }
    }
    async fn end_orphans(&self, _session: SessionId, _call: &ToolCallId) -> usize {
        0
    }
    async fn forget_session(&self, session: SessionId) -> std::io::Result<()> {
        if self.keep_files.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        self.forgotten.lock().unwrap().push(session);
        Ok(())
    }
}

/// What a server may be started with.
pub struct Setting {
    pub journal: Arc<dyn Journal>,
    pub upkeep: Arc<dyn Upkeep>,
    pub parts: Vec<Arc<dyn Part>>,
    pub agent: AgentConfig,
    pub limits: Limits,
    pub profile_limits: RunLimits,
    pub profile_day: DayBudget,
    pub write_stall: Duration,
    /// Of the profile.
    pub has_own_policy: bool,
}

impl Setting {
    pub fn on(directory: &tempfile::TempDir) -> Self {
        let journal = SqliteJournal::open(&directory.path().join("journal.db")).unwrap();
        Self {
            journal: Arc::new(journal.clone()),
            upkeep: Arc::new(journal),
            parts: Vec::new(),
            agent: AgentConfig::default(),
            limits: Limits::default(),
            profile_limits: RunLimits::default(),
            profile_day: DayBudget::default(),
            write_stall: edge::WRITE_STALL,
            has_own_policy: false,
        }
    }
}

/// A running server. Dropping it without [`TestServer::stop`] is a crash: nothing is drained.
pub struct TestServer {
    pub server: Server,
    pub model: Arc<ScriptedModel>,
    pub tools: Arc<FakeTools>,
    pub journal: Arc<dyn Journal>,
    pub upkeep: Arc<dyn Upkeep>,
    pub profiles: Arc<dyn Profiles>,
    pub url: String,
    pub directory: Arc<tempfile::TempDir>,
    serving: JoinHandle<std::io::Result<()>>,
    shutdown: CancellationToken,
}

impl TestServer {
    pub async fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), steps, AgentConfig::default()).await
    }

    pub async fn start_limited(steps: impl IntoIterator<Item = Step>, agent: AgentConfig, limits: Limits) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        Self::start_with(directory, steps, agent, limits, edge::WRITE_STALL).await
    }

    pub async fn start_in(
        directory: Arc<tempfile::TempDir>,
        steps: impl IntoIterator<Item = Step>,
        agent: AgentConfig,
    ) -> Self {
        Self::start_with(directory, steps, agent, Limits::default(), edge::WRITE_STALL).await
    }

    pub async fn start_with(
        directory: Arc<tempfile::TempDir>,
        steps: impl IntoIterator<Item = Step>,
        agent: AgentConfig,
        limits: Limits,
        write_stall: Duration,
    ) -> Self {
        let setting = Setting { agent, limits, write_stall, ..Setting::on(&directory) };
        Self::start_on(directory, steps, setting).await
    }

    pub async fn start_on(
        directory: Arc<tempfile::TempDir>,
        steps: impl IntoIterator<Item = Step>,
        setting: Setting,
    ) -> Self {
        let Setting { journal, upkeep, parts, agent, limits, profile_limits, profile_day, write_stall, has_own_policy } =
            setting;
        let info = ModelInfo {
            id: "scripted".into(),
            name: "Scripted".into(),
            provider: "test".into(),
            reasoning: false,
            cost: Some(ModelCost { input: 3.0, output: 15.0, cache_read: None, cache_write: None }),
            limit: ModelLimit::default(),
            release_date: None,
        };
        let steps = Mutex::new(steps.into_iter().collect());
        let model = Arc::new(ScriptedModel { steps, info: Some(info), ..ScriptedModel::default() });
        let tools = Arc::new(FakeTools::new());
        let profile = Profile {
            name: "default".into(),
            models: Arc::new(TwoModels(model.clone())),
            policy: Policy::with_defaults().and_approving(["look"]),
            has_own_policy,
            system_prompt: None,
            max_turns: None,
            no_progress: stakpak_agent_core::NoProgress::default(),
            limits: profile_limits,
            day: profile_day,
            sandbox: Sandbox::default(),
            compaction: Compaction::default(),
            reasoning: None,
            fallback: Vec::new(),
        };
        let config = ServerConfig {
            token: Some(TOKEN.into()),
            named_tokens: [("ann".to_owned(), ANN.to_owned())].into(),
            default_cwd: directory.path().into(),
            version: "1.2.3".into(),
            agent,
            limits,
            secrets: Arc::new(NoSecrets),
            parts,
        };
        let profiles = Arc::new(OneProfile(Arc::new(profile)));
        let server = Server::new(config, journal.clone(), profiles.clone(), tools.clone(), Arc::new(SystemClock));
        server.recover().await.unwrap();
        let router = edge::wrap(stakpak_server::router(&server), edge::EdgePolicy::default(), Some(&server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(edge::serve(listener, router, write_stall, shutdown.clone()));
        Self { server, model, tools, journal, upkeep, profiles, url, directory, serving, shutdown }
    }

    /// Ends the process as far as a test can: sessions stop where they are, nothing is drained.
    pub async fn crash(self) -> Arc<tempfile::TempDir> {
        self.serving.abort();
        self.server.drain(Duration::ZERO).await;
        self.directory.clone()
    }

    /// Ends the process as SIGTERM does.
    pub async fn stop(self, budget: Duration) -> Arc<tempfile::TempDir> {
        self.server.drain(budget).await;
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
        self.directory
    }

    pub fn client(&self) -> StakpakClient {
        StakpakClient::new(&self.url, TOKEN)
    }

    /// Plain HTTP, for what the client hides.
    pub fn http(&self) -> Http {
        self.http_from(1)
    }

    /// The same, from the address 127.0.0.`host`.
    pub fn http_from(&self, host: u8) -> Http {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = std::net::IpAddr::from([127, 0, 0, host]);
        let client = reqwest::Client::builder().no_proxy().local_address(address).build().unwrap();
        Http { client, base: self.url.clone() }
    }

    /// A session and a run of this message in it.
    pub async fn run(&self, text: &str, auto_approve: Value) -> Running {
        let http = self.http();
        let session = http.session("test").await;
        self.run_in(&session, text, auto_approve).await
    }

    pub async fn run_in(&self, session: &str, text: &str, auto_approve: Value) -> Running {
        let http = self.http();
        let body = json!({"message": {"role": "user", "content": text}, "overrides": {"auto_approve": auto_approve}});
        let (status, posted) = http.post(&format!("/v1/sessions/{session}/messages"), body).await;
        assert_eq!(status, 200, "{posted}");
        let events = self.client().subscribe_events(session, posted["cursor"].as_u64()).await.unwrap();
        Running { session: session.to_owned(), run: posted["run_id"].as_str().unwrap().to_owned(), events, http }
    }
}

pub struct Http {
    pub client: reqwest::Client,
    base: String,
}

impl Http {
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(TOKEN)
    }
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.request(reqwest::Method::POST, path).json(&body)).await
    }
    pub async fn post_keyed(&self, path: &str, key: &str, body: Value) -> (u16, Value) {
        answer(self.request(reqwest::Method::POST, path).header("idempotency-key", key).json(&body)).await
    }
    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(reqwest::Method::GET, path)).await
    }
    pub async fn patch(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.request(reqwest::Method::PATCH, path).json(&body)).await
    }
    pub async fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.request(reqwest::Method::DELETE, path)).await
    }

    /// A new session's id.
    pub async fn session(&self, title: &str) -> String {
        self.post("/v1/sessions", json!({"title": title})).await.1["id"].as_str().unwrap().to_owned()
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
}

/// A run and its events.
pub struct Running {
    pub session: String,
    pub run: String,
    pub events: stakpak_client::EventStream,
    pub http: Http,
}

impl Running {
    pub async fn next(&mut self) -> EventEnvelope {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(20), self.events.next_event());
            let event = next.await.expect("an event within 20 s").expect("the stream goes on");
            if let Some(envelope) = event.envelope() {
                return envelope;
            }
        }
    }

    /// Events up to the first of this name, which is the last.
    pub async fn until(&mut self, name: &str) -> Vec<EventEnvelope> {
        let mut seen = Vec::new();
        loop {
            let next = self.next().await;
            let found = next.event.name() == name;
            assert!(found || !next.event.is_terminal(), "the run ended before {name}: {seen:#?} {next:#?}");
            seen.push(next);
            if found {
                return seen;
            }
        }
    }

    pub async fn finish(&mut self) -> Vec<EventEnvelope> {
        let mut seen = Vec::new();
        loop {
            seen.push(self.next().await);
            if seen.last().unwrap().event.is_terminal() {
                return seen;
            }
        }
    }

    pub async fn decide(&self, call: &str, action: &str) -> (u16, Value) {
        let body = json!({"run_id": self.run, "decisions": {call: {"action": action}}});
        self.http.post(&format!("/v1/sessions/{}/tools/decisions", self.session), body).await
    }

    pub async fn cancel(&self) -> (u16, Value) {
        self.http.post(&format!("/v1/sessions/{}/cancel", self.session), json!({"run_id": self.run})).await
    }

    pub async fn messages(&self) -> Value {
        self.http.get(&format!("/v1/sessions/{}/messages", self.session)).await.1
    }
}

pub fn names(events: &[EventEnvelope]) -> Vec<&'static str> {
    events.iter().map(|envelope| envelope.event.name()).collect()
}
