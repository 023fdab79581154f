//! When a request is repeated, and after how long.

use std::time::Duration;

use stakpak_client::ClientError;
use stakpak_protocol::ErrorCode;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

/// Whether the same request, under the same key, may be answered later: no answer, 408, 429, any 5xx but the one that says that
/// there is no isolation, and the 409 that says the first request with this key is still at work.
pub(super) fn is_transient(error: &ClientError) -> bool {
    if error.code() == Some(ErrorCode::SandboxUnavailable) {
        return false;
    }
    match error.status() {
        Some(status) => status == 408 || status == 429 || status >= 500 || error.is_retryable(),
        None => error.is_retryable(),
    }
}

/// Waits that double.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Waits once, longer if the server asked for it.
    pub(super) async fn wait(&mut self, error: Option<&ClientError>) {
        let wait = error.and_then(ClientError::retry_after).unwrap_or_default().max(self.next);
        self.next = (self.next * 2).min(LONGEST);
        tokio::time::sleep(wait).await;
    }
}
