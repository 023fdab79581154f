//! Hiding secrets in what comes in, before the session decides about it: nothing that is recorded, published or sent to a
//! model was ever anything else.
//!
//! What a provider needs back unchanged (metadata, signatures) and the bytes of images are left alone.

use serde_json::Value;
use stakpak_protocol::{Message, MessageContent, MessagePart, result_parts};

use crate::{
    HiddenStream, ModelAnswer, ToolOutcome,
    port::SessionSecrets,
    session::{DeltaKind, Input, Request},
};

/// Hides what people and programs said.
pub(super) async fn request(secrets: &SessionSecrets, request: &mut Request) {
    let texts = match request {
        Request::Post { accepted, message, .. } => {
            let mut texts = vec![&mut accepted.system_prompt];
            texts.extend(of_message(message));
            texts
        }
        Request::Queue { message, .. } => of_message(message),
        Request::Decide { decisions, .. } => {
            decisions.values_mut().filter_map(|decision| decision.content.as_mut()).collect()
        }
        Request::Change { title, .. } => title.iter_mut().collect(),
        Request::Cancel { .. } | Request::SwitchModel { .. } | Request::Delete => Vec::new(),
    };
    secrets.hide(texts).await;
}

/// Hides what a tool gave.
pub(super) async fn outcome(secrets: &SessionSecrets, outcome: &mut ToolOutcome) {
    if let ToolOutcome::Completed { result, .. } = outcome {
        secrets.hide(of_result(result)).await;
    }
}

fn of_message(message: &mut Message) -> Vec<&mut String> {
    let name = message.name.iter_mut();
    let content = match &mut message.content {
        MessageContent::Text(text) => vec![text],
        MessageContent::Parts(parts) => parts.iter_mut().flat_map(of_part).collect(),
    };
    name.chain(content).collect()
}

fn of_part(part: &mut MessagePart) -> Vec<&mut String> {
    match part {
        MessagePart::Text { text, .. } => vec![text],
        MessagePart::Image { url, .. } if url.starts_with("data:") => Vec::new(),
        MessagePart::Image { url, .. } => vec![url],
        MessagePart::ToolCall { arguments, .. } => of_value(arguments),
        MessagePart::ToolResult { content, .. } => of_result(content),
    }
}

/// The texts of a result, but for images in it.
fn of_result(content: &mut Value) -> Vec<&mut String> {
    if result_parts(content).is_none() {
        return of_value(content);
    }
    let parts = content.as_array_mut().into_iter().flatten();
    parts.filter(|part| part["type"] == "text").flat_map(of_value).collect()
}

/// The string leaves.
fn of_value(value: &mut Value) -> Vec<&mut String> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter_mut().flat_map(of_value).collect(),
        Value::Object(fields) => fields.values_mut().flat_map(of_value).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// The answer of one request while it comes.
pub(super) struct HiddenAnswer {
    secrets: SessionSecrets,
    text: Box<dyn HiddenStream>,
    thinking: Box<dyn HiddenStream>,
    /// What went out of the text.
    shown: String,
    request: u64,
}

impl HiddenAnswer {
    pub(super) fn new(secrets: SessionSecrets, request: u64) -> Self {
        Self { text: secrets.stream(), thinking: secrets.stream(), shown: String::new(), secrets, request }
    }

    /// A delta; none if all of it is held back.
    pub(super) async fn push(&mut self, kind: DeltaKind, piece: &str) -> Option<Input> {
        let text = match kind {
            DeltaKind::Text => self.text.push(piece).await,
            DeltaKind::Thinking => self.thinking.push(piece).await,
        };
        self.delta(kind, text)
    }

    /// What was held back.
    pub(super) async fn finish(&mut self) -> Vec<Input> {
        let (thinking, text) = (self.thinking.finish().await, self.text.finish().await);
        let deltas = [self.delta(DeltaKind::Thinking, thinking), self.delta(DeltaKind::Text, text)];
        deltas.into_iter().flatten().collect()
    }

    fn delta(&mut self, kind: DeltaKind, text: String) -> Option<Input> {
        if kind == DeltaKind::Text {
            self.shown.push_str(&text);
        }
        (!text.is_empty()).then_some(Input::Delta { request: self.request, kind, text })
    }

    /// The whole of it: its text is what was shown.
    pub(super) async fn complete(&mut self, answer: &mut ModelAnswer) {
        self.secrets.hide(answer.parts.iter_mut().flat_map(of_part).collect()).await;
        // A signed text is no use when it is another one.
        if let Some(reasoning) = &mut answer.reasoning
            && self.secrets.hide(of_value(reasoning)).await
        {
            answer.reasoning = None;
        }
        let text: String = answer.parts.iter().filter_map(text_of).collect();
        if self.shown.is_empty() || text == self.shown {
            return;
        }
        // A secret went over the border of two parts: they are one.
        let first = answer.parts.iter().position(|part| text_of(part).is_some());
        if let Some(first) = first {
            answer.parts[first] = MessagePart::text(self.shown.clone());
            let mut at = 0;
            answer.parts.retain(|part| {
                at += 1;
                at == first + 1 || text_of(part).is_none()
            });
        }
    }
}

fn text_of(part: &MessagePart) -> Option<&str> {
    match part {
        MessagePart::Text { text, .. } => Some(text),
        _ => None,
    }
}
