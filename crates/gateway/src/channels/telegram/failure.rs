//! What a failed call means.

use std::error::Error;

use teloxide_core::{ApiError, RequestError};

use crate::ChannelError;

/// Why a call was not done, or perhaps not.
#[derive(Debug)]
pub(super) enum Failure {
    /// The topic is no more; the chat may still be there.
    NoTopic(String),
    /// The group has this id now.
    MovedTo(i64),
    /// It is already as it should be.
    Unchanged,
    /// Nobody waits for the answer any more.
    TooLate,
    /// Anything else.
    Other(ChannelError),
}

impl From<Failure> for ChannelError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoTopic(reason) => Self::Rejected { reason },
            Failure::MovedTo(chat) => Self::Rejected { reason: format!("the group is now the supergroup {chat}") },
            Failure::Unchanged => Self::Rejected { reason: "nothing would change".to_owned() },
            Failure::TooLate => Self::Rejected { reason: "nobody waits for this any more".to_owned() },
            Failure::Other(error) => error,
        }
    }
}

impl Failure {
    pub(super) fn of(error: &RequestError, host: &str) -> Self {
        let host = host.to_owned();
        let uncertain = |reason: String| ChannelError::Uncertain { host: host.clone(), reason };
        Self::Other(match error {
            RequestError::Api(error) => return refusal(host, error),
            RequestError::MigrateToChatId(chat) => return Self::MovedTo(chat.0),
            RequestError::RetryAfter(seconds) => ChannelError::RateLimited { retry_after: seconds.duration() },
            RequestError::Network(error) => network(host, error),
            RequestError::InvalidJson { .. } => uncertain("the answer is not one of the Bot API".to_owned()),
            RequestError::Io(error) => uncertain(error.to_string()),
        })
    }
}

pub(super) fn network(host: String, error: &teloxide_reqwest::Error) -> ChannelError {
    match error {
        _ if error.is_connect() => ChannelError::Unreachable { host, reason: innermost(error) },
        _ if error.is_timeout() => ChannelError::Uncertain { host, reason: "timed out".to_owned() },
        _ => ChannelError::Uncertain { host, reason: innermost(error) },
    }
}

/// `teloxide` gives the description only; its first word is the platform's name of the status.
fn refusal(host: String, error: &ApiError) -> Failure {
    let reason = match error {
        ApiError::Unknown(text) => text.clone(),
        known => known.to_string(),
    };
    let starts = |words: &[&str]| words.iter().any(|word| reason.starts_with(word));
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    Failure::Other(match error {
        ApiError::MessageNotModified => return Failure::Unchanged,
        ApiError::InvalidToken => ChannelError::Unauthorized { host, reason },
        ApiError::CantGetUpdates => ChannelError::Conflict { reason: format!("Conflict: {reason}") },
        _ if says(&["message is not modified"]) => return Failure::Unchanged,
        _ if says(&["message thread not found", "TOPIC_CLOSED", "TOPIC_DELETED"]) => return Failure::NoTopic(reason),
        _ if says(&["query is too old"]) => return Failure::TooLate,
        _ if starts(&["Conflict"]) => ChannelError::Conflict { reason },
        // Also "Unauthorized: bot was kicked", which is about the chat and not about the token.
        _ if starts(&["Forbidden", "Unauthorized:"]) => ChannelError::NotAllowed { reason },
        _ if starts(&["Internal Server Error", "Bad Gateway", "Gateway Timeout"]) => {
            ChannelError::Uncertain { host, reason }
        }
        _ => ChannelError::Rejected { reason },
    })
}

/// The last cause says what happened; those above it repeat the address, which holds the token.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
