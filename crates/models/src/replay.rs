//! What a provider said beside the message and wants back: signatures, encrypted reasoning, its own ids of calls.
//!
//! It goes back to the same provider and model family only; any other gets the message alone.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stakpak_agent_core::ModelRequest;
use stakpak_protocol::MessagePart;

/// As it is stored with an answer. Positions are those of the answer's parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    provider: String,
    family: String,
    /// Each goes out before the part at its position, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    items: Vec<Item>,
    /// Where the provider's differ from ours; empty: it gave none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    call_ids: Vec<CallId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Item {
    position: usize,
    data: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CallId {
    position: usize,
    id: String,
}

impl Stored {
    pub(crate) fn new(provider: &str, model: &str) -> Self {
        Self { provider: provider.to_owned(), family: family(model).to_owned(), items: vec![], call_ids: vec![] }
    }

    pub(crate) fn keep(&mut self, position: usize, data: Value) {
        self.items.push(Item { position, data });
    }

    pub(crate) fn keep_call_id(&mut self, position: usize, id: String) {
        self.call_ids.push(CallId { position, id });
    }

    /// None if there is nothing to go back.
    pub(crate) fn into_value(self) -> Option<Value> {
        let empty = self.items.is_empty() && self.call_ids.is_empty();
        (!empty).then(|| serde_json::to_value(self).ok()).flatten()
    }
}

/// What goes back with a request.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    /// By message and part.
    items: HashMap<(usize, usize), Vec<Value>>,
    /// The provider's ids by ours.
    call_ids: HashMap<String, String>,
}

impl Replays {
    pub(crate) fn of(request: &ModelRequest, provider: &str, model: &str) -> Self {
        let mut replays = Self::default();
        for replay in &request.replays {
            let Ok(stored) = Stored::deserialize(replay.reasoning.as_ref()) else { continue };
            if stored.provider != provider || stored.family != family(model) {
                continue;
            }
            for Item { position, data } in stored.items {
                replays.items.entry((replay.message, replay.first_part + position)).or_default().push(data);
            }
            let parts = request.messages.get(replay.message).map(stakpak_protocol::Message::parts).unwrap_or_default();
            for CallId { position, id } in stored.call_ids {
                if let Some(MessagePart::ToolCall { id: ours, .. }) = parts.get(replay.first_part + position) {
                    replays.call_ids.insert(ours.0.clone(), id);
                }
            }
        }
        replays
    }

    /// What goes out before a part of a message; behind the last part for its number of parts.
    pub(crate) fn before(&self, message: usize, part: usize) -> &[Value] {
        self.items.get(&(message, part)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The provider's id of a call, if it is another than ours.
    pub(crate) fn call_id(&self, ours: &str) -> Option<&str> {
        self.call_ids.get(ours).map(String::as_str)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// The name up to the version: `claude-sonnet` of `claude-sonnet-4-5`, `o` of `o3`, `gemini` of `gemini-2.5-pro`.
fn family(model: &str) -> &str {
    let end = model.find(|character: char| character.is_ascii_digit()).unwrap_or(model.len());
    model[..end].trim_end_matches(['-', '.', ':'])
}

#[cfg(test)]
mod tests {
    use super::family;

    #[test]
    fn versions_of_a_model_are_one_family() {
        for (model, expected) in [
            ("claude-sonnet-4-5-20250929", "claude-sonnet"),
            ("claude-opus-4-1", "claude-opus"),
            ("gpt-5.1", "gpt"),
            ("o3", "o"),
            ("gemini-2.5-pro", "gemini"),
            ("plain", "plain"),
            ("7b", ""),
        ] {
            assert_eq!(family(model), expected);
        }
    }
}
