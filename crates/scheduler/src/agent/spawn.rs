//! The library surface: run an agent once and wait for it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    convert::Infallible,
    fmt,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use stakpak_client::{CallerContextInput, ProposedToolCall, StakpakClient};
use stakpak_protocol::{DecidedBy, EventId, RunId, RunOverrides, SessionId, ToolCallId, ToolDecision, Usage, Usd};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{AgentError, AgentReport, AgentResult, DriveError, Limits, Observer, Order, Progress, WhenAsked, drive};
use crate::clock::{Clock, SystemClock};

/// Where the agent server is.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentServerConnection {
    /// Absolute `http` or `https` address.
    pub url: String,
    /// Bearer token; empty when the server asks for none.
    pub token: String,
}

impl fmt::Debug for AgentServerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentServerConnection").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct SpawnConfig {
    /// By whom.
    pub server: AgentServerConnection,
    /// The user message.
    pub prompt: String,
    /// Title of its session.
    pub title: String,
    /// Directory of its tools; none: the server's own.
    pub workdir: Option<String>,
    /// Text put in front of the message.
    pub context: Vec<CallerContextInput>,
    /// Profile of the server's `config.toml`.
    pub profile: Option<String>,
    /// `provider/id` or `id`.
    pub model: Option<String>,
    /// 1 to 256.
    pub max_turns: Option<u64>,
    /// None: what the profile asks for.
    pub sandbox: Option<bool>,
    /// Wall time; then the run is cancelled.
    pub timeout: Duration,
    /// Of the calls that policy asks about, those of these tools are accepted; empty means all of them.
    pub allowed_tools: HashSet<String>,
    /// Return, with exit code 10, when policy asks, and decide nothing.
    pub pause_on_approval: bool,
}

impl SpawnConfig {
    /// A run with the server's own settings and 30 minutes of time.
    #[must_use]
    pub fn new(server: AgentServerConnection, prompt: impl Into<String>) -> Self {
        Self {
            server,
            prompt: prompt.into(),
            title: "agent".to_owned(),
            workdir: None,
            context: Vec::new(),
            profile: None,
            model: None,
            max_turns: None,
            sandbox: None,
            timeout: Duration::from_secs(30 * 60),
            allowed_tools: HashSet::new(),
            pause_on_approval: false,
        }
    }
}

/// A cancel is confirmed within this, or the outcome is unknown.
const STOP_GRACE: TimeDelta = TimeDelta::seconds(30);

/// Runs an agent and waits for its end.
///
/// # Errors
/// When no run was started.
pub async fn spawn_agent(config: SpawnConfig) -> Result<AgentResult, AgentError> {
    spawn_agent_report(config).await.map(|report| report.result)
}

/// Like [`spawn_agent`], with all that is known.
///
/// # Errors
/// When no run was started.
pub async fn spawn_agent_report(config: SpawnConfig) -> Result<AgentReport, AgentError> {
    let SpawnConfig { server, prompt, title, workdir, context, profile, model, max_turns, sandbox, .. } = config;
    let client = StakpakClient::new(server.url, server.token);
    let order = Order {
        key: format!("agent:{}", Uuid::new_v4()),
        title,
        cwd: workdir,
        prompt,
        context,
        model: model.clone(),
        sandbox,
        overrides: RunOverrides { model, max_turns, profile, ..RunOverrides::default() },
        chat: None,
        when_asked: match config.pause_on_approval {
            true => WhenAsked::Return,
            false => WhenAsked::AllowListed(config.allowed_tools),
        },
    };
    let timeout = TimeDelta::from_std(config.timeout).unwrap_or(TimeDelta::MAX);
    let clock = SystemClock;
    let deadline = clock.now().checked_add_signed(timeout).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let limits = Limits { deadline, stop_grace: STOP_GRACE, stop: CancellationToken::new() };
    match drive(&client, &clock, &order, limits, Progress::default(), &Unobserved).await {
        Ok(report) => Ok(report),
        Err(DriveError::Agent(error)) => Err(error),
        Err(DriveError::Observer(never)) => match never {},
    }
}

/// Nobody takes this run up again.
struct Unobserved;

#[async_trait]
impl Observer for Unobserved {
    type Error = Infallible;

    async fn handing_over(&self, _: DateTime<Utc>) -> Result<(), Infallible> {
        Ok(())
    }
    async fn refused(&self) -> Result<(), Infallible> {
        Ok(())
    }
    async fn session_created(&self, _: SessionId) -> Result<(), Infallible> {
        Ok(())
    }
    async fn run_started(&self, _: RunId, _: EventId) -> Result<(), Infallible> {
        Ok(())
    }
    async fn seen(&self, _: EventId) -> Result<(), Infallible> {
        Ok(())
    }
    async fn spent(&self, _: EventId, _: &Usage, _: Option<Usd>) -> Result<bool, Infallible> {
        Ok(false)
    }
    async fn paused(&self, _: &[ProposedToolCall]) -> Result<HashMap<String, ToolDecision>, Infallible> {
        Ok(HashMap::new())
    }
    async fn resumed(&self) -> Result<(), Infallible> {
        Ok(())
    }
    async fn expired(&self) -> Result<(), Infallible> {
        Ok(())
    }
    async fn over_limit(&self) -> Result<(), Infallible> {
        Ok(())
    }
    async fn decided(&self, _: BTreeMap<ToolCallId, DecidedBy>) -> Result<(), Infallible> {
        Ok(())
    }
    fn decisions(&self) -> Option<watch::Receiver<()>> {
        None
    }
}
