//! ConverseStream of Amazon Bedrock: JSON in the binary frames of AWS event streams.
//!
//! <https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html>: length, length of headers, CRC of these two,
//! headers, payload, CRC of all.

use serde_json::{Value, json};

use super::{Reply, reply::fragments};

impl Reply {
    /// Content blocks as the API has them, and why it ended.
    #[must_use]
    pub fn bedrock(blocks: &[Value], stop_reason: &str) -> Self {
        let mut reply = Self::bedrock_events().then_converse("messageStart", &json!({ "role": "assistant" }));
        for (index, block) in blocks.iter().enumerate() {
            let at = |mut event: Value| {
                event["contentBlockIndex"] = json!(index);
                event
            };
            if let Some(call) = block.get("toolUse") {
                let start = json!({ "toolUse": { "toolUseId": call["toolUseId"], "name": call["name"] } });
                reply = reply.then_converse("contentBlockStart", &at(json!({ "start": start })));
            }
            for delta in deltas(block) {
                reply = reply.then_converse("contentBlockDelta", &at(json!({ "delta": delta, "p": "abcd" })));
            }
            reply = reply.then_converse("contentBlockStop", &at(json!({})));
        }
        let usage = json!({
            "inputTokens": 12, "outputTokens": 15, "totalTokens": 157, "cacheReadInputTokens": 100,
            "cacheWriteInputTokens": 30
        });
        reply
            .then_converse("messageStop", &json!({ "stopReason": stop_reason }))
            .then_converse("metadata", &json!({ "usage": usage, "metrics": { "latencyMs": 7 } }))
    }

    /// A stream without any event yet.
    #[must_use]
    pub fn bedrock_events() -> Self {
        Self::body(200, "application/vnd.amazon.eventstream", "")
    }

    /// One more event.
    #[must_use]
    pub fn then_converse(self, event: &str, payload: &Value) -> Self {
        self.then_bytes(frame(&[(":event-type", event), (":message-type", "event")], payload))
    }

    /// An exception in mid-stream.
    #[must_use]
    pub fn then_exception(self, exception: &str, message: &str) -> Self {
        let headers = [(":exception-type", exception), (":message-type", "exception")];
        self.then_bytes(frame(&headers, &json!({ "message": message })))
    }
}

fn deltas(block: &Value) -> Vec<Value> {
    let pieces = |value: &Value| fragments(value.as_str().unwrap_or_default());
    let reasoning = &block["reasoningContent"];
    let texts = pieces(&block["text"]).into_iter().map(|text| json!({ "text": text }));
    let input = match &block["toolUse"]["input"] {
        Value::Null => String::new(),
        Value::String(raw) => raw.clone(),
        input => input.to_string(),
    };
    let inputs = fragments(&input).into_iter().map(|input| json!({ "toolUse": { "input": input } }));
    let thoughts = pieces(&reasoning["reasoningText"]["text"]).into_iter();
    let thoughts = thoughts.map(|text| json!({ "reasoningContent": { "text": text } }));
    let signatures = pieces(&reasoning["reasoningText"]["signature"]).into_iter();
    let signatures = signatures.map(|signature| json!({ "reasoningContent": { "signature": signature } }));
    let sealed = reasoning.get("redactedContent");
    let sealed = sealed.map(|sealed| json!({ "reasoningContent": { "redactedContent": sealed } }));
    texts.chain(inputs).chain(thoughts).chain(signatures).chain(sealed).collect()
}

fn frame(headers: &[(&str, &str)], payload: &Value) -> Vec<u8> {
    const STRING: u8 = 7;
    let mut encoded = Vec::new();
    for (name, value) in headers.iter().chain(&[(":content-type", "application/json")]) {
        encoded.push(u8::try_from(name.len()).unwrap_or_default());
        encoded.extend(name.as_bytes());
        encoded.push(STRING);
        encoded.extend(u16::try_from(value.len()).unwrap_or_default().to_be_bytes());
        encoded.extend(value.as_bytes());
    }
    let payload = payload.to_string().into_bytes();
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or_default().to_be_bytes();
    let mut frame = [length(16 + encoded.len() + payload.len()), length(encoded.len())].concat();
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend(encoded);
    frame.extend(payload);
    frame.extend(crc32(&frame).to_be_bytes());
    frame
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
