//! What the raw frames of a chat-completions stream say beside its text: finish reason, tool calls, usage.
//!
//! Text and thinking are genai's: servers have several names for them.

use serde::Deserialize;
use serde_json::Value;
use stakpak_protocol::{FinishReason, Usage};

use crate::dialect::collected::{Call, Collected, Counts, Frames, Marker, Piece};

const DONE: &str = "[DONE]";

#[derive(Debug, Default)]
pub(crate) struct ChatFrames {
    finish: Option<String>,
    /// In order of appearance, with the provider's index.
    calls: Vec<(Option<u64>, Call)>,
    done: bool,
    /// The body ended within `[DONE]`.
    torn_done: bool,
    usage: Option<Value>,
}

impl Frames for ChatFrames {
    fn add(&mut self, data: &str) {
        match serde_json::from_str(data) {
            Ok(frame) => self.add_frame(frame),
            Err(_) if data == DONE => self.done = true,
            Err(_) => self.torn_done = DONE.starts_with(data),
        }
    }

    fn take(&mut self) -> Collected {
        let Self { finish, calls, done, torn_done, usage } = std::mem::take(self);
        Collected {
            finish: finish.as_deref().map(finish_reason),
            pieces: calls.into_iter().map(|(_, call)| Piece::Call(call)).collect(),
            usage: usage.as_ref().and_then(counts),
            marker: match (done, torn_done) {
                (true, _) => Marker::None,
                (false, true) => Marker::Torn,
                (false, false) => Marker::Missing,
            },
            ..Collected::default()
        }
    }
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "tool_calls" | "function_call" | "tool_use" => FinishReason::ToolCalls,
        "length" | "max_tokens" | "model_length" => FinishReason::MaxOutputTokens,
        "error" => FinishReason::Error,
        _ => FinishReason::Stop,
    }
}

impl ChatFrames {
    fn add_frame(&mut self, frame: Frame) {
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
            Some(_) => self.calls.iter().position(|(known, _)| *known == index),
            // Without an index, an id that was not seen yet begins a call.
            None => self.calls.iter().rposition(|(_, call)| id.is_empty() || call.id == id),
        };
        let at = known.unwrap_or_else(|| {
            self.calls.push((index, Call::default()));
            self.calls.len() - 1
        });
        let call = &mut self.calls[at].1;
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
}

/// The provider's figures; none if it gave none.
fn counts(raw: &Value) -> Option<Usage> {
    let count = |path: &str| raw.pointer(path).and_then(Value::as_u64);
    let counts = Counts {
        prompt: count("/prompt_tokens")?,
        completion: count("/completion_tokens").unwrap_or_default(),
        total: count("/total_tokens"),
        cache_read: count("/prompt_tokens_details/cached_tokens"),
        cache_write: count("/prompt_tokens_details/cache_write_tokens"),
        reasoning: count("/completion_tokens_details/reasoning_tokens"),
    };
    Some(counts.usage(raw))
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
        let mut frames = ChatFrames::default();
        for delta in deltas {
            frames.add(&json!({ "choices": [{ "delta": { "tool_calls": [delta] } }] }).to_string());
        }
        frames.calls.iter().map(|(_, call)| (call.id.clone(), call.name.clone(), call.arguments())).collect()
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
