//! A call that failed: what that means to the gateway, and the platform's own number for it.

use serde::Deserialize;
use teloxide_reqwest::{Response, StatusCode};

use super::api::{SHORT_WAIT, seconds};
use crate::ChannelError;

/// There is no such channel or thread, or none any more.
const UNKNOWN_CHANNEL: u32 = 10003;
/// A message has one thread at most.
const THREAD_EXISTS: u32 = 160_004;

/// Why a call failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Of a refusal; 0 without one.
    code: u32,
    error: ChannelError,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    retry_after: Option<f64>,
    /// Which field, and what is wrong with it.
    #[serde(default)]
    errors: Option<serde_json::Value>,
}

impl Failure {
    /// Reads an answer that is no success.
    pub(super) async fn read(response: Response, host: &str) -> Self {
        let (status, host) = (response.status(), host.to_owned());
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
        let body = response.text().await.unwrap_or_default();
        let refusal = serde_json::from_str::<Refusal>(&body).ok();
        let reason = refusal.as_ref().map_or_else(|| status.to_string(), Refusal::describe);
        let code = refusal.as_ref().map_or(0, |refusal| refusal.code);
        let error = match status {
            StatusCode::UNAUTHORIZED => ChannelError::Unauthorized { host, reason },
            StatusCode::TOO_MANY_REQUESTS => {
                let told = refusal.and_then(|refusal| refusal.retry_after).or(header);
                ChannelError::RateLimited { retry_after: told.map_or(SHORT_WAIT, seconds) }
            }
            StatusCode::FORBIDDEN => ChannelError::NotAllowed { reason },
            status if status.is_client_error() => ChannelError::Rejected { reason },
            _ => ChannelError::Uncertain { host, reason },
        };
        Self { code, error }
    }

    pub(super) fn error(&self) -> &ChannelError {
        &self.error
    }

    pub(super) fn is_unknown_channel(&self) -> bool {
        self.code == UNKNOWN_CHANNEL
    }

    pub(super) fn says_thread_exists(&self) -> bool {
        self.code == THREAD_EXISTS
    }
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        Self { code: 0, error }
    }
}

impl From<Failure> for ChannelError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl Refusal {
    fn describe(&self) -> String {
        let detail = self.errors.as_ref().map(|errors| format!(": {errors}")).unwrap_or_default();
        format!("{} (code {}){detail}", self.message, self.code)
    }
}
