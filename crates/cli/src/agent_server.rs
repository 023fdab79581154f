//! The agent server in this process: the same for `up` and for a `run` that hosts its own.
//!
//! Order: bind without accepting, open and migrate, take over open runs, accept. A client that comes early waits; it never
//! sees half a state.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::Router;
use stakpak_agent_core::{AgentConfig, Profiles, Retention, SystemClock, Tools};
use stakpak_client::StakpakClient;
use stakpak_mcp::{AllTools, Offer, Servers, Serving, Terms};
use stakpak_redact::Redactor;
use stakpak_server::{ApprovalCeiling, Limits, Part, Server, ServerConfig, UpkeepJob, edge};
use stakpak_store::SqliteJournal;
use stakpak_tools::{ContainerMode, ContainersConfig, LocalTools, LocalToolsConfig};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    autopilot_file::{LimitsTable, TasksOnShutdown},
    home::Home,
    instance::explain_bind_error,
    journal_file::JournalFile,
    mcp,
    notifier::OfGateway,
    sandbox::{Levels, SandboxPart},
    secrets, tasks,
};

/// What the server is started with.
pub(crate) struct Options {
    pub(crate) bind: SocketAddr,
    /// None: every route is open.
    pub(crate) token: Option<String>,
    /// Further tokens by name.
    pub(crate) named_tokens: BTreeMap<String, String>,
    pub(crate) profiles: Arc<dyn Profiles>,
    pub(crate) workdir: PathBuf,
    pub(crate) edge: edge::EdgePolicy,
    /// `[server.limits]`.
    pub(crate) limits: LimitsTable,
    /// `[server].approval_ceiling`.
    pub(crate) approval_ceiling: ApprovalCeiling,
    /// How old an unfinished run may be that is taken over; none: runs of others are left to `up`.
    pub(crate) resume_max_age: Option<Duration>,
    /// The boot profile's name.
    pub(crate) profile: String,
    /// Variables that the configuration reads secrets from: no tool sees them.
    pub(crate) credential_variables: Vec<String>,
    /// External tool servers.
    pub(crate) mcp: mcp::Configured,
    /// Whether our own tools are offered at `/v1/mcp`.
    pub(crate) offers_mcp: bool,
    /// Hides what this process knows to be secret.
    pub(crate) redactor: Redactor,
    /// What other processes call this one.
    pub(crate) name: String,
    /// Which of the commands this is: tasks are told apart by it.
    pub(crate) mode: &'static str,
    pub(crate) tasks_on_shutdown: TasksOnShutdown,
    /// How long containers are kept.
    pub(crate) sandbox_mode: ContainerMode,
    /// Levels of sandbox that profiles ask for, as the files are.
    pub(crate) sandbox_levels: Levels,
}

/// What lives beside the server in this process.
#[derive(Default)]
pub(crate) struct Beside {
    /// Routes to put behind the same bearer check.
    pub(crate) protected: Router,
    /// Routes that check for themselves.
    pub(crate) mounted: Router,
    /// How the others go.
    pub(crate) parts: Vec<Arc<dyn Part>>,
}

/// A server that listens and does not answer yet.
pub(crate) struct Bound {
    listener: TcpListener,
    options: Options,
    address: SocketAddr,
}

/// What the journal's upkeep works on.
#[derive(Clone)]
pub(crate) struct UpkeepPorts {
    journal: Arc<SqliteJournal>,
    tools: Arc<LocalTools>,
}

impl UpkeepPorts {
    pub(crate) fn job(&self, retention: Retention) -> UpkeepJob {
        UpkeepJob::new(self.journal.clone(), self.tools.clone(), Arc::new(SystemClock), retention)
    }
}

/// A server that answers.
pub(crate) struct AgentServer {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    upkeep: UpkeepPorts,
    tool_servers: Arc<Servers>,
    own_tools: Option<Serving>,
    tasks_on_shutdown: TasksOnShutdown,
    serving: JoinHandle<std::io::Result<()>>,
    shutdown: CancellationToken,
}

