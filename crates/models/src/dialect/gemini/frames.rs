//! Frames of a Gemini stream: whole responses whose parts follow each other; the last has the finish reason.

use serde_json::{Value, json};
use stakpak_protocol::{FinishReason, Usage};

use crate::dialect::collected::{Call, Collected, Counts, Frames, Piece};

#[derive(Debug, Default)]
pub(crate) struct GeminiFrames {
    pieces: Vec<Piece>,
    /// The last text is signed: what follows is another part.
    sealed: bool,
    finish: Option<String>,
    usage: Option<Value>,
    blocked: Option<String>,
}

impl Frames for GeminiFrames {
    fn add(&mut self, data: &str) {
        let Ok(mut frame) = serde_json::from_str::<Value>(data) else { return };
        if let Some(reason) = frame.pointer("/promptFeedback/blockReason").and_then(Value::as_str) {
            self.blocked = Some(reason.to_owned());
        }
        if frame["usageMetadata"].is_object() {
            self.usage = Some(frame["usageMetadata"].take());
        }
        let candidate = &frame["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            self.part(part);
        }
        if let Some(reason) = candidate["finishReason"].as_str() {
            self.finish = Some(reason.to_owned());
        }
    }

    fn take(&mut self) -> Collected {
        let Self { pieces, finish, usage, blocked, .. } = std::mem::take(self);
        let refusal = blocked.or_else(|| finish.clone().filter(|reason| is_filter(reason)));
        Collected {
            finish: finish.as_deref().map(finish_reason),
            pieces,
            usage: usage.as_ref().and_then(counts),
            refusal: refusal.map(|reason| format!("stopped by the provider's content filter ({reason})")),
            ..Collected::default()
        }
    }
}

impl GeminiFrames {
    fn part(&mut self, part: &Value) {
        let signature = part["thoughtSignature"].as_str();
        let signed = |text: &str, thought: bool| {
            let mut kept = json!({ "text": text, "thoughtSignature": signature });
            if thought {
                kept["thought"] = json!(true);
            }
            Piece::Opaque(kept)
        };
        if let Some(call) = part.get("functionCall") {
            self.pieces.extend(signature.map(|signature| Piece::Opaque(json!({ "thoughtSignature": signature }))));
            self.pieces.push(Piece::Call(Call {
                id: call["id"].as_str().unwrap_or_default().to_owned(),
                name: call["name"].as_str().unwrap_or_default().to_owned(),
                arguments: call.get("args").map(Value::to_string).unwrap_or_default(),
            }));
            return;
        }
        let Some(text) = part["text"].as_str().or(signature.map(|_| "")) else { return };
        match (part["thought"].as_bool().unwrap_or_default(), signature) {
            (true, None) => {}
            (true, Some(_)) => self.pieces.push(signed(text, true)),
            (false, Some(_)) if text.is_empty() => self.pieces.push(signed("", false)),
            (false, Some(signature)) => {
                self.pieces.push(Piece::Opaque(json!({ "thoughtSignature": signature })));
                self.pieces.push(Piece::Text(text.to_owned()));
                self.sealed = true;
            }
            (false, None) => match self.pieces.last_mut() {
                Some(Piece::Text(so_far)) if !self.sealed => so_far.push_str(text),
                _ if text.is_empty() => {}
                _ => {
                    self.pieces.push(Piece::Text(text.to_owned()));
                    self.sealed = false;
                }
            },
        }
    }
}

fn is_filter(reason: &str) -> bool {
    ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"].contains(&reason)
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "MAX_TOKENS" => FinishReason::MaxOutputTokens,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" => FinishReason::Error,
        _ => FinishReason::Stop,
    }
}

/// Thoughts are counted beside the answer, and what tools put into the prompt beside the prompt.
fn counts(raw: &Value) -> Option<Usage> {
    let count = |name: &str| raw[name].as_u64();
    let reasoning = count("thoughtsTokenCount");
    let counts = Counts {
        prompt: count("promptTokenCount")?.saturating_add(count("toolUsePromptTokenCount").unwrap_or_default()),
        completion: count("candidatesTokenCount").unwrap_or_default().saturating_add(reasoning.unwrap_or_default()),
        total: count("totalTokenCount"),
        cache_read: count("cachedContentTokenCount"),
        cache_write: None,
        reasoning,
    };
    Some(counts.usage(raw))
}
