//! The server as a value: what handlers share, and its life from recovery to drain.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::{DateTime, Utc};
use stakpak_agent_core::{
    Agent, AgentConfig, Clock, Days, EventRecord, Journal, JournalError, Profiles, Publisher, Secrets, Slots, Tools,
    session::Fact,
};
use stakpak_protocol::{Ready, SessionId};
use tokio_util::sync::CancellationToken;

use crate::{
    Limits, Measures, Part,
    auth::{self, Failures, Token, Tokens},
    events::Hub,
    idempotency::InFlight,
    live::{self, LiveSessions},
    metrics::{self, Counters},
    ready::{self, JournalCheck},
    routes::openapi_with,
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
    /// What nobody may see.
    pub secrets: Arc<dyn Secrets>,
    /// What lives beside the server in this process.
    pub parts: Vec<Arc<dyn Part>>,
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
    counters: Arc<Counters>,
    parts: Vec<Arc<dyn Part>>,
    /// The OpenAPI document, made when it is first asked for.
    document: OnceLock<String>,
    journal_check: JournalCheck,
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
        let (slots, days) = (Slots::new(config.agent.active_runs), Days::default());
        let counters = Arc::new(Counters::new(Arc::clone(&tools)));
        let publisher = Arc::new(Told { hub: Arc::clone(&hub), counters: Arc::clone(&counters) });
        let (secrets, config_of_agent) = (config.secrets, config.agent);
        let agent = Arc::new(Agent {
            journal,
            publisher,
            profiles,
            tools,
            secrets,
            clock,
            slots,
            days,
            config: config_of_agent,
        });
        let closing = CancellationToken::new();
        let tokens = tokens(config.token.as_deref(), &config.named_tokens, &config.limits);
        Self(Arc::new(Inner {
            live: LiveSessions::new(Arc::clone(&agent), config.limits.idle_after, closing.child_token()),
            agent,
            hub,
            counters,
            parts: config.parts,
            document: OnceLock::new(),
            journal_check: JournalCheck::default(),
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
        live::end_lingering(&self.0.agent).await?;
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

    pub(crate) async fn ready(&self) -> Ready {
        ready::ready(&self.0.journal_check, self.0.agent.journal.as_ref(), &self.0.parts).await
    }

    /// The text of a scrape.
    pub(crate) async fn metrics(&self) -> prometheus::Result<String> {
        let mut measures = Measures::default();
        metrics::measure(self, &mut measures).await;
        for part in &self.0.parts {
            part.measure(&mut measures).await;
        }
        measures.encode(self.0.counters.gather())
    }

    /// The OpenAPI document of everything in this process.
    pub(crate) fn document(&self) -> &str {
        let parts = || self.0.parts.iter().filter_map(|part| part.document());
        self.0.document.get_or_init(|| openapi_with(parts()).to_json().unwrap_or_default())
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
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

/// Who is told of what is durable: readers of events, and the counters.
struct Told {
    hub: Arc<Hub>,
    counters: Arc<Counters>,
}

impl Publisher for Told {
    fn publish(&self, session: SessionId, events: &[EventRecord]) {
        self.hub.publish(session, events);
    }

    fn close(&self, session: SessionId) {
        Publisher::close(self.hub.as_ref(), session);
    }

    fn observe(&self, facts: &[Fact]) {
        facts.iter().for_each(|fact| self.counters.observe(fact));
    }
}
