//! The body of every answer that is not 2xx.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::RequestId;

/// The body of every answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// For people: names the field and the remedy.
    pub error: String,
    /// What clients branch on.
    pub code: ErrorCode,
    /// Same as the `x-request-id` header.
    pub request_id: RequestId,
    /// More facts for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// What clients branch on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A code of a later server; never sent by this one.
            #[serde(other)]
            Unknown,
        }

        #[cfg(test)]
        const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)*];

        impl ErrorCode {
            /// The HTTP status it comes with.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* Self::Unknown => 500 }
            }

            /// Its text on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* Self::Unknown => "unknown" }
            }
        }
    };
}

error_codes! {
    /// Token missing or wrong.
    Unauthorized = "unauthorized", 401;
    /// No such path, session, run or tool call.
    NotFound = "not_found", 404;
    /// A value out of bounds.
    InvalidRequest = "invalid_request", 400;
    /// POST messages takes user messages only.
    InvalidMessageRole = "invalid_message_role", 400;
    /// Caller-context limits.
    InvalidContext = "invalid_context", 400;
    /// An override is out of bounds or unknown.
    InvalidOverrides = "invalid_overrides", 400;
    /// The model cannot be resolved.
    InvalidModel = "invalid_model", 400;
    /// A cost limit is set and the model's price is unknown.
    PriceUnknown = "price_unknown", 400;
    /// One run a session at a time.
    SessionAlreadyRunning = "session_already_running", 409;
    /// There is no run for this command.
    SessionNotRunning = "session_not_running", 409;
    /// Another run is active.
    RunMismatch = "run_mismatch", 409;
    /// Same key and route, other body.
    IdempotencyKeyReused = "idempotency_key_reused", 409;
    /// The first request with this key is still running.
    IdempotencyInProgress = "idempotency_in_progress", 409;
    /// Longer than 255, or not printable ASCII.
    InvalidIdempotencyKey = "invalid_idempotency_key", 400;
    /// A bad id in the path.
    InvalidPath = "invalid_path", 400;
    /// A bad query value.
    InvalidQuery = "invalid_query", 400;
    /// The body is not JSON.
    InvalidJson = "invalid_json", 400;
    /// JSON of the wrong shape.
    InvalidBody = "invalid_body", 422;
    /// No JSON content type.
    UnsupportedMediaType = "unsupported_media_type", 415;
    /// The body is too large.
    PayloadTooLarge = "payload_too_large", 413;
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405;
    /// The `Host` header names another host.
    HostNotAllowed = "host_not_allowed", 403;
    /// The `Origin` header is not on the list.
    OriginNotAllowed = "origin_not_allowed", 403;
    /// Above the server's ceiling.
    Forbidden = "forbidden", 403;
    /// The body did not arrive in time.
    RequestTimeout = "request_timeout", 408;
    /// Too many requests.
    RateLimited = "rate_limited", 429;
    /// Too many undelivered commands.
    QueueFull = "queue_full", 429;
    /// Too many open streams.
    TooManyStreams = "too_many_streams", 429;
    /// Unexpected.
    InternalError = "internal_error", 500;
    /// The run could not be reserved; nothing was started.
    ActorStartupFailed = "actor_startup_failed", 500;
    /// This session's history is damaged.
    CheckpointReadFailed = "checkpoint_read_failed", 500;
    /// A remote store is unreachable.
    ConnectionError = "connection_error", 502;
    /// The journal cannot write.
    StorageUnavailable = "storage_unavailable", 503;
    /// The asked-for isolation is missing.
    SandboxUnavailable = "sandbox_unavailable", 503;
    /// The server is draining.
    ShuttingDown = "shutting_down", 503;
}

#[cfg(test)]
mod tests {
    use super::{ALL, ErrorCode};

    #[test]
    fn the_wire_the_text_and_the_schema_agree() {
        let schema = serde_json::to_value(<ErrorCode as utoipa::PartialSchema>::schema()).unwrap();
        for code in ALL {
            let text = code.as_str();
            assert_eq!(serde_json::to_value(code).unwrap(), text);
            assert_eq!(serde_json::from_value::<ErrorCode>(text.into()).unwrap(), *code);
            assert!(schema["enum"].as_array().unwrap().contains(&text.into()), "{text} is not in {schema}");
        }
        assert_eq!(serde_json::from_str::<ErrorCode>("\"of_a_later_server\"").unwrap(), ErrorCode::Unknown);
    }
}
