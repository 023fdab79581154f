//! From the port's request to a body: a pure function, byte-identical for the same history but for the cache marks.
//!
//! <https://platform.claude.com/docs/en/build-with-claude/prompt-caching>: at most four marks, longer ones first.

use serde_json::{Map, Value, json};
use stakpak_agent_core::{ModelRequest, is_note};
use stakpak_protocol::{Message, MessageContent, MessagePart, ResultPart, Role, result_parts};

use crate::dialect::{
    Asked,
    content::{Image, object, text_of},
    reasoning,
};

/// What stays from turn to turn.
const HOUR: &str = "1h";
/// What is read again by the next turn.
const MINUTES: &str = "5m";

pub(crate) fn body(request: &ModelRequest, asked: Asked<'_>) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(asked.model));
    body.insert("max_tokens".to_owned(), json!(asked.max_output_tokens));
    body.insert("stream".to_owned(), json!(true));
    if let Some(reasoning) = asked.reasoning {
        reasoning::for_anthropic(&mut body, asked.model, reasoning, asked.max_output_tokens);
    }
    let mut tools: Vec<Value> = request
        .tools
        .iter()
        .map(|tool| json!({ "name": tool.name, "description": tool.description, "input_schema": tool.input_schema }))
        .collect();
    if let Some(last) = tools.last_mut() {
        mark(last, HOUR);
        body.insert("tools".to_owned(), Value::Array(tools));
    }
    let system = request.system.trim();
    if !system.is_empty() {
        let mut block = json!({ "type": "text", "text": system });
        mark(&mut block, HOUR);
        body.insert("system".to_owned(), json!([block]));
    }
    body.insert("messages".to_owned(), Value::Array(messages(request, asked)));
    body
}

fn messages(request: &ModelRequest, asked: Asked<'_>) -> Vec<Value> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for (at, message) in request.messages.iter().enumerate() {
        // Results are the user's here, and all those of one answer belong together.
        let role = if message.role == Role::Assistant { "assistant" } else { "user" };
        let blocks = blocks(at, message, asked);
        match turns.last_mut() {
            Some((last, before)) if *last == role => before.extend(blocks),
            _ if blocks.is_empty() => {}
            _ => turns.push((role, blocks)),
        }
    }
    for (_, blocks) in turns.iter_mut().rev().take(2) {
        // A note is not there the next time: what is cached with it would be of no use.
        let markable = |block: &&mut Value| {
            !matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking"))
                && !block["text"].as_str().is_some_and(is_note)
        };
        if let Some(block) = blocks.iter_mut().rev().find(markable) {
            mark(block, MINUTES);
        }
    }
    turns.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

fn blocks(at: usize, message: &Message, asked: Asked<'_>) -> Vec<Value> {
    let parts = match &message.content {
        MessageContent::Text(text) => return vec![json!({ "type": "text", "text": text })],
        MessageContent::Parts(parts) => parts,
    };
    let replayed = |part: usize| asked.replays.into_iter().flat_map(move |replays| replays.before(at, part)).cloned();
    let mut blocks = Vec::with_capacity(parts.len());
    for (n, part) in parts.iter().enumerate() {
        blocks.extend(replayed(n));
        blocks.push(block(part, asked));
    }
    blocks.extend(replayed(parts.len()));
    blocks
}

fn block(part: &MessagePart, asked: Asked<'_>) -> Value {
    match part {
        MessagePart::Text { text, .. } => json!({ "type": "text", "text": text }),
        MessagePart::Image { url, .. } => image(url),
        MessagePart::ToolCall { id, name, arguments, .. } => {
            json!({ "type": "tool_use", "id": asked.call_id(id), "name": name, "input": object(arguments) })
        }
        MessagePart::ToolResult { tool_call_id, content, is_error, .. } => {
            let mut block = json!({ "type": "tool_result", "tool_use_id": asked.call_id(tool_call_id), "content": result(content) });
            if *is_error {
                block["is_error"] = json!(true);
            }
            block
        }
    }
}

fn image(url: &str) -> Value {
    match Image::of(url) {
        Image::Inline { kind, base64 } => {
            json!({ "type": "image", "source": { "type": "base64", "media_type": kind, "data": base64 } })
        }
        Image::Url(url) => json!({ "type": "image", "source": { "type": "url", "url": url } }),
    }
}

fn result(content: &Value) -> Value {
    let Some(parts) = result_parts(content) else { return text_of(content).into() };
    let block = |part| match part {
        ResultPart::Text(text) => json!({ "type": "text", "text": text }),
        ResultPart::Image(url) => image(url),
    };
    parts.into_iter().map(block).collect()
}

fn mark(block: &mut Value, ttl: &str) {
    block["cache_control"] = json!({ "type": "ephemeral", "ttl": ttl });
}
