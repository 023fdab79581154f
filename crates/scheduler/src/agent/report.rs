//! How an agent run went.

use std::fmt;

use stakpak_client::ClientError;
use stakpak_protocol::{ErrorCode, LastErrorCode, RunId, StopReason, Usage, Usd};

/// The shape that programs build and read. [`AgentReport`] knows more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentResult {
    /// 0 completed, 1 failed, cancelled or unknown, 10 paused; none when timed out.
    pub exit_code: Option<i32>,
    /// The session, if one was made.
    pub session_id: Option<String>,
    /// Version 5 id of (session, last message) at its end.
    pub checkpoint_id: Option<String>,
    /// Cancelled at its time limit.
    pub timed_out: bool,
    /// Calls wait for a person.
    pub paused: bool,
    /// The calls it waits for, as JSON.
    pub pause_reason: Option<String>,
    /// How to go on.
    pub resume_hint: Option<String>,
    /// All text of the agent.
    pub stdout: String,
    /// What went wrong.
    pub stderr: String,
}

impl AgentResult {
    /// Whether the agent ended by itself.
    #[must_use]
    pub fn success(&self) -> bool {
        self.exit_code == Some(0)
    }

    /// Whether calls wait for a person.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused || self.exit_code == Some(10)
    }

    /// Whether it ended otherwise.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.timed_out || self.exit_code.is_some_and(|code| code != 0 && code != 10)
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentOutcome {
    /// By itself.
    Completed,
    /// At its last turn.
    MaxTurns,
    /// By an error.
    Failed,
    /// By request of somebody else.
    Cancelled,
    /// Cancelled at its time limit; the server confirmed it.
    TimedOut,
    /// It has not: calls wait for a person.
    Paused,
    /// The server does not know the run.
    Unknown,
    /// It was to be cancelled, and the server has not confirmed it.
    Unconfirmed,
}

/// How an agent run went, in full.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentReport {
    /// The plain shape.
    pub result: AgentResult,
    /// The run.
    pub run_id: Option<RunId>,
    /// How it ended.
    pub outcome: AgentOutcome,
    /// Why the agent stopped.
    pub stop_reason: Option<StopReason>,
    /// Turns begun.
    pub turns: Option<u64>,
    /// Tokens, summed over its answers.
    pub usage: Option<Usage>,
    /// What they cost, where the price is known.
    pub cost: Option<Usd>,
    /// Class of the error, if it failed.
    pub error_code: Option<LastErrorCode>,
    /// The same may succeed another time, says the server.
    pub retryable: bool,
    /// A tool with side effects was started.
    pub side_effects: bool,
    /// The last message of the agent that holds text.
    pub final_message: Option<String>,
}

/// What a run begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentRequest {
    /// Its session; nothing runs yet.
    Session,
    /// Its message: once accepted, it runs.
    Message,
    /// Both at once, by the chat gateway.
    HandOver,
}

impl fmt::Display for AgentRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "the request for a session",
            Self::Message => "the message",
            Self::HandOver => "the request that the chat gateway starts it",
        })
    }
}

/// No run was started, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The server refused; repeating would not help.
    #[error("the agent server refused {request}")]
    Refused {
        /// What was asked.
        request: AgentRequest,
        /// Its answer.
        #[source]
        source: ClientError,
    },
    /// No usable answer until the time limit.
    #[error("no answer from the agent server to {request} within the time limit")]
    NoAnswer {
        /// What was asked.
        request: AgentRequest,
        /// The last attempt, if it ended before the limit.
        #[source]
        source: Option<ClientError>,
    },
    /// The chat gateway may have forgotten the request by now, and would do it twice.
    #[error("the chat gateway was asked to start the run more than a day ago; what became of it is not known")]
    TooLate,
}

impl AgentError {
    /// Whether there may be a run all the same.
    pub(crate) fn may_have_started(&self) -> bool {
        matches!(self, Self::NoAnswer { request: AgentRequest::Message, .. })
    }

    /// The server's code, if it answered.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { source, .. } => source.code(),
            Self::NoAnswer { source, .. } => source.as_ref().and_then(ClientError::code),
            Self::TooLate => None,
        }
    }
}
