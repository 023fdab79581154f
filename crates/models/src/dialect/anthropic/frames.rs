//! Frames of a Messages stream: content blocks by index, then stop reason and usage.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use stakpak_protocol::{FinishReason, Usage};

use crate::dialect::collected::{Call, Collected, Counts, Frames, Piece};

#[derive(Debug, Default)]
pub(crate) struct AnthropicFrames {
    blocks: BTreeMap<u64, Block>,
    stop: Option<String>,
    /// Later figures replace earlier ones.
    usage: Map<String, Value>,
}

#[derive(Debug)]
enum Block {
    Text(String),
    Call(Call),
    Thinking { thinking: String, signature: String },
    Redacted(Value),
}

impl Frames for AnthropicFrames {
    fn add(&mut self, data: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(data) else { return };
        match text(&frame, "/type") {
            "message_start" => self.add_usage(&frame["message"]["usage"]),
            "content_block_start" => self.start(&frame),
            "content_block_delta" => self.grow(&frame),
            "message_delta" => {
                self.add_usage(&frame["usage"]);
                if let Some(reason) = frame.pointer("/delta/stop_reason").and_then(Value::as_str) {
                    self.stop = Some(reason.to_owned());
                }
            }
            _ => {}
        }
    }

    fn take(&mut self) -> Collected {
        let Self { blocks, stop, usage } = std::mem::take(self);
        let refused = stop.as_deref() == Some("refusal");
        Collected {
            finish: stop.as_deref().map(finish_reason),
            pieces: blocks.into_values().filter_map(piece).collect(),
            usage: counts(&usage),
            refusal: refused.then(|| "the model refuses to answer".to_owned()),
            ..Collected::default()
        }
    }
}

impl AnthropicFrames {
    fn add_usage(&mut self, usage: &Value) {
        let given = usage.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        self.usage.extend(given.map(|(name, value)| (name.clone(), value.clone())));
    }

    fn start(&mut self, frame: &Value) {
        let block = &frame["content_block"];
        let started = match text(block, "/type") {
            "text" => Block::Text(text(block, "/text").to_owned()),
            "tool_use" => Block::Call(Call {
                id: text(block, "/id").to_owned(),
                name: text(block, "/name").to_owned(),
                arguments: String::new(),
            }),
            "thinking" => Block::Thinking {
                thinking: text(block, "/thinking").to_owned(),
                signature: text(block, "/signature").to_owned(),
            },
            "redacted_thinking" => Block::Redacted(block.clone()),
            _ => return,
        };
        self.blocks.insert(index(frame), started);
    }

    fn grow(&mut self, frame: &Value) {
        let delta = &frame["delta"];
        match self.blocks.get_mut(&index(frame)) {
            Some(Block::Text(so_far)) => so_far.push_str(text(delta, "/text")),
            Some(Block::Call(call)) => call.arguments.push_str(text(delta, "/partial_json")),
            Some(Block::Thinking { thinking, signature }) => {
                thinking.push_str(text(delta, "/thinking"));
                signature.push_str(text(delta, "/signature"));
            }
            Some(Block::Redacted(_)) | None => {}
        }
    }
}

fn piece(block: Block) -> Option<Piece> {
    match block {
        Block::Text(text) => (!text.is_empty()).then_some(Piece::Text(text)),
        Block::Call(call) => Some(Piece::Call(call)),
        // Without its signature a block is not taken back.
        Block::Thinking { signature, .. } if signature.is_empty() => None,
        Block::Thinking { thinking, signature } => {
            Some(Piece::Opaque(json!({ "type": "thinking", "thinking": thinking, "signature": signature })))
        }
        Block::Redacted(block) => Some(Piece::Opaque(block)),
    }
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "tool_use" => FinishReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::MaxOutputTokens,
        _ => FinishReason::Stop,
    }
}

/// `input_tokens` is what no cache held.
fn counts(usage: &Map<String, Value>) -> Option<Usage> {
    let count = |name: &str| usage.get(name).and_then(Value::as_u64);
    let (cache_read, cache_write) = (count("cache_read_input_tokens"), count("cache_creation_input_tokens"));
    let cached = cache_read.unwrap_or_default().saturating_add(cache_write.unwrap_or_default());
    let raw = Value::Object(usage.clone());
    let counts = Counts {
        prompt: count("input_tokens")?.saturating_add(cached),
        completion: count("output_tokens").unwrap_or_default(),
        total: None,
        cache_read,
        cache_write,
        reasoning: raw.pointer("/output_tokens_details/thinking_tokens").and_then(Value::as_u64),
    };
    Some(counts.usage(&raw))
}

fn index(frame: &Value) -> u64 {
    frame["index"].as_u64().unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
