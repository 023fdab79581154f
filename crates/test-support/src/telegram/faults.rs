//! What can go wrong with a call.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFault {
    /// 429 with `retry_after` in seconds; not done.
    RateLimited(u64),
    /// 400; not done.
    Refused,
    /// 403: the person blocked the bot; not done.
    Blocked,
    /// 502; not done.
    BadGateway,
    /// Done, then 502.
    BadGatewayAfter,
    /// Done, and the answer never comes.
    AnswerLost,
    /// Done, and the connection ends within the answer.
    AnswerCut,
}

/// Faults that wait for their call.
#[derive(Debug, Default)]
pub(super) struct Faults {
    waiting: VecDeque<Waiting>,
    /// Chats under a flood limit; none stands for all of them.
    floods: HashMap<Option<i64>, Instant>,
}

#[derive(Debug)]
struct Waiting {
    method: String,
    chat: Option<i64>,
    fault: SendFault,
    /// Stays for the calls that follow.
    always: bool,
}

impl Faults {
    pub(super) fn push(&mut self, method: &str, chat: Option<i64>, fault: SendFault, always: bool) {
        self.waiting.push_back(Waiting { method: method.to_ascii_lowercase(), chat, fault, always });
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.floods.clear();
    }

    pub(super) fn flood(&mut self, chat: Option<i64>, seconds: u64) {
        self.floods.insert(chat, Instant::now() + Duration::from_secs(seconds));
    }

    /// The oldest fault for such a call.
    pub(super) fn take(&mut self, method: &str, chat: Option<i64>) -> Option<SendFault> {
        if let Some(seconds) = self.flooded(method, chat) {
            return Some(SendFault::RateLimited(seconds));
        }
        let matches = |waiting: &Waiting| waiting.method == method && (waiting.chat.is_none() || waiting.chat == chat);
        let index = self.waiting.iter().position(matches)?;
        if self.waiting[index].always {
            return Some(self.waiting[index].fault);
        }
        self.waiting.remove(index).map(|waiting| waiting.fault)
    }

    fn flooded(&self, method: &str, chat: Option<i64>) -> Option<u64> {
        if chat.is_none() || method.starts_with("get") {
            return None;
        }
        let until = [chat, None].iter().filter_map(|key| self.floods.get(key)).max()?;
        let left = until.checked_duration_since(Instant::now())?;
        Some(left.as_secs() + 1)
    }
}
