//! From the port's request to genai's, whose body follows <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html>.
//!
//! A pure function, byte-identical for the same history. What genai's types have no place for: an error flag of results,
//! which begin with `[error] ` instead, and marks for the cache.

use genai::chat::{
    ChatMessage, ChatRequest, ContentPart, MessageContent as Content, ReasoningEffort, Tool, ToolCall, ToolResponse,
};
use serde_json::Value;
use stakpak_agent_core::ModelRequest;
use stakpak_protocol::{Message, MessageContent, MessagePart, Role};

use crate::dialect::{
    Asked,
    content::{Image, marked_text, object},
    reasoning,
};

pub(crate) fn request(request: &ModelRequest, asked: Asked<'_>) -> ChatRequest {
    let system = Some(request.system.trim()).filter(|system| !system.is_empty()).map(ChatMessage::system);
    let mut turns: Vec<(bool, Vec<ContentPart>)> = Vec::new();
    for (at, message) in request.messages.iter().enumerate() {
        // Results are the user's here, and all those of one answer belong together.
        let is_answer = message.role == Role::Assistant;
        let parts = parts(at, message, asked);
        match turns.last_mut() {
            Some((last, before)) if *last == is_answer => before.extend(parts),
            _ if parts.is_empty() => {}
            _ => turns.push((is_answer, parts)),
        }
    }
    let turns = turns.into_iter().map(|(is_answer, parts)| {
        let content = Content::from_parts(parts);
        if is_answer { ChatMessage::assistant(content) } else { ChatMessage::user(content) }
    });
    let chat = ChatRequest::new(system.into_iter().chain(turns).collect());
    let tools = request.tools.iter().map(|tool| {
        Tool::new(tool.name.clone()).with_description(tool.description.clone()).with_schema(tool.input_schema.clone())
    });
    if request.tools.is_empty() { chat } else { chat.with_tools(tools) }
}

/// What genai says of thinking; off is said differently for each vendor, so that nothing is sent.
pub(crate) fn effort(asked: Asked<'_>) -> ReasoningEffort {
    let budget = asked.reasoning.and_then(|wanted| reasoning::claude_budget(wanted, asked.max_output_tokens));
    match budget.and_then(|tokens| u32::try_from(tokens).ok()) {
        Some(tokens) => ReasoningEffort::Budget(tokens),
        None if asked.model.contains("openai.") => ReasoningEffort::Budget(0),
        None => ReasoningEffort::Zero,
    }
}

fn parts(at: usize, message: &Message, asked: Asked<'_>) -> Vec<ContentPart> {
    let parts = match &message.content {
        MessageContent::Text(text) => return vec![ContentPart::from_text(text)],
        MessageContent::Parts(parts) => parts,
    };
    let replayed = |part: usize| asked.replays.into_iter().flat_map(move |replays| replays.before(at, part));
    let mut rendered = Vec::with_capacity(parts.len());
    for (n, part) in parts.iter().enumerate() {
        rendered.extend(replayed(n).flat_map(thinking));
        // A blank text is refused.
        if !matches!(part, MessagePart::Text { text, .. } if text.trim().is_empty()) {
            rendered.push(self::part(part, asked));
        }
    }
    rendered.extend(replayed(parts.len()).flat_map(thinking));
    rendered
}

/// Signed thinking is its signature and then its text; what is sealed has no text.
fn thinking(kept: &Value) -> Vec<ContentPart> {
    let text = |name: &str| kept[name].as_str().map(str::to_owned);
    let signature = text("signature").map(ContentPart::ThoughtSignature);
    signature.into_iter().chain(text("text").map(ContentPart::ReasoningContent)).collect()
}

fn part(part: &MessagePart, asked: Asked<'_>) -> ContentPart {
    match part {
        MessagePart::Text { text, .. } => ContentPart::from_text(text),
        MessagePart::Image { url, .. } => match Image::of(url) {
            Image::Inline { kind, base64 } => ContentPart::from_binary_base64(kind, base64, None),
            Image::Url(url) => ContentPart::from_text(format!("(an image at {url}, which cannot be shown here)")),
        },
        MessagePart::ToolCall { id, name, arguments, .. } => ContentPart::ToolCall(ToolCall {
            call_id: asked.call_id(id).to_owned(),
            fn_name: name.clone(),
            fn_arguments: object(arguments),
            thought_signatures: None,
        }),
        MessagePart::ToolResult { tool_call_id, content, is_error, .. } => ContentPart::ToolResponse(
            ToolResponse::new(asked.call_id(tool_call_id).to_owned(), marked_text(content, *is_error)),
        ),
    }
}
