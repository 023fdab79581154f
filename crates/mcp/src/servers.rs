//! All servers of a configuration, and the product's own tools: one list, one door.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::Value;
use stakpak_agent_core::{
    Effect, InvalidCall, Place, Probe, Probed, Sandbox, SandboxUnavailable, SecretGrant, ToolCall, ToolContext,
    ToolOutcome, ToolSpec, Tools,
};
use stakpak_protocol::{SessionId, ToolCallId};
use tokio::{task::spawn_blocking, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{
    call::{Called, call},
    cap::capped,
    catalogue::Offered,
    host::Host,
    kept::Kept,
    result::{self, Answer},
    server::{Server, Stop},
    settings::Settings,
};

/// The servers. Nothing is started before it is wanted; [`Servers::stop`] ends what was.
#[derive(Debug)]
pub struct Servers {
    servers: Vec<Arc<Server>>,
    kept: Arc<Kept>,
    host: Host,
    tasks: TaskTracker,
    stop: Stop,
}

/// How a server is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReport {
    /// Its name.
    pub name: String,
    /// `ready`, or what else and why.
    pub state: String,
    /// Whether it can be called.
    pub is_ready: bool,
    /// Full name and description of its tools.
    pub tools: Vec<(String, String)>,
    /// Tools that are not offered, and why.
    pub refused: Vec<String>,
}

impl Servers {
    /// Makes them ready to be started, and starts those whose tools are not known yet: in the background, all at once.
    #[must_use]
    pub fn new(settings: Vec<Settings>, host: Host) -> Arc<Self> {
        let kept = Arc::new(Kept::open(&host.places.state));
        let (tasks, stop) = (TaskTracker::new(), Stop::default());
        let servers = settings
            .into_iter()
            .enumerate()
            .map(|(index, settings)| Arc::new(Server::new(settings, index, Arc::clone(&kept), host.clone())));
        let servers: Vec<_> = servers.collect();
        for server in &servers {
            tasks.spawn(Arc::clone(server).keep(stop.clone()));
            if !server.tools().known {
                server.want();
            }
        }
        tasks.close();
        Arc::new(Self { servers, kept, host, tasks, stop })
    }

    /// Whether there is any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Ends every server; what has not ended by itself within that time is killed.
    pub async fn stop(&self, within: Duration) {
        self.stop.asked.cancel();
        if timeout(within, self.tasks.wait()).await.is_err() {
            self.stop.now.cancel();
            self.tasks.wait().await;
        }
    }

    /// Starts every server and waits until each is ready or has failed.
    pub async fn test(&self) -> Vec<ServerReport> {
        join_all(self.servers.iter().map(|server| server.settled())).await;
        self.servers.iter().map(|server| server.report()).collect()
    }

    fn offered(&self) -> BTreeMap<String, Arc<Offered>> {
        let all = self.servers.iter().flat_map(|server| server.tools().offered);
        all.map(|tool| (tool.spec.name.clone(), tool)).collect()
    }

    async fn run(&self, tool: &Arc<Offered>, made: &ToolCall, context: ToolContext) -> ToolOutcome {
        let Some(server) = self.servers.get(tool.server) else {
            return ToolOutcome::error("UNKNOWN_TOOL", "its server is gone");
        };
        // What the arguments hold now goes to the server and nowhere else.
        let (session, grant) = (context.session_id, SecretGrant::Rules(&server.settings.secrets));
        let arguments = match self.host.secrets.restore(session, made.arguments.clone(), grant).await {
            Ok(arguments) => arguments,
            Err(error) => return ToolOutcome::error(error.code(), &error.to_string()),
        };
        self.approve(tool).await;
        match call(server, tool, made, arguments, &context).await {
            Called::Ended { answer, is_error } => {
                ToolOutcome::Completed { result: self.finished(answer, made, session).await, is_error }
            }
            Called::Cancelled => ToolOutcome::Cancelled,
        }
    }

    /// The answer as it may be seen: clean, without secrets, not too long.
    async fn finished(&self, answer: Answer, made: &ToolCall, session: SessionId) -> Value {
        let Answer { text, images } = answer;
        if text.is_empty() && !images.is_empty() {
            return result::with_images(None, &images);
        }
        let text = self.host.secrets.hide(session, result::clean(&text)).await;
        let directory = self.host.places.artefacts.join(session.to_string());
        let (name, id) = (made.name.clone(), made.id.clone());
        let text = spawn_blocking(move || capped(text, &directory, &name, &id)).await;
        let text = text.unwrap_or_else(|_| "the result could not be read".to_owned());
        if images.is_empty() { Value::String(text) } else { result::with_images(Some(&text), &images) }
    }

    /// A call that runs was approved: by a person, or by a rule for a tool that had not changed.
    async fn approve(&self, tool: &Arc<Offered>) {
        let (kept, tool) = (Arc::clone(&self.kept), Arc::clone(tool));
        let written = spawn_blocking(move || kept.approve(&tool.spec.name, &tool.hash)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(error = &error as &dyn std::error::Error, "an approval of a tool cannot be kept");
        }
    }
}

