//! One conversation with a server: from its start to its end, with all pages of its list of tools.

use std::{collections::HashMap, time::Duration};

use futures_util::future::BoxFuture;
use reqwest::header::{HeaderName, HeaderValue};
use rmcp::{
    RoleClient,
    model::{ClientRequest, ListToolsRequest, PaginatedRequestParams, ProtocolVersion, ServerResult},
    service::{
        ClientInitializeError, ClientLifecycleMode, ClientServiceExt, Peer, RunningService,
        RunningServiceCancellationToken, ServiceError,
    },
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use stakpak_agent_core::SandboxUnavailable;
use tokio::task::spawn_blocking;

use crate::{
    handler::Handler,
    host::Host,
    kept::Listed,
    settings::{Program, Protocol, Settings, Transport},
    stderr_log,
    stdio::{self, Child, Started},
};

const MAX_PAGES: usize = 50;
const MAX_TOOLS: usize = 1000;
/// For the connection alone; answers have limits of their own.
const CONNECT: Duration = Duration::from_secs(10);

/// Why there is no conversation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("`{program}` cannot be started: {source}")]
    Start { program: String, source: std::io::Error },
    #[error("it is not started without its sandbox: {0}")]
    Sandbox(#[from] SandboxUnavailable),
    #[error("headers.{0} is no valid header")]
    Header(String),
    #[error("there can be no connection: {0}")]
    Client(#[from] reqwest::Error),
    #[error("it does not speak MCP: {0}")]
    Initialize(#[from] Box<ClientInitializeError>),
    #[error("its list of tools cannot be read: {0}")]
    List(#[from] ListError),
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("it has more than {MAX_PAGES} pages or {MAX_TOOLS} tools")]
    TooLong,
}

pub(crate) struct Connection {
    pub(crate) peer: Peer<RoleClient>,
    pub(crate) handler: Handler,
    pub(crate) tools: Vec<Listed>,
    /// Ready when the other side is gone.
    pub(crate) closed: BoxFuture<'static, ()>,
    stop: RunningServiceCancellationToken,
    child: Option<Child>,
}

impl Connection {
    /// Starts or connects, greets, and asks for the tools. Dropping it ends whatever was started.
    pub(crate) async fn open(settings: &Settings, host: &Host) -> Result<Self, ConnectError> {
        let handler = Handler::default();
        let (service, child) = match &settings.transport {
            Transport::Stdio(program) => {
                let started = start(program.clone(), host.clone()).await?;
                let log = host.places.logs.join(format!("mcp-{}.log", settings.name));
                // Ends with the pipe, which ends with the group.
                tokio::spawn(stderr_log::drain(started.stderr, log, host.redactor.clone()));
                let service =
                    handler.clone().serve_with_lifecycle(started.transport, lifecycle(settings.protocol)).await;
                (service.map_err(Box::new)?, Some(started.child))
            }
            Transport::Http { url, headers } => {
                let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
                config = config.custom_headers(header_map(headers)?);
                let client = reqwest::Client::builder()
                    .connect_timeout(CONNECT)
                    .redirect(reqwest::redirect::Policy::none())
                    .build()?;
                let transport = StreamableHttpClientTransport::with_client(client, config);
                let service = handler.clone().serve_with_lifecycle(transport, lifecycle(settings.protocol)).await;
                (service.map_err(Box::new)?, None)
            }
        };
        Self::greeted(service, handler, child).await
    }

    async fn greeted(
        service: RunningService<RoleClient, Handler>,
        handler: Handler,
        child: Option<Child>,
    ) -> Result<Self, ConnectError> {
        let (peer, stop) = (service.peer().clone(), service.cancellation_token());
        let tools = list(&peer).await?;
        let closed = Box::pin(async move {
            let _ = service.waiting().await;
        });
        Ok(Self { peer, handler, tools, closed, stop, child })
    }

    /// Ends it in order: the other side gets the time to end by itself.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.closed.await;
        if let Some(child) = self.child {
            child.end().await;
        }
    }
}

async fn start(program: Program, host: Host) -> Result<Started, ConnectError> {
    let command = program.command.clone();
    let started = spawn_blocking(move || stdio::start(&program, &host)).await;
    started.unwrap_or_else(|error| Err(ConnectError::Start { program: command, source: std::io::Error::other(error) }))
}

/// All pages, from the server and from no cache.
pub(crate) async fn list(peer: &Peer<RoleClient>) -> Result<Vec<Listed>, ListError> {
    let mut tools = Vec::new();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let request = ListToolsRequest { params: Some(params), ..ListToolsRequest::default() };
        let ServerResult::ListToolsResult(page) = peer.send_request(ClientRequest::ListToolsRequest(request)).await?
        else {
            return Err(ServiceError::UnexpectedResponse.into());
        };
        tools.extend(page.tools.into_iter().map(Listed::from));
        cursor = page.next_cursor;
        if tools.len() > MAX_TOOLS {
            break;
        }
        if cursor.is_none() {
            return Ok(tools);
        }
    }
    Err(ListError::TooLong)
}

fn lifecycle(protocol: Protocol) -> ClientLifecycleMode {
    let preferred_versions = vec![ProtocolVersion::LATEST];
    match protocol {
        Protocol::Initialize => ClientLifecycleMode::Initialize,
        Protocol::Discover => ClientLifecycleMode::Discover { preferred_versions },
        Protocol::Auto => ClientLifecycleMode::Auto { preferred_versions, legacy_version: None },
    }
}

fn header_map(
    headers: &std::collections::BTreeMap<String, String>,
) -> Result<HashMap<HeaderName, HeaderValue>, ConnectError> {
    let parsed = headers.iter().map(|(name, value)| {
        let wrong = || ConnectError::Header(name.clone());
        let key = HeaderName::try_from(name).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        Ok((key, value))
    });
    parsed.collect()
}
