//! What the raw frames of a chat-completions stream say beside its text: finish reason, tool calls, usage.

use std::sync::{Arc, Mutex, PoisonError};

use genai::chat::{ChatFrameSink, FrameCtx, RawFrameRef};
use serde::Deserialize;
use serde_json::Value;
use stakpak_protocol::{InputTokenDetails, OutputTokenDetails, Usage};

const DONE: &str = "[DONE]";

/// Collects frames as genai decodes them.
#[derive(Debug, Clone, Default)]
pub(super) struct Wire(Arc<Mutex<Frames>>);

impl Wire {
    /// What was collected.
    pub(super) fn take(&self) -> Frames {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ChatFrameSink for Wire {
    fn on_frame(&self, _: &FrameCtx, frame: RawFrameRef<'_>) {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match serde_json::from_str(frame.data) {
            Ok(frame) => frames.add(frame),
            // What else is no JSON is genai's to report.
            Err(_) => frames.torn_done = frame.data != DONE && DONE.starts_with(frame.data),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) finish: Option<String>,
    /// In order of appearance.
    pub(super) calls: Vec<Call>,
    /// The body ended within `[DONE]`.
    pub(super) torn_done: bool,
    usage: Option<Value>,
}

/// A tool call, growing by fragments.
#[derive(Debug, Default)]
pub(super) struct Call {
    index: Option<u64>,
    pub(super) id: String,
    pub(super) name: String,
    arguments: String,
}

impl Call {
    /// The arguments. What is not JSON stays the text it is, so that nothing runs with arguments nobody gave.
    pub(super) fn arguments(&self) -> Value {
        match self.arguments.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(self.arguments.clone())),
        }
    }
}

impl Frames {
    fn add(&mut self, frame: Frame) {
        if let Some(usage) = frame.usage.filter(|usage| usage.get("prompt_tokens").is_some_and(Value::is_u64)) {
            self.usage = Some(usage);
        }
        let Some(choice) = frame.choices.into_iter().flatten().next() else { return };
        for call in choice.delta.and_then(|delta| delta.tool_calls).into_iter().flatten() {
            self.add_call(call);
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            self.finish = Some(reason);
        }
    }

    fn add_call(&mut self, delta: CallDelta) {
        let CallDelta { index, id, function } = delta;
        let id = id.unwrap_or_default();
        let known = match index {
            Some(_) => self.calls.iter().position(|call| call.index == index),
            // Without an index, an id that was not seen yet begins a call.
            None => self.calls.iter().rposition(|call| id.is_empty() || call.id == id),
        };
        let at = known.unwrap_or_else(|| {
            self.calls.push(Call { index, ..Call::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            call.id = id;
        }
        let Some(function) = function else { return };
        if call.name.is_empty() {
            call.name = function.name.unwrap_or_default();
        }
        match function.arguments {
            Some(Value::String(fragment)) => call.arguments.push_str(&fragment),
            // Not allowed, but seen: the object itself.
            Some(whole @ Value::Object(_)) => call.arguments = whole.to_string(),
            _ => {}
        }
    }

    /// The provider's figures; none if it gave none.
    pub(super) fn usage(&self) -> Option<Usage> {
        let raw = self.usage.as_ref()?;
        let count = |path: &str| raw.pointer(path).and_then(Value::as_u64);
        let prompt_tokens = count("/prompt_tokens")?;
        let completion_tokens = count("/completion_tokens").unwrap_or_default();
        let cache_read = count("/prompt_tokens_details/cached_tokens");
        let cache_write = count("/prompt_tokens_details/cache_write_tokens");
        let reasoning = count("/completion_tokens_details/reasoning_tokens");
        let cached = cache_read.unwrap_or_default().saturating_add(cache_write.unwrap_or_default());
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: count("/total_tokens").unwrap_or(prompt_tokens.saturating_add(completion_tokens)),
            input_token_details: Some(InputTokenDetails {
                total: Some(prompt_tokens),
                no_cache: Some(prompt_tokens.saturating_sub(cached)),
                cache_read,
                cache_write,
            }),
            output_token_details: Some(OutputTokenDetails {
                total: Some(completion_tokens),
                text: reasoning.map(|reasoning| completion_tokens.saturating_sub(reasoning)),
                reasoning,
            }),
            raw: Some(raw.clone()),
        })
    }
}

#[derive(Deserialize)]
struct Frame {
    choices: Option<Vec<Choice>>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn calls(deltas: &[Value]) -> Vec<(String, String, Value)> {
        let mut frames = Frames::default();
        for delta in deltas {
            let frame = json!({ "choices": [{ "delta": { "tool_calls": [delta] } }] });
            frames.add(serde_json::from_value(frame).unwrap());
        }
        frames.calls.iter().map(|call| (call.id.clone(), call.name.clone(), call.arguments())).collect()
    }

    #[test]
    fn fragments_join_by_index_whatever_the_index_starts_with() {
        let expected = vec![("a".into(), "f".into(), json!({ "x": 1 })), ("b".into(), "g".into(), json!({ "y": 2 }))];
        let interleaved = [
            json!({ "index": 1, "id": "a", "function": { "name": "f", "arguments": "" } }),
            json!({ "index": 2, "id": "b", "function": { "name": "g", "arguments": "{\"y\"" } }),
            json!({ "index": 1, "function": { "arguments": "{\"x\":1}" } }),
            json!({ "index": 2, "function": { "arguments": ":2}" } }),
        ];
        assert_eq!(calls(&interleaved), expected);
        let without_index = [
            json!({ "id": "a", "function": { "name": "f", "arguments": "{\"x\"" } }),
            json!({ "function": { "arguments": ":1}" } }),
            json!({ "id": "b", "function": { "name": "g", "arguments": { "y": 2 } } }),
        ];
        assert_eq!(calls(&without_index), expected);
    }

    #[test]
    fn arguments_that_are_no_json_stay_text() {
        let call = |arguments: &str| {
            calls(&[json!({ "index": 0, "id": "a", "function": { "name": "f", "arguments": arguments } })])[0].2.clone()
        };
        assert_eq!(call("{\"a\": tru"), json!("{\"a\": tru"));
        assert_eq!(call("rm -rf"), json!("rm -rf"));
        assert_eq!(call(""), Value::Null);
        assert_eq!(call("[1]"), json!([1]));
    }
}
