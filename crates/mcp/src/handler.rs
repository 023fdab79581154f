//! What a server asks of us or tells us: changed lists and progress are taken; sampling, roots and questions are declined.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rmcp::{
    ClientHandler, ErrorData, RoleClient,
    model::{ClientCapabilities, ClientConfig, Implementation, ProgressNotificationParam, ProgressToken},
    service::{NotificationContext, RequestContext},
};
use tokio::sync::{Notify, mpsc};

/// Signs of life of one call that wait to be seen; more are dropped, the clock is reset by any.
const WAITING: usize = 16;

/// Of one connection. A clone shares everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handler {
    /// The server's list of tools is another.
    pub(crate) list_changed: Arc<Notify>,
    calls: Arc<Mutex<HashMap<ProgressToken, mpsc::Sender<ProgressNotificationParam>>>>,
}

/// Progress of one call, for as long as it is held.
pub(crate) struct Progress {
    handler: Handler,
    token: ProgressToken,
    pub(crate) pieces: mpsc::Receiver<ProgressNotificationParam>,
}

impl Handler {
    pub(crate) fn progress_of(&self, token: ProgressToken) -> Progress {
        let (sender, pieces) = mpsc::channel(WAITING);
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), sender);
        Progress { handler: self.clone(), token, pieces }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.handler.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.token);
    }
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_tasks().build();
        ClientConfig::new(capabilities, Implementation::new("stakpak", env!("CARGO_PKG_VERSION")))
    }

    #[expect(deprecated, reason = "servers of older protocols ask")]
    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<rmcp::model::ListRootsResult, ErrorData> {
        Err(ErrorData::method_not_found::<rmcp::model::ListRootsRequestMethod>())
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get(&progress.progress_token) {
            let _ = call.try_send(progress);
        }
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.list_changed.notify_one();
    }
}
