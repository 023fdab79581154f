//! The server as a value: what handlers share, and its life from recovery to drain.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use stakpak_agent_core::{Agent, AgentConfig, Clock, Journal, JournalError, Profiles, Slots, Tools};
use tokio_util::sync::CancellationToken;

use crate::{
    Limits,
    auth::{self, Failures, Token, Tokens},
    events::Hub,
    idempotency::InFlight,
    live::{self, LiveSessions},
};

/// What the server is made with.
pub struct ServerConfig {
    /// The bearer token; none: every route is open.
    pub token: Option<String>,
    /// Further tokens by name, valid beside it.
    pub named_tokens: BTreeMap<String, String>,
    /// Where tools of a session without `cwd` run.
    pub default_cwd: PathBuf,
    /// Told by `GET /v1/health`.
    pub version: String,
    /// Bounds of runs.
    pub agent: AgentConfig,
    /// Bounds of requests and streams.
    pub limits: Limits,
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("auth", &self.token.is_some())
            .field("default_cwd", &self.default_cwd)
            .finish_non_exhaustive()
    }
}

/// The agent server. A cheap handle.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    agent: Arc<Agent>,
    hub: Arc<Hub>,
    live: LiveSessions,
    in_flight: Arc<InFlight>,
    tokens: Tokens,
    failures: Failures,
    limits: Limits,
    default_cwd: PathBuf,
    version: String,
    started_at: DateTime<Utc>,
    closing: CancellationToken,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("started_at", &self.0.started_at).finish_non_exhaustive()
    }
}

impl Server {
    /// A server on these ports. Nothing runs until [`Self::recover`] or the first request.
    #[must_use]
    pub fn new(
        config: ServerConfig,
        journal: Arc<dyn Journal>,
        profiles: Arc<dyn Profiles>,
        tools: Arc<dyn Tools>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let hub = Arc::new(Hub::new(&config.limits));
        let started_at = clock.now();
        let publisher = Arc::clone(&hub);
        let slots = Slots::new(config.agent.active_runs);
        let agent = Arc::new(Agent { journal, publisher, profiles, tools, clock, slots, config: config.agent });
        let closing = CancellationToken::new();
        let tokens = tokens(config.token.as_deref(), &config.named_tokens, &config.limits);
        Self(Arc::new(Inner {
            live: LiveSessions::new(Arc::clone(&agent), closing.child_token()),
            agent,
            hub,
            in_flight: Arc::default(),
            tokens,
            failures: Failures::new(),
            limits: config.limits,
            default_cwd: config.default_cwd,
            version: config.version,
            started_at,
            closing,
        }))
    }

    /// Takes over the runs that an earlier process left, each from its last record, and ends what it left of other calls.
    /// Call before the first request.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn recover(&self) -> Result<usize, JournalError> {
        live::end_strays(&self.0.agent).await?;
        let open = self.0.agent.journal.open_sessions().await?;
        for session in &open {
            self.0.live.recover(session.id);
        }
        Ok(open.len())
    }

    /// Ends event streams and refuses writes, gives runs that work `budget` to end, then leaves the rest to the next start.
    pub async fn drain(&self, budget: Duration) {
        self.0.hub.close();
        self.0.live.drain(budget).await;
        self.0.closing.cancel();
        self.0.live.stopped().await;
    }

    /// Runs that have not ended, by session.
    #[must_use]
    pub fn live_sessions(&self) -> usize {
        self.0.live.count()
    }

    pub(crate) fn agent(&self) -> &Agent {
        &self.0.agent
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    pub(crate) fn live(&self) -> &LiveSessions {
        &self.0.live
    }

    pub(crate) fn in_flight(&self) -> &Arc<InFlight> {
        &self.0.in_flight
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    pub(crate) fn failures(&self) -> &Failures {
        &self.0.failures
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn default_cwd(&self) -> &std::path::Path {
        &self.0.default_cwd
    }

    pub(crate) fn version(&self) -> &str {
        &self.0.version
    }

    pub(crate) fn started_at(&self) -> DateTime<Utc> {
        self.0.started_at
    }
}

/// Without the first there are none: every route is open.
fn tokens(token: Option<&str>, named: &BTreeMap<String, String>, limits: &Limits) -> Tokens {
    let Some(token) = token else { return Tokens::new(Vec::new()) };
    let named = named.iter().map(|(name, token)| (name.as_str(), token.as_str()));
    let all = std::iter::once((auth::DEFAULT, token)).chain(named);
    Tokens::new(all.map(|(name, token)| Token::new(name, token, limits.requests_per_second)).collect())
}
