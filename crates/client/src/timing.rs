//! How long the client waits for what.

use std::time::Duration;

/// How long the client waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For a TCP connection.
    pub connect: Duration,
    /// For a whole answer; event streams are exempt.
    pub request: Duration,
    /// Silence after which an event stream counts as dead. The server sends a keep-alive every 15 s.
    pub idle: Duration,
    /// The first wait before a repeat or a reconnect; it doubles up to `retry_max`.
    pub retry_first: Duration,
    /// The longest wait. An answer whose `Retry-After` is longer is not repeated but given to the caller.
    pub retry_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(30),
            idle: Duration::from_secs(45),
            retry_first: Duration::from_millis(250),
            retry_max: Duration::from_secs(10),
        }
    }
}
