//! One conversation of a client: what its calls leave behind goes with it.

use std::{sync::Arc, time::Duration};

use stakpak_protocol::SessionId;

use super::Shared;

/// How long files of long results stay after the conversation: one without a session ends with each answer, and its client
/// may look at the file with the next.
const FILES_STAY: Duration = Duration::from_secs(3600);

pub(super) struct Visit {
    pub(super) session: SessionId,
    pub(super) shared: Arc<Shared>,
}

impl Visit {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { session: SessionId::random(), shared }
    }

    /// From now on there may be files.
    pub(super) fn called(&self) {
        self.shared.sessions().insert(self.session);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let (shared, session) = (Arc::clone(&self.shared), self.session);
        if !shared.sessions().contains(&session) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let later = async move {
            // At the end all are forgotten.
            if tokio::time::timeout(FILES_STAY, shared.stop.cancelled()).await.is_err() {
                shared.forget(session).await;
            }
        };
        self.shared.tasks.clone().spawn_on(later, &runtime);
    }
}
