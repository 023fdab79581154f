//! Why a call failed. Whether to try again is data on the error; no variant can hold the token.

use std::{error::Error, io, time::Duration};

use serde_json::Value;
use stakpak_protocol::ErrorCode;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client was made from values that cannot work; nothing was sent.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// An argument cannot be sent; nothing was sent.
    #[error("{0}")]
    InvalidArgument(&'static str),
    /// The server answered, and refused.
    #[error(transparent)]
    Server(Box<ServerError>),
    /// No answer, or only a part of it.
    #[error("request to {address} failed: {cause}")]
    Transport {
        /// Host and port.
        address: String,
        /// What happened.
        cause: TransportCause,
        /// As the HTTP client tells it.
        #[source]
        source: reqwest::Error,
    },
    /// A connection of an event stream ended; the stream itself goes on.
    #[error("event stream from {address} was closed")]
    StreamClosed {
        /// Host and port.
        address: String,
    },
    /// The bytes of an event stream are not events.
    #[error("event stream from {address} is not valid")]
    StreamInvalid {
        /// Host and port.
        address: String,
    },
    /// A good status, but not an answer of the agent server.
    #[error("{address} did not answer like an agent server")]
    UnexpectedAnswer {
        /// Host and port.
        address: String,
        /// Why the body cannot be read; none when its content type is wrong.
        #[source]
        source: Option<serde_json::Error>,
    },
}

/// What is wrong with the values a client was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Not an absolute `http` or `https` URL.
    #[error("the server address is not an absolute http or https url")]
    BaseUrl,
    /// Not usable in a header.
    #[error("the token holds characters that a header cannot carry")]
    Token,
    /// TLS is needed and cannot be set up here.
    #[error("tls is not available: no usable certificate store")]
    Tls,
}

/// The server answered, and refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("server refused: {message} ({}, status {status}{})", self.word(), request_suffix(request_id.as_deref()))]
pub struct ServerError {
    /// The HTTP status.
    pub status: u16,
    /// What to branch on; `Unknown` when the answer is not one of the agent server.
    pub code: ErrorCode,
    /// The same of the gateway, whose errors have words of their own; then [`code`](Self::code) is `Unknown`.
    pub gateway_code: Option<String>,
    /// For people.
    pub message: String,
    /// Finds the request in the server's log.
    pub request_id: Option<String>,
    /// More facts for programs.
    pub details: Option<Value>,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

impl ServerError {
    fn word(&self) -> &str {
        self.gateway_code.as_deref().unwrap_or(self.code.as_str())
    }
}

fn request_suffix(request_id: Option<&str>) -> String {
    request_id.map(|id| format!(", {id}")).unwrap_or_default()
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportCause {
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// Too slow.
    #[error("timed out")]
    TimedOut,
    /// No connection for another reason, such as a name that does not resolve.
    #[error("cannot connect")]
    Unreachable,
    /// Closed or reset before the answer was complete.
    #[error("connection broken")]
    Broken,
}

impl TransportCause {
    fn of(error: &reqwest::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(inner) = cause {
            if inner.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
                return Self::Refused;
            }
            cause = inner.source();
        }
        match error {
            _ if error.is_timeout() => Self::TimedOut,
            _ if error.is_connect() => Self::Unreachable,
            _ => Self::Broken,
        }
    }
}

impl ClientError {
    pub(crate) fn transport(address: &str, source: reqwest::Error) -> Self {
        let cause = TransportCause::of(&source);
        Self::Transport { address: address.to_owned(), cause, source: source.without_url() }
    }

    /// The server's code, if it answered.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        self.server().map(|error| error.code)
    }

    /// The HTTP status, if the server answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.server().map(|error| error.status)
    }

    /// The server's answer, if it answered.
    #[must_use]
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the same call may work later. A write without an idempotency key may have taken effect already when
    /// the cause is not an answer.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Setup(_) | Self::InvalidArgument(_) | Self::UnexpectedAnswer { .. } => false,
            Self::Server(error) => match error.gateway_code.as_deref() {
                // The gateway gives this answer to the same key again.
                Some("delivery_failed") => false,
                Some("idempotency_in_progress") => true,
                _ => {
                    matches!(error.status, 408 | 429 | 502 | 503 | 504)
                        || error.code == ErrorCode::IdempotencyInProgress
                }
            },
            Self::Transport { .. } | Self::StreamClosed { .. } | Self::StreamInvalid { .. } => true,
        }
    }

    /// How long the server asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.server().and_then(|error| error.retry_after)
    }

    /// Whether the session's state, not the request, is in the way (409).
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(409)
    }

    /// Whether the session, run or path is gone (404).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }
}
