//! From the port's request to a body: a pure function, byte-identical for the same history.
//!
//! <https://ai.google.dev/gemini-api/docs/thought-signatures>: a signature goes back in the very part it came with.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use stakpak_agent_core::ModelRequest;
use stakpak_protocol::{Message, MessageContent, MessagePart, ResultPart, Role, result_parts, result_text};

use crate::dialect::{
    Asked,
    content::{Image, object, text_of},
    reasoning,
};

/// Stands in for the signature of a call that another model made; documented for Gemini 3, which refuses to go without.
const FOREIGN_CALL: &str = "skip_thought_signature_validator";

pub(crate) fn body(request: &ModelRequest, asked: Asked<'_>) -> Map<String, Value> {
    let mut body = Map::new();
    let system = request.system.trim();
    if !system.is_empty() {
        body.insert("systemInstruction".to_owned(), json!({ "parts": [{ "text": system }] }));
    }
    if !request.tools.is_empty() {
        let declarations = request.tools.iter().map(|tool| {
            json!({ "name": tool.name, "description": tool.description, "parametersJsonSchema": tool.input_schema })
        });
        body.insert("tools".to_owned(), json!([{ "functionDeclarations": declarations.collect::<Value>() }]));
    }
    body.insert("contents".to_owned(), contents(request, asked));
    let mut generation = Map::new();
    if let Some(limit) = request.max_output_tokens {
        generation.insert("maxOutputTokens".to_owned(), json!(limit));
    }
    if let Some(reasoning) = asked.reasoning {
        let thinking = reasoning::for_gemini(asked.model, reasoning, asked.max_output_tokens);
        generation.insert("thinkingConfig".to_owned(), thinking);
    }
    if !generation.is_empty() {
        body.insert("generationConfig".to_owned(), Value::Object(generation));
    }
    body
}

fn contents(request: &ModelRequest, asked: Asked<'_>) -> Value {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut contents: Vec<(&str, Vec<Value>)> = Vec::new();
    for (at, message) in request.messages.iter().enumerate() {
        let role = if message.role == Role::Assistant { "model" } else { "user" };
        for part in message.parts() {
            if let MessagePart::ToolCall { id, name, .. } = part {
                names.insert(id.as_str(), name);
            }
        }
        let parts = parts(at, message, &names, asked);
        match contents.last_mut() {
            Some((last, before)) if *last == role => before.extend(parts),
            _ if parts.is_empty() => {}
            _ => contents.push((role, parts)),
        }
    }
    contents.into_iter().map(|(role, parts)| json!({ "role": role, "parts": parts })).collect()
}

fn parts(at: usize, message: &Message, names: &HashMap<&str, &str>, asked: Asked<'_>) -> Vec<Value> {
    let parts = match &message.content {
        MessageContent::Text(text) => return vec![json!({ "text": text })],
        MessageContent::Parts(parts) => parts,
    };
    let mut rendered: Vec<Value> = Vec::with_capacity(parts.len());
    let mut signed_call = false;
    for (n, part) in parts.iter().enumerate() {
        let mut value = self::part(part, names, asked);
        for replayed in asked.replays.into_iter().flat_map(|replays| replays.before(at, n)) {
            attach(&mut rendered, Some(&mut value), replayed);
        }
        if matches!(part, MessagePart::ToolCall { .. }) && !std::mem::replace(&mut signed_call, true) {
            let unsigned = value.get("thoughtSignature").is_none();
            if unsigned && asked.model.contains("gemini-3") {
                value["thoughtSignature"] = json!(FOREIGN_CALL);
            }
        }
        rendered.push(value);
    }
    for replayed in asked.replays.into_iter().flat_map(|replays| replays.before(at, parts.len())) {
        attach(&mut rendered, None, replayed);
    }
    rendered
}

/// A lone signature belongs to the part that follows; anything else is a part of its own.
fn attach(rendered: &mut Vec<Value>, next: Option<&mut Value>, replayed: &Value) {
    match (next, replayed.get("text").is_none().then(|| &replayed["thoughtSignature"])) {
        (Some(next), Some(signature)) => next["thoughtSignature"] = signature.clone(),
        _ => rendered.push(replayed.clone()),
    }
}

/// <https://ai.google.dev/gemini-api/docs/function-calling#multimodal>: from Gemini 3 on.
fn images(content: &Value) -> Vec<Value> {
    let parts = result_parts(content).unwrap_or_default().into_iter();
    let inline = parts.filter_map(|part| match part {
        ResultPart::Image(url) => match Image::of(url) {
            Image::Inline { kind, base64 } => Some(json!({ "inlineData": { "mimeType": kind, "data": base64 } })),
            Image::Url(_) => None,
        },
        ResultPart::Text(_) => None,
    });
    inline.collect()
}

fn part(part: &MessagePart, names: &HashMap<&str, &str>, asked: Asked<'_>) -> Value {
    match part {
        MessagePart::Text { text, .. } => json!({ "text": text }),
        MessagePart::Image { url, .. } => match Image::of(url) {
            Image::Inline { kind, base64 } => json!({ "inlineData": { "mimeType": kind, "data": base64 } }),
            Image::Url(url) => json!({ "fileData": { "fileUri": url } }),
        },
        MessagePart::ToolCall { id, name, arguments, .. } => {
            let mut call = json!({ "name": name, "args": object(arguments) });
            if let Some(id) = asked.given_id(id) {
                call["id"] = json!(id);
            }
            json!({ "functionCall": call })
        }
        MessagePart::ToolResult { tool_call_id, content, is_error, .. } => {
            let key = if *is_error { "error" } else { "output" };
            let name = names.get(tool_call_id.as_str()).copied().unwrap_or_default();
            let mut response = json!({ "name": name, "response": { key: text_of(content) } });
            if let Some(id) = asked.given_id(tool_call_id) {
                response["id"] = json!(id);
            }
            let images = images(content);
            if asked.model.contains("gemini-3") && !images.is_empty() {
                response["response"] =
                    json!({ key: result_text(content, |_| String::new()).unwrap_or_default().trim() });
                response["parts"] = images.into();
            }
            json!({ "functionResponse": response })
        }
    }
}
