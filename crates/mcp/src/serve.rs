//! The product's own tools for programs that speak MCP: under bare names, and judged as in a run.
//!
//! Invariants:
//! * Nothing runs that policy would ask about: there is nobody to ask. What runs is in the profile's sandbox, or does not run.
//! * A call is in the book, with its arguments, before it runs; one that cannot be written there does not run.
//! * No call outlives the conversation it was made in.

mod book;
mod handler;
mod http;
mod visit;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rmcp::{
    ServiceExt,
    service::ServerInitializeError,
    transport::{IntoTransport, io::stdio_pipes},
};
use stakpak_agent_core::{Policy, ProfileError, Sandbox, SandboxUnavailable, Tools};
use stakpak_protocol::SessionId;
use stakpak_redact::Redactor;
use tokio::{sync::Semaphore, task::spawn_blocking};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{book::Book, handler::Own};

/// Calls of all clients that run at once; more wait.
const CALLS_AT_ONCE: usize = 16;

/// What is offered, and how calls are judged.
pub struct Offer {
    /// Those of the product itself.
    pub tools: Arc<dyn Tools>,
    /// Of the profile, as it is when a call comes.
    pub terms: Arc<dyn Fn() -> Result<Terms, ProfileError> + Send + Sync>,
    /// Its name, for the advice on what policy does not let run.
    pub profile: String,
    /// Where calls run.
    pub cwd: PathBuf,
    /// Hides secrets in the book. Results are redacted by the tools.
    pub redactor: Redactor,
    /// The state directory, which the book is kept in.
    pub state: PathBuf,
}

/// What a profile says of calls.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What runs.
    pub policy: Policy,
    /// What confines it.
    pub sandbox: Sandbox,
}

/// Tools that are being served.
#[derive(Clone)]
pub struct Serving(Arc<Shared>);

pub(crate) struct Shared {
    offer: Offer,
    book: Book,
    slots: Semaphore,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Those that may have files.
    sessions: Mutex<BTreeSet<SessionId>>,
}

/// Why there is no conversation over stdio.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client did not begin as it should.
    #[error("the client does not begin an MCP conversation: {0}")]
    Begin(#[from] Box<ServerInitializeError>),
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").field("profile", &self.profile).field("cwd", &self.cwd).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Serving").field(&self.0.offer).finish()
    }
}

impl Serving {
    /// Makes it ready.
    #[must_use]
    pub fn new(offer: Offer) -> Self {
        let book = Book::new(&offer.state, offer.redactor.clone());
        let shared = Shared {
            offer,
            book,
            slots: Semaphore::new(CALLS_AT_ONCE),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            sessions: Mutex::default(),
        };
        Self(Arc::new(shared))
    }

    /// One conversation over stdin and stdout, to its end or until `stop`.
    ///
    /// # Errors
    /// It never began.
    pub async fn stdio(&self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        self.converse(stdio_pipes(), stop).await
    }

    async fn converse<T, E, A>(&self, transport: T, stop: impl Future<Output = ()>) -> Result<(), ServeError>
    where
        T: IntoTransport<rmcp::RoleServer, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let mut stop = std::pin::pin!(stop);
        let begun = tokio::select! {
            begun = Own::new(Arc::clone(&self.0)).serve(transport) => begun,
            () = &mut stop => return Ok(()),
        };
        let service = match begun {
            Ok(service) => service,
            // Nobody wanted anything.
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(Box::new(error).into()),
        };
        let end = service.cancellation_token();
        let mut waiting = std::pin::pin!(service.waiting());
        tokio::select! {
            _ = &mut waiting => {}
            () = stop => {
                end.cancel();
                let _ = waiting.await;
            }
        }
        self.stop().await;
        Ok(())
    }

    /// Ends every call and every conversation, and removes their files.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        let sessions = std::mem::take(&mut *self.0.sessions());
        for session in sessions {
            self.0.forget(session).await;
        }
    }
}

impl Shared {
    fn cwd(&self) -> &Path {
        &self.offer.cwd
    }

    /// The sandbox of a call, whole or not at all.
    async fn settle(self: &Arc<Self>, asked: Sandbox) -> Result<Sandbox, SandboxUnavailable> {
        let shared = Arc::clone(self);
        let settle = move || shared.offer.tools.settle_sandbox(&asked, shared.cwd());
        spawn_blocking(settle).await.unwrap_or_else(|error| Err(SandboxUnavailable::new(error.to_string())))
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeSet<SessionId>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn forget(&self, session: SessionId) {
        self.sessions().remove(&session);
        if let Err(error) = self.offer.tools.forget_session(session).await {
            tracing::warn!(session_id = %session, %error, "files of an MCP conversation cannot be removed");
        }
    }
}
