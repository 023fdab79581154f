//! How many tokens something has, before a provider says so; corrected by what it said last.

use serde_json::Value;
use stakpak_protocol::{Message, MessageContent, MessagePart, ResultPart, result_parts};

use super::{Measured, bytes_of};
use crate::ToolSpec;

const A_MESSAGE: u64 = 8;
const A_PART: u64 = 3;
const AN_IMAGE: u64 = 2_000;

/// How far a report may correct the estimate of what it did not count.
const RATIOS: std::ops::RangeInclusive<f64> = 0.25..=4.0;

/// Tokens of a text.
pub(crate) fn estimate_text(text: &str) -> u64 {
    of_bytes(text.len() as u64)
}

/// Tokens of a message.
pub(crate) fn estimate(message: &Message) -> u64 {
    A_MESSAGE
        + match &message.content {
            MessageContent::Text(text) => A_PART + estimate_text(text),
            MessageContent::Parts(parts) => parts.iter().map(|part| A_PART + of_part(part)).sum(),
        }
}

/// Tokens of what every request of a run begins with. Tools take a fifth more than their text.
pub(crate) fn overhead(system: &str, tools: &[ToolSpec]) -> u64 {
    let tool = |tool: &ToolSpec| tool.name.len() as u64 + tool.description.len() as u64 + json_len(&tool.input_schema);
    let tools = of_bytes(tools.iter().map(tool).sum());
    estimate_text(system) + (tools * 6).div_ceil(5)
}

/// Tokens of what goes back beside an answer.
pub(super) fn of_reasoning(reasoning: &Value) -> u64 {
    of_bytes(json_len(reasoning))
}

fn of_part(part: &MessagePart) -> u64 {
    match part {
        MessagePart::Text { text, .. } => estimate_text(text),
        MessagePart::Image { .. } => AN_IMAGE,
        MessagePart::ToolCall { name, arguments, .. } => of_bytes(name.len() as u64 + json_len(arguments)),
        MessagePart::ToolResult { content, .. } => of_bytes(result_len(content)),
    }
}

fn of_bytes(bytes: u64) -> u64 {
    (bytes * 2).div_ceil(7)
}

/// Bytes of a result; of an image in it, those of a text that is as dear.
pub(super) fn result_len(content: &Value) -> u64 {
    let Some(parts) = result_parts(content) else { return json_len(content) };
    let len = |part| match part {
        ResultPart::Text(text) => text.len() as u64,
        ResultPart::Image(_) => AN_IMAGE * 7 / 2,
    };
    parts.into_iter().map(len).sum()
}

/// Bytes of the JSON; of a text, its own.
pub(super) fn json_len(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(|item| json_len(item) + 3).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() as u64 + json_len(value) + 6).sum(),
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
    }
}

/// Makes tokens of estimates: what was reported last, and of what came or went since the estimate, corrected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Meter {
    reported: f64,
    estimated: f64,
    ratio: f64,
}

impl Meter {
    /// For requests to this model.
    pub(crate) fn new(measured: Option<&Measured>, model: &str) -> Self {
        let usable = measured.filter(|last| last.model == model && last.reported > 0 && last.estimated > 0);
        let Some(last) = usable else { return Self { reported: 0.0, estimated: 0.0, ratio: 1.0 } };
        let (reported, estimated) = (last.reported as f64, last.estimated as f64);
        Self { reported, estimated, ratio: (reported / estimated).clamp(*RATIOS.start(), *RATIOS.end()) }
    }

    /// Tokens of a request of which so many are expected.
    pub(crate) fn tokens(&self, estimate: u64) -> u64 {
        let estimate = estimate as f64;
        let tokens = self.reported + (estimate - self.estimated) * self.ratio;
        whole(tokens.max(estimate * RATIOS.start()))
    }

    /// Bytes of text that make so many tokens.
    pub(crate) fn bytes(&self, tokens: u64) -> usize {
        bytes_of(whole(tokens as f64 / self.ratio))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of tokens is small and not negative"
)]
pub(super) fn whole(tokens: f64) -> u64 {
    tokens.round() as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn measured(reported: u64, estimated: u64) -> Measured {
        Measured { model: "a/b".into(), reported, estimated }
    }

    #[test]
    fn sizes() {
        let part = |part| Message::assistant(vec![part]);
        let call = MessagePart::ToolCall {
            id: "x".into(),
            name: "seven77".into(),
            arguments: json!("x".repeat(28)),
            metadata: None,
            provider_options: None,
        };
        let image = MessagePart::Image { url: "data:x".into(), detail: None, provider_options: None };
        let table = [
            (Message::user("x".repeat(35)), 8 + 3 + 10),
            (Message::user("x"), 8 + 3 + 1),
            (Message::assistant(vec![]), 8),
            (Message::assistant(vec![MessagePart::text("x".repeat(7)), MessagePart::text("x".repeat(7))]), 8 + 6 + 4),
            (part(call), 8 + 3 + 10),
            (part(image), 8 + 3 + 2_000),
        ];
        for (message, tokens) in table {
            assert_eq!(estimate(&message), tokens, "{message:?}");
        }
        let tool = ToolSpec { name: "x".repeat(10), description: "x".repeat(25), input_schema: json!("") };
        assert_eq!(overhead(&"x".repeat(35), &[tool]), 10 + 12);
    }

    /// The size is what was reported, and what came since at the rate of the report.
    #[test]
    fn reports_correct_the_estimate() {
        let fresh = Meter::new(None, "a/b");
        assert_eq!(fresh.tokens(1_000), 1_000);
        let meter = Meter::new(Some(&measured(2_000, 1_000)), "a/b");
        assert_eq!((meter.tokens(1_000), meter.tokens(1_100), meter.tokens(500)), (2_000, 2_200, 1_000));
        assert_eq!(meter.bytes(2_000), 3_500);
        assert_eq!(Meter::new(Some(&measured(2_000, 1_000)), "a/other"), fresh, "of another model");
        assert_eq!(Meter::new(Some(&measured(0, 1_000)), "a/b"), fresh, "nothing was reported");
        let odd = Meter::new(Some(&measured(12, 1_000)), "a/b");
        assert_eq!((odd.tokens(5_000), odd.tokens(1_000)), (1_250, 250), "a report that cannot be is believed in part");
        let dear = Meter::new(Some(&measured(10_000, 1_000)), "a/b");
        assert_eq!((dear.tokens(1_000), dear.tokens(1_100)), (10_000, 10_400));
    }
}
