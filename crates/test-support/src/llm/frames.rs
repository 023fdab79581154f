//! Replies of other protocols than chat completions, in the shape in which their vendors stream them.
//!
//! What is given is the whole answer; it goes out in small pieces, as a model that counts tokens would send it.

use serde_json::{Value, json};

use super::Reply;

impl Reply {
    /// Messages of Anthropic: content blocks as the API has them, and why it ended.
    #[must_use]
    pub fn anthropic(blocks: &[Value], stop_reason: &str) -> Self {
        let usage = json!({
            "input_tokens": 12, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 100, "output_tokens": 1,
            "cache_creation": { "ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20 }
        });
        let message = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage
        });
        let mut reply = sse().then_event(&json!({ "type": "message_start", "message": message }));
        for (index, block) in blocks.iter().enumerate() {
            let (start, deltas) = anthropic_block(block);
            reply = reply.then_event(&json!({ "type": "content_block_start", "index": index, "content_block": start }));
            for delta in deltas {
                reply = reply.then_event(&json!({ "type": "content_block_delta", "index": index, "delta": delta }));
            }
            reply = reply.then_event(&json!({ "type": "content_block_stop", "index": index }));
            if index == 0 {
                reply = reply.then_event(&json!({ "type": "ping" }));
            }
        }
        let delta = json!({ "stop_reason": stop_reason, "stop_sequence": null });
        reply
            .then_event(&json!({ "type": "message_delta", "delta": delta, "usage": { "output_tokens": 15 } }))
            .then_event(&json!({ "type": "message_stop" }))
    }

    /// Responses of OpenAI: output items as the API has them, and the response's status.
    #[must_use]
    pub fn responses(items: &[Value], status: &str) -> Self {
        let response = |status: &str, output: &[Value]| json!({ "id": "resp_1", "object": "response", "status": status, "model": "gpt", "output": output });
        let mut sequence = 0;
        let mut numbered = |mut frame: Value| {
            frame["sequence_number"] = json!(sequence);
            sequence += 1;
            frame
        };
        let begun = response("in_progress", &[]);
        let mut reply = sse()
            .then_event(&numbered(json!({ "type": "response.created", "response": begun })))
            .then_event(&numbered(json!({ "type": "response.in_progress", "response": begun })));
        for (index, item) in items.iter().enumerate() {
            for mut frame in responses_item(item) {
                frame["output_index"] = json!(index);
                reply = reply.then_event(&numbered(frame));
            }
        }
        let mut ended = response(status, items);
        ended["usage"] = json!({
            "input_tokens": 40, "input_tokens_details": { "cached_tokens": 10 },
            "output_tokens": 20, "output_tokens_details": { "reasoning_tokens": 8 }, "total_tokens": 60
        });
        if status == "incomplete" {
            ended["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        reply.then_event(&numbered(json!({ "type": format!("response.{status}"), "response": ended })))
    }

    /// Gemini: the parts of each chunk, and why it ended.
    #[must_use]
    pub fn gemini(chunks: &[Value], finish_reason: &str) -> Self {
        let last = chunks.len().saturating_sub(1);
        let chunk = |(index, parts): (usize, &Value)| {
            let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
            let mut usage = json!({ "promptTokenCount": 50, "totalTokenCount": 50 });
            if index == last {
                candidate["finishReason"] = json!(finish_reason);
                usage = json!({
                    "promptTokenCount": 50, "cachedContentTokenCount": 20, "candidatesTokenCount": 7,
                    "thoughtsTokenCount": 3, "totalTokenCount": 60
                });
            }
            json!({ "candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini", "responseId": "r" })
        };
        let frames = chunks.iter().enumerate().map(chunk);
        // This vendor ends its lines as HTTP does.
        frames.fold(sse(), |reply, frame| reply.then_bytes(format!("data: {frame}\r\n\r\n")))
    }

    /// A frame with its type as the name of the event.
    #[must_use]
    pub fn then_event(self, frame: &Value) -> Self {
        let name = frame["type"].as_str().unwrap_or("message");
        self.then_bytes(format!("event: {name}\ndata: {frame}\n\n"))
    }

    /// A stream of events without any yet.
    #[must_use]
    pub fn events() -> Self {
        sse()
    }
}

fn sse() -> Reply {
    Reply::body(200, "text/event-stream", "")
}

fn anthropic_block(block: &Value) -> (Value, Vec<Value>) {
    let pieces = |name: &str| super::reply::fragments(block[name].as_str().unwrap_or_default());
    match block["type"].as_str() {
        Some("text") => {
            let deltas = pieces("text").into_iter().map(|text| json!({ "type": "text_delta", "text": text }));
            (json!({ "type": "text", "text": "" }), deltas.collect())
        }
        Some("thinking") => {
            let thinking =
                pieces("thinking").into_iter().map(|text| json!({ "type": "thinking_delta", "thinking": text }));
            let signature =
                pieces("signature").into_iter().map(|text| json!({ "type": "signature_delta", "signature": text }));
            (json!({ "type": "thinking", "thinking": "", "signature": "" }), thinking.chain(signature).collect())
        }
        Some("tool_use") => {
            let input = match &block["input"] {
                Value::String(raw) => raw.clone(),
                input => input.to_string(),
            };
            let deltas = super::reply::fragments(&input)
                .into_iter()
                .map(|text| json!({ "type": "input_json_delta", "partial_json": text }));
            (json!({ "type": "tool_use", "id": block["id"], "name": block["name"], "input": {} }), deltas.collect())
        }
        _ => (block.clone(), Vec::new()),
    }
}

fn responses_item(item: &Value) -> Vec<Value> {
    let id = &item["id"];
    let mut begun = item.clone();
    let mut frames = Vec::new();
    match item["type"].as_str() {
        Some("message") => {
            begun["content"] = json!([]);
            let text = item["content"][0]["text"].as_str().unwrap_or_default();
            for delta in super::reply::fragments(text) {
                frames.push(json!({
                    "type": "response.output_text.delta", "item_id": id, "content_index": 0, "delta": delta
                }));
            }
        }
        Some("function_call") => {
            begun["arguments"] = json!("");
            for delta in super::reply::fragments(item["arguments"].as_str().unwrap_or_default()) {
                frames.push(json!({
                    "type": "response.function_call_arguments.delta", "item_id": id, "delta": delta
                }));
            }
        }
        _ => {
            for part in item["summary"].as_array().into_iter().flatten() {
                frames.push(json!({
                    "type": "response.reasoning_summary_text.delta", "item_id": id, "summary_index": 0,
                    "delta": part["text"]
                }));
            }
            begun["encrypted_content"] = Value::Null;
        }
    }
    frames.insert(0, json!({ "type": "response.output_item.added", "item": begun }));
    frames.push(json!({ "type": "response.output_item.done", "item": item }));
    frames
}
