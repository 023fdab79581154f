//! From history to what a provider gets: a pure function that never writes back.
//!
//! The view starts with a user's message, holds no empty text and no two neighbours of the same role but tool messages,
//! and answers every call exactly once, in declared order, right after its message.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;
use stakpak_protocol::{Message, MessageContent, MessagePart, Role, ToolCallId};

use crate::Replay;

/// Renders the history, and says where in it is what providers said beside their answers.
pub(crate) fn render<'a>(
    history: impl Iterator<Item = (&'a Message, Option<&'a Arc<Value>>)>,
) -> (Vec<Message>, Vec<Replay>) {
    let history: Vec<_> = history.collect();
    let mut results: HashMap<&ToolCallId, &Message> = HashMap::new();
    for (message, _) in &history {
        for part in message.parts() {
            if let MessagePart::ToolResult { tool_call_id, .. } = part {
                results.entry(tool_call_id).or_insert(message);
            }
        }
    }
    let mut view = Vec::with_capacity(history.len());
    let mut replays = Vec::new();
    for (message, reasoning) in history {
        if message.role == Role::Tool || is_empty(message) {
            continue;
        }
        let first_part = push_merged(&mut view, without_empty_texts(message));
        replays.extend(reasoning.map(|reasoning| Replay {
            message: view.len() - 1,
            first_part,
            reasoning: Arc::clone(reasoning),
        }));
        for part in message.parts() {
            if let MessagePart::ToolCall { id, .. } = part {
                view.push(results.get(id).map_or_else(|| missing_result(id), |result| (*result).clone()));
            }
        }
    }
    let first_user = view.iter().position(|message| message.role == Role::User).unwrap_or(view.len());
    replays.retain_mut(|replay| match replay.message.checked_sub(first_user) {
        Some(message) => {
            replay.message = message;
            true
        }
        None => false,
    });
    (view.split_off(first_user), replays)
}

fn is_empty(message: &Message) -> bool {
    match &message.content {
        MessageContent::Text(text) => text.is_empty(),
        MessageContent::Parts(parts) => parts.iter().all(is_empty_text),
    }
}

fn is_empty_text(part: &MessagePart) -> bool {
    matches!(part, MessagePart::Text { text, .. } if text.is_empty())
}

fn without_empty_texts(message: &Message) -> Message {
    let mut message = message.clone();
    if let MessageContent::Parts(parts) = &mut message.content {
        parts.retain(|part| !is_empty_text(part));
    }
    message
}

/// Adds a message to the last one if that has the same role; tells the index of its first part there.
fn push_merged(view: &mut Vec<Message>, message: Message) -> usize {
    match view.last_mut() {
        Some(last) if last.role == message.role => {
            let mut parts = into_parts(std::mem::replace(&mut last.content, MessageContent::Parts(Vec::new())));
            let first_part = parts.len();
            parts.extend(into_parts(message.content));
            last.content = MessageContent::Parts(parts);
            first_part
        }
        _ => {
            view.push(message);
            0
        }
    }
}

fn into_parts(content: MessageContent) -> Vec<MessagePart> {
    match content {
        MessageContent::Text(text) => vec![MessagePart::text(text)],
        MessageContent::Parts(parts) => parts,
    }
}

fn missing_result(id: &ToolCallId) -> Message {
    let part = MessagePart::ToolResult {
        tool_call_id: id.clone(),
        content: Value::String("The result of this call is not known.".to_owned()),
        is_error: true,
        provider_options: None,
    };
    Message::new(Role::Tool, MessageContent::Parts(vec![part]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// C-P14: what goes back stays at its part, whatever is merged or left out before it.
    #[test]
    fn reasoning_stays_at_its_answer() {
        let text = |text: &str| MessagePart::text(text);
        let history = [
            (Message::assistant(vec![text("before any user")]), Some(json!("lost"))),
            (Message::user("a"), None),
            (Message::assistant(vec![text("one"), text("two")]), Some(json!("first"))),
            (Message::assistant(vec![]), Some(json!("of nothing"))),
            (Message::assistant(vec![text("three")]), Some(json!("second"))),
        ]
        .map(|(message, reasoning)| (message, reasoning.map(Arc::new)));
        let (view, replays) = render(history.iter().map(|(message, reasoning)| (message, reasoning.as_ref())));
        assert_eq!(view.len(), 2);
        assert_eq!(view[1].text(), "onetwothree");
        let at = |first_part, reasoning: &str| Replay { message: 1, first_part, reasoning: Arc::new(json!(reasoning)) };
        assert_eq!(replays, [at(0, "first"), at(2, "second")]);
    }
}
