//! Token counts where nobody reports them: bytes / 3.5, which is near enough for English and code.

use serde_json::{Value, json};
use stakpak_agent_core::ModelRequest;
use stakpak_protocol::{Message, MessageContent, MessagePart, Usage, result_text};

/// An image costs about this many bytes of text, whatever its size.
const IMAGE_BYTES: usize = 7_000;

/// Estimated usage; `raw` says that it is one.
pub(crate) fn usage(request: &ModelRequest, answer: &[MessagePart]) -> Usage {
    let tools: usize =
        request.tools.iter().map(|tool| tool.name.len() + tool.description.len() + json_len(&tool.input_schema)).sum();
    let messages: usize = request.messages.iter().map(message_len).sum();
    let prompt_tokens = tokens(request.system.len() + tools + messages);
    let completion_tokens = tokens(answer.iter().map(part_len).sum());
    Usage {
        prompt_tokens,
        completion_tokens,
        total_tokens: prompt_tokens + completion_tokens,
        input_token_details: None,
        output_token_details: None,
        raw: Some(json!({ "estimated": true })),
    }
}

fn tokens(bytes: usize) -> u64 {
    (bytes as u64 * 2).div_ceil(7)
}

fn message_len(message: &Message) -> usize {
    match &message.content {
        MessageContent::Text(text) => text.len(),
        MessageContent::Parts(parts) => parts.iter().map(part_len).sum(),
    }
}

fn part_len(part: &MessagePart) -> usize {
    match part {
        MessagePart::Text { text, .. } => text.len(),
        MessagePart::Image { .. } => IMAGE_BYTES,
        MessagePart::ToolCall { name, arguments, .. } => name.len() + json_len(arguments),
        MessagePart::ToolResult { content, .. } => match result_text(content, |_| " ".repeat(IMAGE_BYTES)) {
            Some(text) => text.len(),
            None => json_len(content),
        },
    }
}

fn json_len(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    }
}
