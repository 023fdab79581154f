//! From history to what a provider gets: a pure function that never writes back.
//!
//! The view starts with a user's message, holds no empty text and no two neighbours of the same role but tool messages,
//! and answers every call exactly once, in declared order, right after its message.

use std::collections::HashMap;

use serde_json::Value;
use stakpak_protocol::{Message, MessageContent, MessagePart, Role, ToolCallId};

/// Renders the history.
pub(crate) fn render<'a>(history: impl Iterator<Item = &'a Message>) -> Vec<Message> {
    let history: Vec<&Message> = history.collect();
    let mut results: HashMap<&ToolCallId, &Message> = HashMap::new();
    for message in &history {
        for part in message.parts() {
            if let MessagePart::ToolResult { tool_call_id, .. } = part {
                results.entry(tool_call_id).or_insert(message);
            }
        }
    }
    let mut view = Vec::with_capacity(history.len());
    for message in history {
        if message.role == Role::Tool || is_empty(message) {
            continue;
        }
        push_merged(&mut view, without_empty_texts(message));
        for part in message.parts() {
            if let MessagePart::ToolCall { id, .. } = part {
                view.push(results.get(id).map_or_else(|| missing_result(id), |result| (*result).clone()));
            }
        }
    }
    let first_user = view.iter().position(|message| message.role == Role::User).unwrap_or(view.len());
    view.split_off(first_user)
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

fn push_merged(view: &mut Vec<Message>, message: Message) {
    match view.last_mut() {
        Some(last) if last.role == message.role => {
            let mut parts = into_parts(std::mem::replace(&mut last.content, MessageContent::Parts(Vec::new())));
            parts.extend(into_parts(message.content));
            last.content = MessageContent::Parts(parts);
        }
        _ => view.push(message),
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