/// The product's own tools and those of the servers.
#[derive(Clone)]
pub struct AllTools {
    own: Arc<dyn Tools>,
    servers: Arc<Servers>,
    /// Of a run; none: as they are now.
    taken: Option<Arc<List>>,
}

struct List {
    specs: Arc<[ToolSpec]>,
    foreign: BTreeMap<String, Arc<Offered>>,
}

impl std::fmt::Debug for AllTools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AllTools").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl AllTools {
    /// Puts them together.
    #[must_use]
    pub fn new(own: Arc<dyn Tools>, servers: Arc<Servers>) -> Self {
        Self { own, servers, taken: None }
    }

    fn list(&self) -> Arc<List> {
        self.taken.clone().unwrap_or_else(|| Arc::new(self.now()))
    }

    fn now(&self) -> List {
        let foreign = self.servers.offered();
        let mut specs: Vec<ToolSpec> = self.own.specs().to_vec();
        specs.extend(foreign.values().map(|tool| tool.spec.clone()));
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        List { specs: specs.into(), foreign }
    }

    fn foreign(&self, name: &str) -> Option<Arc<Offered>> {
        self.list().foreign.get(name).cloned()
    }
}

#[async_trait]
impl Tools for AllTools {
    fn specs(&self) -> Arc<[ToolSpec]> {
        Arc::clone(&self.list().specs)
    }

    async fn for_run(&self) -> Option<Arc<dyn Tools>> {
        for server in &self.servers.servers {
            server.want();
        }
        join_all(self.servers.servers.iter().map(|server| server.first_list())).await;
        let own = self.own.for_run().await.unwrap_or_else(|| Arc::clone(&self.own));
        let taken = Self { own, servers: Arc::clone(&self.servers), taken: None };
        let list = Arc::new(taken.now());
        Some(Arc::new(Self { taken: Some(list), ..taken }))
    }

    fn meant(&self, call: ToolCall) -> ToolCall {
        if self.foreign(&call.name).is_some() { call } else { self.own.meant(call) }
    }

    fn check(&self, name: &str, arguments: &Value) -> Result<(), InvalidCall> {
        if self.foreign(name).is_none() {
            return self.own.check(name, arguments);
        }
        // What is in it is the server's to judge.
        if arguments.is_object() {
            return Ok(());
        }
        Err(InvalidCall { code: "INVALID_ARGUMENTS", message: "the arguments must be a JSON object".to_owned() })
    }

    fn effect(&self, call: &ToolCall) -> Effect {
        self.foreign(&call.name).map_or_else(|| self.own.effect(call), |tool| tool.effect)
    }

    fn place(&self, call: &ToolCall, cwd: &Path) -> Option<Place> {
        if self.foreign(&call.name).is_some() { None } else { self.own.place(call, cwd) }
    }

    fn needs_question(&self, call: &ToolCall, cwd: &Path) -> Option<String> {
        let Some(tool) = self.foreign(&call.name) else { return self.own.needs_question(call, cwd) };
        let reason = "its server describes this tool in another way than when it was approved";
        self.servers.kept.has_changed(&call.name, &tool.hash).then(|| reason.to_owned())
    }

    fn settle_sandbox(&self, asked: &Sandbox, cwd: &Path) -> Result<Sandbox, SandboxUnavailable> {
        self.own.settle_sandbox(asked, cwd)
    }

    async fn probe(&self, call: &ToolCall, context: ToolContext) -> Option<Probe> {
        if self.foreign(&call.name).is_some() { None } else { self.own.probe(call, context).await }
    }

    async fn probed(&self, call: &ToolCall, probe: &Probe, context: ToolContext) -> Probed {
        match self.foreign(&call.name) {
            Some(_) => Probed::Unknown,
            None => self.own.probed(call, probe, context).await,
        }
    }

    async fn run(&self, call: &ToolCall, context: ToolContext) -> ToolOutcome {
        match self.foreign(&call.name) {
            Some(tool) => self.servers.run(&tool, call, context).await,
            None => self.own.run(call, context).await,
        }
    }

    async fn keep_text(&self, session: SessionId, text: String) -> io::Result<PathBuf> {
        self.own.keep_text(session, text).await
    }

    async fn orphans(&self) -> Vec<(SessionId, ToolCallId)> {
        self.own.orphans().await
    }

    async fn end_orphans(&self, session: SessionId, call: &ToolCallId) -> usize {
        self.own.end_orphans(session, call).await
    }

    fn asks_person(&self, call: &ToolCall) -> bool {
        self.own.asks_person(call)
    }

    fn unanswered(&self, call: &ToolCall) -> String {
        self.own.unanswered(call)
    }

    async fn lingering(&self) -> Vec<SessionId> {
        self.own.lingering().await
    }

    async fn at_rest(&self, session: SessionId) {
        self.own.at_rest(session).await;
    }

    async fn end_session(&self, session: SessionId) -> io::Result<()> {
        self.own.end_session(session).await
    }

    async fn forget_session(&self, session: SessionId) -> io::Result<()> {
        self.own.forget_session(session).await
    }
}