impl Bound {
    pub(crate) async fn new(options: Options) -> Result<Self> {
        let listener =
            TcpListener::bind(options.bind).await.map_err(|error| explain_bind_error(options.bind, &error))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, options, address })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", reachable(self.address))
    }

    /// Opens the journal, takes over what is open, and answers.
    pub(crate) async fn start(self, home: &Home, beside: Beside) -> Result<AgentServer> {
        let url = self.url();
        let Self { listener, options, address } = self;
        let Beside { protected, mounted, mut parts } = beside;
        let (path, owners, name) = (home.autopilot("journal.db"), home.autopilot("owners"), options.name);
        let open = move || SqliteJournal::open_beside_others(&path, &owners, &name);
        let journal = tokio::task::spawn_blocking(open).await?;
        let journal = Arc::new(journal.context("the journal cannot be opened")?);
        parts.push(Arc::new(JournalFile(SqliteJournal::clone(&journal))));
        let mut edge = options.edge;
        edge.allowed_hosts.push(address.ip().to_string());
        let name_of_profile = options.profiles.profile(None)?.name.clone();
        let profiles = Arc::clone(&options.profiles);
        let tools = LocalToolsConfig {
            notifier: Some(Arc::new(OfGateway::new(client(&url, options.token.as_deref())))),
            containers: ContainersConfig { mode: options.sandbox_mode, ..mcp::containers(home) },
            ..mcp::own_tools(home, options.mode, options.credential_variables, Some(options.profile))?
        };
        let secrets = secrets::of_sessions(home, options.redactor.clone());
        let tools = Arc::new(LocalTools::new(tools, secrets.clone()));
        let tool_servers = options.mcp.start(home, &options.workdir, &options.redactor, &secrets, &tools);
        parts.push(Arc::new(SandboxPart::new(LocalTools::clone(&tools), options.sandbox_levels)));
        if options.offers_mcp {
            parts.push(Arc::new(mcp::OwnToolsPart));
        }
        let own_tools = options.offers_mcp.then(|| {
            Serving::new(Offer {
                tools: tools.clone(),
                terms: Arc::new(move || {
                    let profile = profiles.profile(None)?;
                    Ok(Terms { policy: profile.policy.clone(), sandbox: profile.sandbox.clone() })
                }),
                profile: name_of_profile,
                cwd: options.workdir.clone(),
                redactor: options.redactor.clone(),
                state: home.autopilot(""),
            })
        });
        let upkeep = UpkeepPorts { journal: Arc::clone(&journal), tools: Arc::clone(&tools) };
        let config = ServerConfig {
            token: options.token,
            named_tokens: options.named_tokens,
            default_cwd: options.workdir,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            agent: match options.resume_max_age {
                Some(resume_max_age) => AgentConfig { resume_max_age, ..options.limits.agent() },
                None => options.limits.agent(),
            },
            limits: Limits { approval_ceiling: options.approval_ceiling, ..options.limits.requests() },
            secrets: Arc::new(secrets),
            parts,
        };
        let offered: Arc<dyn Tools> = match tool_servers.is_empty() {
            true => tools,
            false => Arc::new(AllTools::new(tools, Arc::clone(&tool_servers))),
        };
        let server = Server::new(config, journal, options.profiles, offered, Arc::new(SystemClock));
        if options.resume_max_age.is_some() {
            let resumed = server.recover().await.context("open runs cannot be taken over")?;
            tracing::info!(resumed, "runs of an earlier process go on");
        }
        let served = own_tools.as_ref().map(|tools| tools.router(&edge.allowed_hosts, &edge.allowed_origins));
        let protected = protected.merge(served.unwrap_or_default());
        let router = stakpak_server::router(&server).merge(server.protect(protected)).merge(mounted);
        let router = edge::wrap(router, edge, Some(&server));
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(edge::serve(listener, router, options.limits.write_stall(), shutdown.clone()));
        let tasks_on_shutdown = options.tasks_on_shutdown;
        Ok(AgentServer { server, address, upkeep, tool_servers, own_tools, tasks_on_shutdown, serving, shutdown })
    }
}

impl AgentServer {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", reachable(self.address))
    }

    pub(crate) fn upkeep_ports(&self) -> UpkeepPorts {
        self.upkeep.clone()
    }

    /// Stops within `budget`: most of it is for the runs that work, the rest for connections to end. What is not finished
    /// goes on at the next start.
    pub(crate) async fn stop(self, budget: Duration) {
        let linger = edge::LINGER.min(budget / 5);
        self.server.drain(budget - linger).await;
        self.shutdown.cancel();
        let end_calls = async {
            if let Some(own) = &self.own_tools {
                let _ = tokio::time::timeout(linger, own.stop()).await;
            }
        };
        let end_tasks = async {
            if self.tasks_on_shutdown == TasksOnShutdown::Kill {
                tasks::end_all(&self.upkeep.tools).await;
            }
        };
        let served = tokio::time::timeout(linger, self.serving);
        let end_containers = self.upkeep.tools.end_containers();
        let (served, (), (), (), ()) =
            tokio::join!(served, self.tool_servers.stop(linger), end_calls, end_tasks, end_containers);
        match served {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the listener failed"),
            Ok(Err(error)) => tracing::error!(%error, "the server task failed"),
            Err(_) => tracing::info!("connections that did not end are closed"),
        }
    }
}

/// The address to reach a listener by: an unspecified one is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => ([0, 0, 0, 0, 0, 0, 0, 1], v6.port()).into(),
        other => other,
    }
}

/// A client of this server.
pub(crate) fn client(url: &str, token: Option<&str>) -> StakpakClient {
    StakpakClient::new(url, token.unwrap_or_default())
}
