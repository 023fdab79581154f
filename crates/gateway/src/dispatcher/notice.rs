//! What the gateway itself says in a chat.

pub(super) const NO_ANSWER: &str = "The run ended without an answer.";
pub(super) const CANCELLED: &str = "The run was cancelled.";
pub(super) const MAX_TURNS: &str = "The run reached its limit of turns.";
pub(super) const NO_PROGRESS: &str =
    "The run was stopped: it made the same calls with the same results again and again. Say what it should do instead.";
pub(super) const TIMED_OUT: &str =
    "The run took longer than it may (`run_timeout_minutes`, or the timeout of its request) and was ended.";
pub(super) const RUN_LOST: &str = "The session of this run was deleted on the server; its answer is lost.";
pub(super) const SESSION_GONE: &str =
    "The session of this chat was deleted on the server. Going on in a new one, without its history.";
pub(super) const UNREACHABLE: &str =
    "The agent cannot be reached at the moment. Your message is kept and will be answered when it is back.";
pub(super) const GAVE_UP: &str =
    "This message was given up: the gateway was restarted several times while starting it. Send it again to retry.";

pub(super) fn run_failed(error: &str) -> String {
    format!("The run failed: {error}")
}

pub(super) fn not_started(error: &str) -> String {
    format!("This message could not be started: {error}")
}
