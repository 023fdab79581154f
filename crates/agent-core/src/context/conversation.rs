//! A history with a way to show it: sizes and views of one and the same selection.

use std::{borrow::Cow, sync::Arc};

use serde_json::Value;
use stakpak_protocol::{Message, MessagePart, Role};

use super::{
    ContextState, Cut, estimate,
    estimate::of_reasoning,
    shorten::{self, Tools},
};

/// The messages of a session with their places.
pub(crate) struct Conversation<'a> {
    entries: Vec<Entry<'a>>,
    tools: Tools<'a>,
}

struct Entry<'a> {
    index: u64,
    message: &'a Message,
    reasoning: Option<&'a Arc<Value>>,
}

/// A message as it is shown, and what goes back beside it.
pub(crate) type Shown<'a> = (Cow<'a, Message>, Option<&'a Arc<Value>>);

impl<'a> Conversation<'a> {
    pub(crate) fn new(history: impl Iterator<Item = (u64, &'a Message, Option<&'a Arc<Value>>)>) -> Self {
        let entries: Vec<Entry<'a>> =
            history.map(|(index, message, reasoning)| Entry { index, message, reasoning }).collect();
        let parts = entries.iter().flat_map(|entry| entry.message.parts());
        let tools = parts.filter_map(|part| match part {
            MessagePart::ToolCall { id, name, .. } => Some((id, name.as_str())),
            _ => None,
        });
        let tools = tools.collect();
        Self { entries, tools }
    }

    /// Behind the last message.
    pub(super) fn end(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.index + 1)
    }

    /// The messages from one place to another.
    pub(super) fn between(&self, from: u64, to: u64) -> impl DoubleEndedIterator<Item = (u64, &'a Message)> {
        let from = self.entries.partition_point(|entry| entry.index < from);
        let to = self.entries.partition_point(|entry| entry.index < to);
        self.entries[from..to.max(from)].iter().map(|entry| (entry.index, entry.message))
    }

    pub(super) fn tool(&self, id: &stakpak_protocol::ToolCallId) -> &'a str {
        self.tools.get(id).copied().unwrap_or("a tool")
    }

    /// Place of the last message that fits.
    pub(super) fn last(&self, fits: impl Fn(&Message) -> bool) -> Option<u64> {
        self.entries.iter().rfind(|entry| fits(entry.message)).map(|entry| entry.index)
    }

    /// The messages as a state shows them, without the summary.
    pub(crate) fn shown(&self, state: &ContextState) -> Vec<Shown<'a>> {
        let from = self.entries.partition_point(|entry| entry.index < state.first);
        self.entries[from..].iter().map(|entry| self.show(entry, state.cleared, state.cut)).collect()
    }

    /// Tokens of each message from a place on, as stubs before `cleared` and cut as said.
    pub(super) fn sizes(&self, first: u64, cleared: u64, cut: Option<Cut>) -> Vec<(u64, u64)> {
        let from = self.entries.partition_point(|entry| entry.index < first);
        let size = |entry| {
            let (message, reasoning) = self.show(entry, cleared, cut);
            estimate(&message) + reasoning.map_or(0, |reasoning| of_reasoning(reasoning))
        };
        self.entries[from..].iter().map(|entry| (entry.index, size(entry))).collect()
    }

    /// Tokens of all that a state shows, without the summary.
    pub(crate) fn size(&self, state: &ContextState) -> u64 {
        self.sizes(state.first, state.cleared, state.cut).iter().map(|(_, size)| size).sum()
    }

    /// What goes back to the provider stays with messages that are whole.
    fn show(&self, entry: &Entry<'a>, cleared: u64, cut: Option<Cut>) -> Shown<'a> {
        let Entry { index, message, reasoning } = *entry;
        if let Some(cut) = cut.filter(|cut| index < cut.before) {
            return (shorten::cut(message, usize::try_from(cut.keep).unwrap_or(usize::MAX)), None);
        }
        if index < cleared {
            return (shorten::cleared(message, &self.tools), None);
        }
        (Cow::Borrowed(message), reasoning)
    }

    /// The place at or behind `index` where a view can begin: results are not parted from their calls.
    pub(super) fn beginning_from(&self, index: u64) -> u64 {
        let mut from = self.between(index, u64::MAX);
        from.find(|(_, message)| message.role != Role::Tool).map_or(self.end(), |(index, _)| index)
    }

    /// The same at or before `index`.
    pub(super) fn beginning_before(&self, index: u64) -> u64 {
        let mut before = self.between(0, index + 1).rev();
        before.find(|(_, message)| message.role != Role::Tool).map_or(0, |(index, _)| index)
    }
}
