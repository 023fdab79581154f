//! Ids of tool calls: unique in the conversation, in the form every provider takes.

use std::collections::HashSet;

use stakpak_protocol::{Message, MessagePart, ToolCallId};
use uuid::Uuid;

/// The ids that are taken.
pub(crate) struct Ids(HashSet<String>);

impl Ids {
    pub(crate) fn of(messages: &[Message]) -> Self {
        let ids = messages.iter().flat_map(Message::parts).filter_map(|part| match part {
            MessagePart::ToolCall { id, .. } => Some(id.0.clone()),
            _ => None,
        });
        Self(ids.collect())
    }

    /// The provider's id, or a fresh one where that is taken or malformed: some repeat theirs every turn.
    pub(crate) fn take(&mut self, id: &str) -> ToolCallId {
        let id = if is_well_formed(id) && !self.0.contains(id) { id.to_owned() } else { fresh() };
        self.0.insert(id.clone());
        ToolCallId(id)
    }
}

fn is_well_formed(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// `call_` and 128 random bits in base 32.
fn fresh() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bits = Uuid::new_v4().as_u128();
    let digits = (0..26).map(|n| char::from(ALPHABET[(bits >> (n * 5) & 31) as usize]));
    "call_".chars().chain(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_that_are_taken_or_malformed_are_replaced() {
        let part = MessagePart::ToolCall {
            id: "call_0".into(),
            name: String::new(),
            arguments: serde_json::Value::Null,
            metadata: None,
            provider_options: None,
        };
        let mut ids = Ids::of(&[Message::assistant(vec![part])]);
        assert_eq!(ids.take("toolu_1-A").as_str(), "toolu_1-A");
        let mut seen = HashSet::new();
        for id in ["call_0", "toolu_1-A", "", "call#run#0", &"x".repeat(65)] {
            let fresh = ids.take(id);
            assert!(is_well_formed(fresh.as_str()) && fresh.as_str().len() == 31, "{fresh}");
            assert!(seen.insert(fresh));
        }
    }
}
