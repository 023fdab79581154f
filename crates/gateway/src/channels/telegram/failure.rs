//! What a failed call means.

use std::{error::Error, time::Duration};

use serde::Deserialize;
use teloxide_reqwest::StatusCode;

use crate::ChannelError;

/// A 429 without a time.
const UNTOLD_WAIT: Duration = Duration::from_secs(30);

/// What the platform says of a call that it did not do.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Parameters,
}

/// What would help.
#[derive(Debug, Default, Deserialize)]
struct Parameters {
    #[serde(default)]
    migrate_to_chat_id: Option<i64>,
    /// Seconds.
    #[serde(default)]
    retry_after: Option<u64>,
}

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

pub(super) fn network(host: String, error: &teloxide_reqwest::Error) -> ChannelError {
    match error {
        _ if error.is_connect() => ChannelError::Unreachable { host, reason: innermost(error) },
        _ if error.is_timeout() => ChannelError::Uncertain { host, reason: "timed out".to_owned() },
        _ => ChannelError::Uncertain { host, reason: innermost(error) },
    }
}

impl Refusal {
    /// By the status and, where that is too coarse, by the words.
    pub(super) fn meaning(self, status: StatusCode, host: String) -> Failure {
        let Self { description, parameters } = self;
        let reason = if description.is_empty() { status.to_string() } else { description };
        let starts = |word: &str| reason.starts_with(word);
        let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        if let Some(chat) = parameters.migrate_to_chat_id {
            return Failure::MovedTo(chat);
        }
        Failure::Other(match status {
            StatusCode::TOO_MANY_REQUESTS => {
                let retry_after = parameters.retry_after.map_or(UNTOLD_WAIT, Duration::from_secs);
                ChannelError::RateLimited { retry_after }
            }
            _ if says(&["message is not modified"]) => return Failure::Unchanged,
            _ if says(&["message thread not found", "TOPIC_CLOSED", "TOPIC_DELETED"]) => {
                return Failure::NoTopic(reason);
            }
            _ if says(&["query is too old"]) => return Failure::TooLate,
            StatusCode::CONFLICT if says(&["webhook"]) => {
                let remove = "`stakpak channel test telegram --delete-webhook` removes it";
                ChannelError::Conflict { reason: format!("{reason}; {remove}") }
            }
            StatusCode::CONFLICT => ChannelError::Conflict { reason },
            // Also "Unauthorized: bot was kicked", which is about the chat and not about the token.
            _ if status == StatusCode::FORBIDDEN || starts("Unauthorized:") => ChannelError::NotAllowed { reason },
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => ChannelError::Unauthorized { host, reason },
            _ if status.is_server_error() => ChannelError::Uncertain { host, reason },
            _ => ChannelError::Rejected { reason },
        })
    }
}

/// The last cause says what happened; those above it repeat the address, which holds the token.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
