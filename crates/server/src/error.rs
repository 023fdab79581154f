//! The one conversion from what went wrong to an answer.
//!
//! A handler returns an [`ApiError`]; the edge, which knows the request id, writes the body. What is internal goes to the
//! log with the same id, never to the client.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use stakpak_agent_core::{JournalError, RequestError, session::Refusal};
use stakpak_protocol::ErrorCode;

/// When a client that met the shutdown should come back.
pub(crate) const RETRY_AFTER_SHUTDOWN_S: u64 = 5;

/// An answer that is not 2xx. Small, because every handler returns it by value.
#[derive(Debug, Clone)]
pub struct ApiError(pub(crate) Box<Answer>);

/// What the answer says.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) code: ErrorCode,
    /// Public.
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    pub(crate) retry_after_s: Option<u64>,
    /// For the log only.
    pub(crate) internal: Option<String>,
}

impl ApiError {
    /// `message` is public: it names the field and the remedy.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Answer { code, message, details: None, retry_after_s: None, internal: None }))
    }

    /// Asks the client to come back.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    fn internal(code: ErrorCode, message: &str, cause: &dyn std::error::Error) -> Self {
        let mut error = Self::new(code, message);
        error.0.internal = Some(chain(cause));
        error
    }

    /// A write after the shutdown has begun.
    pub(crate) fn shutting_down() -> Self {
        Self::new(ErrorCode::ShuttingDown, "the server is shutting down; nothing was changed, try again later")
            .retry_after(RETRY_AFTER_SHUTDOWN_S)
    }

    /// A reply of another request: a mistake of ours.
    pub(crate) fn unexpected_reply() -> Self {
        Self::new(ErrorCode::InternalError, "unexpected error; the log has the request id")
    }

    pub(crate) fn session_not_found(id: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("session {id} does not exist"))
    }
}

/// The error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<JournalError> for ApiError {
    fn from(error: JournalError) -> Self {
        match &error {
            JournalError::UnknownSession(id) => Self::session_not_found(id),
            JournalError::Damaged { .. } => Self::internal(
                ErrorCode::CheckpointReadFailed,
                "the history of this session is damaged; other sessions are not affected",
                &error,
            ),
            JournalError::ReceiptExists => Self::new(
                ErrorCode::IdempotencyInProgress,
                "a request with this Idempotency-Key is being answered; try again",
            )
            .retry_after(1),
            JournalError::BadCursor => Self::new(
                ErrorCode::InvalidQuery,
                "page: must be the `next` of an earlier page; leave it out to begin anew",
            ),
            JournalError::Elsewhere { owner, .. } => Self::new(
                ErrorCode::SessionAlreadyRunning,
                format!("this session belongs to {owner} while it lives; reading works, everything else after its end"),
            ),
            JournalError::Storage(_) => Self::internal(
                ErrorCode::StorageUnavailable,
                "the journal cannot be written; nothing was changed, try again",
                &error,
            )
            .retry_after(5),
            JournalError::SessionExists(_)
            | JournalError::StaleEpoch { .. }
            | JournalError::OutOfSequence { .. }
            | JournalError::EventsGone { .. } => {
                Self::internal(ErrorCode::InternalError, "unexpected error; the log has the request id", &error)
            }
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(refusal) => refusal.into(),
            RequestError::Journal(error) => error.into(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::AlreadyRunning(_) => ErrorCode::SessionAlreadyRunning,
            Refusal::NotRunning => ErrorCode::SessionNotRunning,
            Refusal::RunMismatch => ErrorCode::RunMismatch,
            Refusal::QueueFull(_) => return Self::new(ErrorCode::QueueFull, refusal.to_string()).retry_after(1),
            Refusal::Deleted => ErrorCode::NotFound,
        };
        Self::new(code, refusal.to_string())
    }
}
