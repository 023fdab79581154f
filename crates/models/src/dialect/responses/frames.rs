//! Frames of a Responses stream: output items by index, then the response's status.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stakpak_protocol::{FinishReason, Usage};

use crate::dialect::collected::{Call, Collected, Counts, Frames, Piece, failure};

#[derive(Debug, Default)]
pub(crate) struct ResponsesFrames {
    items: BTreeMap<u64, Piece>,
    finish: Option<FinishReason>,
    usage: Option<Usage>,
    failure: Option<Value>,
    refusal: Option<String>,
}

impl Frames for ResponsesFrames {
    fn add(&mut self, data: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(data) else { return };
        let delta = text(&frame, "/delta");
        match text(&frame, "/type") {
            "response.output_item.added" => self.item(&frame, false),
            "response.output_item.done" => self.item(&frame, true),
            "response.output_text.delta" => {
                let item = self.items.entry(index(&frame)).or_insert_with(|| Piece::Text(String::new()));
                if let Piece::Text(so_far) = item {
                    so_far.push_str(delta);
                }
            }
            "response.function_call_arguments.delta" => {
                if let Some(Piece::Call(call)) = self.items.get_mut(&index(&frame)) {
                    call.arguments.push_str(delta);
                }
            }
            "response.refusal.delta" => self.refusal.get_or_insert_default().push_str(delta),
            "response.completed" => self.end(&frame["response"], FinishReason::Stop),
            "response.incomplete" => {
                let reason = text(&frame, "/response/incomplete_details/reason");
                let cut = reason == "max_output_tokens";
                self.end(&frame["response"], if cut { FinishReason::MaxOutputTokens } else { FinishReason::Stop });
                if reason == "content_filter" {
                    self.refusal.get_or_insert_with(|| "stopped by the provider's content filter".to_owned());
                }
            }
            "response.failed" => {
                let error = &frame["response"]["error"];
                self.failure = Some(failure(text(error, "/code"), text(error, "/message")));
            }
            _ => {}
        }
    }

    fn take(&mut self) -> Collected {
        let Self { items, finish, usage, failure, refusal } = std::mem::take(self);
        let said = |piece: &Piece| !matches!(piece, Piece::Text(text) if text.is_empty());
        let pieces = items.into_values().filter(said).collect();
        Collected { finish, pieces, usage, failure, refusal, ..Collected::default() }
    }
}

impl ResponsesFrames {
    fn item(&mut self, frame: &Value, is_whole: bool) {
        let item = &frame["item"];
        match text(item, "/type") {
            "function_call" => {
                let entry = self.items.entry(index(frame)).or_insert_with(|| Piece::Call(Call::default()));
                let Piece::Call(call) = entry else { return };
                text(item, "/call_id").clone_into(&mut call.id);
                text(item, "/name").clone_into(&mut call.name);
                let arguments = text(item, "/arguments");
                if is_whole && !arguments.is_empty() {
                    arguments.clone_into(&mut call.arguments);
                }
            }
            // Without its content there is nothing to go back: nothing is kept at the provider.
            "reasoning" if is_whole && !text(item, "/encrypted_content").is_empty() => {
                let summary = item.get("summary").cloned().unwrap_or_else(|| json!([]));
                let kept = json!({
                    "type": "reasoning", "id": item["id"], "summary": summary,
                    "encrypted_content": item["encrypted_content"]
                });
                self.items.insert(index(frame), Piece::Opaque(kept));
            }
            _ => {}
        }
    }

    fn end(&mut self, response: &Value, finish: FinishReason) {
        self.finish = Some(finish);
        self.usage = counts(&response["usage"]);
    }
}

fn counts(raw: &Value) -> Option<Usage> {
    let count = |path: &str| raw.pointer(path).and_then(Value::as_u64);
    let counts = Counts {
        prompt: count("/input_tokens")?,
        completion: count("/output_tokens").unwrap_or_default(),
        total: count("/total_tokens"),
        cache_read: count("/input_tokens_details/cached_tokens"),
        cache_write: None,
        reasoning: count("/output_tokens_details/reasoning_tokens"),
    };
    Some(counts.usage(raw))
}

fn index(frame: &Value) -> u64 {
    frame["output_index"].as_u64().unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
