//! Numbers for Prometheus.
//!
//! What happens is counted as it becomes durable, in atomics; what *is* (queues, readers, states) is asked for when somebody
//! scrapes. Labels hold only names that the process knows, never text of a client or a model.

mod counters;
mod http;
mod measures;
mod tokens;
mod totals;

pub(crate) use counters::Counters;
pub use measures::Measures;
pub(crate) use totals::measure;

/// Content type of the text format.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
