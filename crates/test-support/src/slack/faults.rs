//! What can go wrong with a call.

use std::{collections::VecDeque, time::Duration};

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlackFault {
    /// 429 with `Retry-After` in seconds; not done.
    RateLimited(u64),
    /// 503; not done.
    ErrorBefore,
    /// Done, then 503.
    ErrorAfter,
    /// Done, and the connection ends in the middle of the answer.
    AnswerLost,
    /// `ok: false` with this error; not done.
    Refused(&'static str),
    /// Takes this much longer.
    Slow(Duration),
}

/// Faults that wait for their call.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) latency: Duration,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    method: String,
    channel: Option<String>,
    fault: SlackFault,
}

impl Faults {
    pub(super) fn push(&mut self, method: &str, channel: Option<&str>, fault: SlackFault) {
        let channel = channel.map(str::to_owned);
        self.waiting.push_back(Waiting { method: method.to_owned(), channel, fault });
    }

    /// The oldest fault for such a call.
    pub(super) fn take(&mut self, method: &str, channel: Option<&str>) -> Option<SlackFault> {
        let matches = |waiting: &Waiting| {
            waiting.method == method && waiting.channel.as_deref().is_none_or(|wanted| channel == Some(wanted))
        };
        let index = self.waiting.iter().position(matches)?;
        self.waiting.remove(index).map(|waiting| waiting.fault)
    }
}
