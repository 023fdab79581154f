//! `progress = "messages"`: a run's text as messages while it grows.
//!
//! * A message ends at a blank line, or at the end of a line when it is long or its beginning has waited; never within a code
//!   fence. What a finished turn still has is a message, too.
//! * What was sent is stored with the messages, by text: following a run again, in whatever pieces its events come, sends
//!   nothing twice. Nothing that was sent can be taken back: a turn that the model begins anew goes on behind it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stakpak_client::protocol::Event;
use tokio::time::Instant;

use crate::chunking::{Breaks, breaks};

/// From this many characters on the end of a line is good enough.
const LONG: usize = 500;
/// After this long it is, too.
const PATIENCE: Duration = Duration::from_secs(3);

/// What of a run was sent, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// What was sent of each text that is not blank, in order; of all but the last everything.
    texts: Vec<String>,
    /// How often the model had begun the last one anew.
    restarts: u32,
    /// Messages so far.
    pub(super) messages: u32,
}

/// The text of a run on its way to a chat.
#[derive(Debug)]
pub(super) struct Segments {
    pub(super) sent: Sent,
    /// Number of the text that is being written.
    at: usize,
    restarts: u32,
    current: String,
    /// Where the part of `current` that was not sent may be cut.
    breaks: Breaks,
    /// When the first of that came.
    since: Option<Instant>,
}

impl Segments {
    pub(super) fn new(sent: Sent) -> Self {
        Self { sent, at: 0, restarts: 0, current: String::new(), breaks: Breaks::default(), since: None }
    }

    /// The next message, if the event completes one.
    pub(super) fn take(&mut self, event: &Event, now: Instant) -> Option<String> {
        match event {
            Event::TextDelta { delta, .. } => {
                self.current.push_str(delta);
                let rest = self.rest(&self.current)?;
                let (breaks, waits) = (delta.contains('\n').then(|| breaks(rest)), !rest.is_empty());
                self.breaks = breaks.unwrap_or(self.breaks);
                self.since = self.since.or(waits.then_some(now));
                self.due_now(now)
            }
            Event::TextComplete { text, .. } if text.trim().is_empty() => {
                self.begin_again(0);
                None
            }
            Event::TextComplete { text, .. } => {
                let rest = self.rest_of_whole(text).to_owned();
                if self.at + 1 >= self.sent.texts.len() {
                    self.remember(text.clone());
                }
                self.at += 1;
                self.begin_again(0);
                self.numbered(rest)
            }
            Event::RetryAttempt { discard_text: Some(true), .. } => {
                self.begin_again(self.restarts + 1);
                None
            }
            _ => None,
        }
    }

    /// When the beginning of what waits has waited long enough to be sent as far as it goes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.breaks.line.and(self.since).map(|since| since + PATIENCE)
    }

    /// What may be sent by now.
    pub(super) fn due_now(&mut self, now: Instant) -> Option<String> {
        let rest = self.rest(&self.current)?;
        let long = rest.chars().count() >= LONG;
        let late = self.due().is_some_and(|due| due <= now);
        let end = self.breaks.line.filter(|_| long || late).or(self.breaks.paragraph)?;
        let segment = rest.get(..end).filter(|segment| !segment.trim().is_empty())?.to_owned();
        let sent = self.current.len() - rest.len() + end;
        self.remember(self.current[..sent].to_owned());
        // What follows the last break of either kind has none.
        let left = &self.current[sent..];
        self.breaks = breaks(left);
        self.since = (!left.is_empty()).then_some(now);
        self.numbered(segment)
    }

    /// What was not sent of these texts, which are all that the run said.
    pub(super) fn unsent(&self, texts: Vec<String>) -> Vec<String> {
        let mut sent = self.sent.texts.iter().enumerate().peekable();
        let last = self.sent.texts.len().saturating_sub(1);
        let rest = |text: String| {
            let of = |(at, sent): &(usize, &String)| **sent == text || (*at == last && text.starts_with(sent.as_str()));
            let Some(found) = sent.clone().find(of) else { return text };
            while sent.next_if(|(at, _)| *at <= found.0).is_some() {}
            text[found.1.len()..].to_owned()
        };
        texts.into_iter().map(rest).collect()
    }

    /// The end of what has come so far of the current text that is new; none while all of it was sent.
    fn rest<'a>(&self, text: &'a str) -> Option<&'a str> {
        let Some(sent) = self.sent.texts.get(self.at) else { return Some(text) };
        let is_last = self.at + 1 == self.sent.texts.len();
        if !is_last || self.restarts < self.sent.restarts {
            return None;
        }
        match text.strip_prefix(sent.as_str()) {
            Some(rest) => Some(rest),
            None if sent.starts_with(text) => None,
            // Begun anew, and otherwise than before.
            None => (self.restarts > self.sent.restarts).then_some(text),
        }
    }

    fn rest_of_whole<'a>(&self, text: &'a str) -> &'a str {
        match self.sent.texts.get(self.at) {
            None => text,
            Some(_) if self.at + 1 < self.sent.texts.len() => "",
            Some(sent) => text.strip_prefix(sent.as_str()).unwrap_or(text),
        }
    }

    fn remember(&mut self, text: String) {
        match self.sent.texts.get_mut(self.at) {
            Some(sent) => *sent = text,
            None => self.sent.texts.push(text),
        }
        self.sent.restarts = self.restarts;
    }

    fn begin_again(&mut self, restarts: u32) {
        self.current.clear();
        (self.restarts, self.breaks, self.since) = (restarts, Breaks::default(), None);
    }

    fn numbered(&mut self, segment: String) -> Option<String> {
        if segment.trim().is_empty() {
            return None;
        }
        self.sent.messages += 1;
        Some(segment)
    }
}

#[cfg(test)]
mod tests;
