//! From the port's request to genai's: a pure function, byte-identical for the same history.

use genai::chat::{ChatMessage, ChatRequest, ContentPart, MessageContent as Content, Tool, ToolCall, ToolResponse};
use serde_json::{Map, Value, json};
use stakpak_agent_core::ModelRequest;
use stakpak_protocol::{Message, MessageContent, MessagePart, Role};

use crate::dialect::{
    Asked,
    content::{Image, marked_text, object},
    reasoning::effort,
};

pub(crate) fn request(request: &ModelRequest) -> ChatRequest {
    // A message, not the request's own field: only a message can carry a cache mark.
    let system = Some(request.system.trim()).filter(|system| !system.is_empty()).map(ChatMessage::system);
    let messages = system.into_iter().chain(request.messages.iter().map(message)).collect();
    let tools = request.tools.iter().map(|tool| {
        Tool::new(tool.name.clone()).with_description(tool.description.clone()).with_schema(tool.input_schema.clone())
    });
    let chat = ChatRequest::new(messages);
    if request.tools.is_empty() { chat } else { chat.with_tools(tools) }
}

/// What replaces keys of genai's body.
pub(crate) fn extras(request: &ModelRequest, asked: Asked<'_>) -> Map<String, Value> {
    // genai reads an effort from the end of an id and cuts it off.
    let mut extras = Map::from_iter([("model".to_owned(), json!(asked.model))]);
    if asked.cache_key {
        extras.insert("prompt_cache_key".to_owned(), json!(request.session_id));
    }
    if let Some(reasoning) = asked.reasoning {
        extras.insert("reasoning_effort".to_owned(), json!(effort(reasoning)));
    }
    extras
}

fn message(message: &Message) -> ChatMessage {
    let content = match &message.content {
        MessageContent::Text(text) => Content::from_text(text),
        MessageContent::Parts(parts) => Content::from_parts(parts.iter().map(part).collect::<Vec<_>>()),
    };
    match message.role {
        Role::System => ChatMessage::system(content),
        Role::User => ChatMessage::user(content),
        Role::Assistant => ChatMessage::assistant(content),
        Role::Tool => ChatMessage::tool(content),
    }
}

fn part(part: &MessagePart) -> ContentPart {
    match part {
        MessagePart::Text { text, .. } => ContentPart::from_text(text),
        MessagePart::Image { url, .. } => image(url),
        MessagePart::ToolCall { id, name, arguments, .. } => ContentPart::ToolCall(ToolCall {
            call_id: id.0.clone(),
            fn_name: name.clone(),
            fn_arguments: object(arguments),
            thought_signatures: None,
        }),
        MessagePart::ToolResult { tool_call_id, content, is_error, .. } => {
            ContentPart::ToolResponse(ToolResponse::new(tool_call_id.0.clone(), marked_text(content, *is_error)))
        }
    }
}

fn image(url: &str) -> ContentPart {
    match Image::of(url) {
        Image::Inline { kind, base64 } => ContentPart::from_binary_base64(kind, base64, None),
        // The kind only tells genai that it is an image; a URL goes out as it is.
        Image::Url(url) => ContentPart::from_binary_url("image/*", url, None),
    }
}
