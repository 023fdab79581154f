//! From the port's request to a body: a pure function, byte-identical for the same history.
//!
//! Nothing is kept at the provider: reasoning comes back encrypted and goes out again before what it led to.

use serde_json::{Map, Value, json};
use stakpak_agent_core::ModelRequest;
use stakpak_protocol::{Message, MessageContent, MessagePart, ResultPart, Role, result_parts};

use crate::dialect::{
    Asked,
    content::{marked_text, object},
    reasoning::effort,
};

pub(crate) fn body(request: &ModelRequest, asked: Asked<'_>) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(asked.model));
    body.insert("stream".to_owned(), json!(true));
    body.insert("store".to_owned(), json!(false));
    let system = request.system.trim();
    if !system.is_empty() {
        body.insert("instructions".to_owned(), json!(system));
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({
                "type": "function", "name": tool.name, "description": tool.description,
                "parameters": tool.input_schema, "strict": false
            })
        });
        body.insert("tools".to_owned(), tools.collect());
    }
    let input = request.messages.iter().enumerate().flat_map(|(at, message)| items(at, message, asked));
    body.insert("input".to_owned(), input.collect());
    if let Some(limit) = request.max_output_tokens {
        body.insert("max_output_tokens".to_owned(), json!(limit));
    }
    if asked.cache_key {
        body.insert("prompt_cache_key".to_owned(), json!(request.session_id));
    }
    if let Some(reasoning) = asked.reasoning {
        body.insert("reasoning".to_owned(), json!({ "effort": effort(reasoning), "summary": "auto" }));
    }
    if asked.replays.is_some() && reasons(asked.model) {
        body.insert("include".to_owned(), json!(["reasoning.encrypted_content"]));
    }
    body
}

/// Models that do not reason refuse to encrypt what they do not have.
fn reasons(model: &str) -> bool {
    !["gpt-3", "gpt-4", "chatgpt-4", "ft:gpt-3", "ft:gpt-4"].iter().any(|prefix| model.starts_with(prefix))
}

/// Models that are known to take images in results.
fn sees(model: &str) -> bool {
    let seeing = ["gpt-4o", "gpt-4.1", "gpt-5", "o1", "o3", "o4"].iter().any(|prefix| model.starts_with(prefix));
    seeing && !["o1-mini", "o3-mini"].iter().any(|prefix| model.starts_with(prefix))
}

fn output(content: &Value, is_error: bool, model: &str) -> Value {
    let Some(parts) = result_parts(content).filter(|_| sees(model)) else {
        return marked_text(content, is_error).into();
    };
    let mark = is_error.then_some(ResultPart::Text("[error]"));
    let item = |part| match part {
        ResultPart::Text(text) => json!({ "type": "input_text", "text": text }),
        ResultPart::Image(url) => json!({ "type": "input_image", "image_url": url }),
    };
    mark.into_iter().chain(parts).map(item).collect()
}

fn items(at: usize, message: &Message, asked: Asked<'_>) -> Vec<Value> {
    let replayed = |part: usize| asked.replays.into_iter().flat_map(move |replays| replays.before(at, part)).cloned();
    let parts = match &message.content {
        MessageContent::Text(text) => &[MessagePart::text(text.clone())][..],
        MessageContent::Parts(parts) => parts,
    };
    let mut items: Vec<Value> = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        items.extend(replayed(n));
        push(&mut items, message.role, part, asked);
    }
    items.extend(replayed(parts.len()));
    items
}

fn push(items: &mut Vec<Value>, role: Role, part: &MessagePart, asked: Asked<'_>) {
    let (role, content) = match (role, part) {
        (Role::Assistant, MessagePart::Text { text, .. }) => {
            ("assistant", json!({ "type": "output_text", "text": text }))
        }
        (Role::System, MessagePart::Text { text, .. }) => ("system", json!({ "type": "input_text", "text": text })),
        (_, MessagePart::Text { text, .. }) => ("user", json!({ "type": "input_text", "text": text })),
        (_, MessagePart::Image { url, .. }) => ("user", json!({ "type": "input_image", "image_url": url })),
        (_, MessagePart::ToolCall { id, name, arguments, .. }) => {
            let arguments = object(arguments).to_string();
            items.push(json!({
                "type": "function_call", "call_id": asked.call_id(id), "name": name, "arguments": arguments
            }));
            return;
        }
        (_, MessagePart::ToolResult { tool_call_id, content, is_error, .. }) => {
            let output = output(content, *is_error, asked.model);
            items.push(json!({
                "type": "function_call_output", "call_id": asked.call_id(tool_call_id), "output": output
            }));
            return;
        }
    };
    match items.last_mut().filter(|last| last["role"] == role).and_then(|last| last["content"].as_array_mut()) {
        Some(before) => before.push(content),
        None => items.push(json!({ "type": "message", "role": role, "content": [content] })),
    }
}
