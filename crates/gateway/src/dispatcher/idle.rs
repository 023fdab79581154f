//! A session that is busy with a run which somebody else started: its end is waited for, not guessed.

use std::time::Duration;

use stakpak_client::RunStatus;
use tokio::time::timeout;

use super::Conversations;

/// How often the server is asked whether the run still goes on: its end may be told to nobody.
const ASKED_EVERY: Duration = Duration::from_secs(15);

impl Conversations {
    /// Waits until the session is idle, as far as that can be told: the next attempt at its message tells. False if it never
    /// was found busy.
    pub(super) async fn until_idle(&self, session_id: &str) -> bool {
        let mut was_busy = false;
        loop {
            let session = match self.client.get_session(session_id).await {
                Ok(session) if is_busy(&session.run_status) => session,
                Ok(_) => return was_busy,
                Err(error) => {
                    tracing::debug!(%error, "the state of a busy session is not known");
                    return false;
                }
            };
            was_busy = true;
            let ended = async {
                let after = Some(session.last_event_id);
                let Ok(mut events) = self.client.subscribe_events(session_id, after).await else {
                    return std::future::pending().await;
                };
                while let Some(event) = events.next_event().await {
                    if event.is_run_terminal() {
                        return;
                    }
                }
            };
            if timeout(ASKED_EVERY, ended).await.is_ok() {
                return true;
            }
        }
    }
}

fn is_busy(status: &RunStatus) -> bool {
    matches!(status, RunStatus::Starting { .. } | RunStatus::Running { .. })
}
