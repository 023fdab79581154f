//! What the frames of an answer say, in one form for all protocols.

use std::fmt::Debug;

use serde_json::{Value, json};
use stakpak_protocol::{FinishReason, InputTokenDetails, OutputTokenDetails, Usage};

/// Reads the frames of one answer.
pub(crate) trait Frames: Debug + Send {
    /// The next frame. What is no JSON is reported by genai.
    fn add(&mut self, data: &str);

    /// What was said so far.
    fn take(&mut self) -> Collected;
}

/// What was said.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// Why it ended; none: it did not end.
    pub(crate) finish: Option<FinishReason>,
    /// In the provider's order.
    pub(crate) pieces: Vec<Piece>,
    /// None if the provider gave none.
    pub(crate) usage: Option<Usage>,
    /// The body of an error that genai reports without its fields.
    pub(crate) failure: Option<Value>,
    /// The provider would not answer, in its words.
    pub(crate) refusal: Option<String>,
    /// The end marker, in protocols that are not complete without one.
    pub(crate) marker: Marker,
}

impl Collected {
    /// Whether the end marker came, or none is waited for.
    pub(crate) fn is_marked(&self, requires_done: bool) -> bool {
        self.marker == Marker::None || !requires_done
    }

    /// Whether tools are to be called.
    pub(crate) fn has_calls(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Call(_)))
    }
}

/// The end marker of a stream.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    /// The finish reason says it all.
    #[default]
    None,
    /// `[DONE]`, not there yet.
    Missing,
    /// The body ended within it.
    Torn,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Text(String),
    Call(Call),
    /// Goes back to the same provider as it is, before the part that follows.
    Opaque(Value),
}

/// A tool call, growing by fragments.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl Call {
    /// The arguments. What is not JSON stays the text it is, so that nothing runs with arguments nobody gave.
    pub(crate) fn arguments(&self) -> Value {
        match self.arguments.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(self.arguments.clone())),
        }
    }
}

/// Token counts of a provider; counts that include each other are told apart before.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// All of the prompt, cached or not.
    pub(super) prompt: u64,
    /// All of the answer, reasoning included.
    pub(super) completion: u64,
    pub(super) total: Option<u64>,
    pub(super) cache_read: Option<u64>,
    pub(super) cache_write: Option<u64>,
    pub(super) reasoning: Option<u64>,
}

impl Counts {
    pub(super) fn usage(self, raw: &Value) -> Usage {
        let Self { prompt, completion, total, cache_read, cache_write, reasoning } = self;
        let cached = cache_read.unwrap_or_default().saturating_add(cache_write.unwrap_or_default());
        Usage {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: total.unwrap_or(prompt.saturating_add(completion)),
            input_token_details: Some(InputTokenDetails {
                total: Some(prompt),
                no_cache: Some(prompt.saturating_sub(cached)),
                cache_read,
                cache_write,
            }),
            output_token_details: Some(OutputTokenDetails {
                total: Some(completion),
                text: reasoning.map(|reasoning| completion.saturating_sub(reasoning)),
                reasoning,
            }),
            raw: Some(raw.clone()),
        }
    }
}

/// `{"error": …}` of an error that has a code.
pub(super) fn failure(code: &str, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}
