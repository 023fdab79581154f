//! Events of a ConverseStream, told apart by what they hold: content blocks by index, the stop reason, then the usage.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stakpak_protocol::{FinishReason, Usage};

use crate::dialect::collected::{Call, Collected, Counts, Frames, Piece};

#[derive(Debug, Default)]
pub(crate) struct BedrockFrames {
    blocks: BTreeMap<u64, Block>,
    stop: Option<String>,
    usage: Option<Usage>,
}

#[derive(Debug)]
enum Block {
    Text(String),
    Call(Call),
    Thinking { text: String, signature: String },
    Sealed(String),
}

impl Frames for BedrockFrames {
    fn add(&mut self, data: &str) {
        let Ok(event) = serde_json::from_str::<Value>(data) else { return };
        let index = event["contentBlockIndex"].as_u64().unwrap_or_default();
        if let Some(call) = event.pointer("/start/toolUse") {
            let (id, name) = (text(call, "/toolUseId").to_owned(), text(call, "/name").to_owned());
            self.blocks.insert(index, Block::Call(Call { id, name, arguments: String::new() }));
        }
        if let Some(delta) = event.get("delta") {
            self.grow(index, delta);
        }
        if let Some(reason) = event.get("stopReason").and_then(Value::as_str) {
            self.stop = Some(reason.to_owned());
        }
        if let Some(usage) = event.get("usage") {
            self.usage = counts(usage);
        }
    }

    /// The usage ends the stream: without it something is missing.
    fn take(&mut self) -> Collected {
        let Self { blocks, stop, usage } = std::mem::take(self);
        let is_refusal = |reason: &String| matches!(reason.as_str(), "guardrail_intervened" | "content_filtered");
        let refusal = stop.as_ref().filter(|reason| is_refusal(reason));
        Collected {
            finish: stop.as_deref().filter(|_| usage.is_some()).map(finish_reason),
            refusal: refusal.map(|_| "stopped by the provider's content filter".to_owned()),
            pieces: blocks.into_values().filter_map(piece).collect(),
            usage,
            ..Collected::default()
        }
    }
}

impl BedrockFrames {
    fn grow(&mut self, index: u64, delta: &Value) {
        let part = |pointer: &str| delta.pointer(pointer).and_then(Value::as_str);
        let (said, thought) = (part("/text"), part("/reasoningContent/text"));
        let (signed, sealed) = (part("/reasoningContent/signature"), part("/reasoningContent/redactedContent"));
        let block = self.blocks.entry(index).or_insert_with(|| match (said, sealed) {
            (Some(_), _) => Block::Text(String::new()),
            (None, Some(_)) => Block::Sealed(String::new()),
            (None, None) => Block::Thinking { text: String::new(), signature: String::new() },
        });
        match block {
            Block::Text(so_far) => so_far.push_str(said.unwrap_or_default()),
            Block::Call(call) => call.arguments.push_str(part("/toolUse/input").unwrap_or_default()),
            Block::Thinking { text, signature } => {
                text.push_str(thought.unwrap_or_default());
                signature.push_str(signed.unwrap_or_default());
            }
            Block::Sealed(so_far) => so_far.push_str(sealed.unwrap_or_default()),
        }
    }
}

fn piece(block: Block) -> Option<Piece> {
    match block {
        Block::Text(text) => (!text.is_empty()).then_some(Piece::Text(text)),
        Block::Call(call) => Some(Piece::Call(call)),
        // Without its signature a block is not taken back.
        Block::Thinking { signature, .. } if signature.is_empty() => None,
        Block::Thinking { text, signature } => Some(Piece::Opaque(json!({ "text": text, "signature": signature }))),
        Block::Sealed(sealed) => Some(Piece::Opaque(json!({ "signature": sealed }))),
    }
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "tool_use" => FinishReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::MaxOutputTokens,
        _ => FinishReason::Stop,
    }
}

/// `inputTokens` is what no cache held.
fn counts(raw: &Value) -> Option<Usage> {
    let count = |name: &str| raw.get(name).and_then(Value::as_u64);
    let (cache_read, cache_write) = (count("cacheReadInputTokens"), count("cacheWriteInputTokens"));
    let cached = cache_read.unwrap_or_default().saturating_add(cache_write.unwrap_or_default());
    let counts = Counts {
        prompt: count("inputTokens")?.saturating_add(cached),
        completion: count("outputTokens").unwrap_or_default(),
        total: None,
        cache_read,
        cache_write,
        reasoning: None,
    };
    Some(counts.usage(raw))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
