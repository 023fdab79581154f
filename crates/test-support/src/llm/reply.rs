//! What the scripted model says: frames of a chat-completions stream, and the ways a stream can end.

use std::time::Duration;

use serde_json::{Value, json};

use super::Gate;

/// One reply. It is complete unless told otherwise: pieces, a finish reason, usage, `[DONE]`.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) end: End,
    pub(super) sent: Option<Gate>,
    pieces: Vec<Piece>,
    finish: Option<String>,
    usage: Option<Value>,
    done: bool,
    cut: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// The body ends as it should.
    Close,
    /// The connection breaks in the middle of the body.
    Tear,
    /// Nothing comes any more.
    Stall,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Bytes(Vec<u8>),
    Wait(Gate),
    Pause(Duration),
}

#[derive(Debug, Clone)]
enum Piece {
    Frame(Value),
    Raw(Vec<u8>),
    Wait(Gate),
    Pause(Duration),
}

impl Reply {
    /// Text, one frame a piece.
    pub fn text<T: Into<String>>(pieces: impl IntoIterator<Item = T>) -> Self {
        pieces.into_iter().fold(Self::stream("stop"), Self::then_text)
    }

    /// One tool call, its arguments in fragments.
    #[must_use]
    pub fn tool_call(id: &str, name: &str, arguments: &Value) -> Self {
        Self::tool_calls(&[(id, name, arguments.clone())])
    }

    /// Parallel tool calls, their fragments interleaved.
    #[must_use]
    pub fn tool_calls(calls: &[(&str, &str, Value)]) -> Self {
        let calls: Vec<_> = calls.iter().map(|(id, name, arguments)| (*id, *name, arguments.to_string())).collect();
        Self::raw_tool_calls(&calls)
    }

    /// Tool calls whose arguments are any text, also such that is not JSON.
    #[must_use]
    pub fn raw_tool_calls(calls: &[(&str, &str, String)]) -> Self {
        let mut reply = Self::stream("tool_calls");
        for (index, (id, name, _)) in calls.iter().enumerate() {
            let function = json!({ "name": name, "arguments": "" });
            reply = reply.then_delta(&json!({
                "tool_calls": [{ "index": index, "id": id, "type": "function", "function": function }]
            }));
        }
        let mut fragments: Vec<_> = calls.iter().map(|(.., arguments)| fragments(arguments).into_iter()).collect();
        loop {
            let round: Vec<_> =
                fragments.iter_mut().enumerate().filter_map(|(index, rest)| Some((index, rest.next()?))).collect();
            if round.is_empty() {
                return reply;
            }
            for (index, fragment) in round {
                reply = reply.then_delta(&json!({
                    "tool_calls": [{ "index": index, "function": { "arguments": fragment } }]
                }));
            }
        }
    }

    /// A plain HTTP answer with a JSON body.
    #[must_use]
    pub fn status(status: u16, body: &Value) -> Self {
        Self::body(status, "application/json", &body.to_string())
    }

    /// A plain HTTP answer.
    #[must_use]
    pub fn body(status: u16, content_type: &str, body: &str) -> Self {
        let mut reply = Self::stream("stop").header("content-type", content_type);
        reply.status = status;
        reply.pieces = vec![Piece::Raw(body.as_bytes().to_vec())];
        reply.bare()
    }

    /// 429 with `Retry-After` in seconds.
    #[must_use]
    pub fn rate_limited(seconds: u64) -> Self {
        let body =
            json!({ "error": { "message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded" } });
        Self::status(429, &body).header("retry-after", &seconds.to_string())
    }

    /// The last message, as a model that only repeats.
    pub(super) fn echo(request: &Value) -> Self {
        let content = request["messages"].as_array().and_then(|messages| messages.last()).map(|last| &last["content"]);
        let text = match content {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        Self::text(text.split_inclusive(' '))
    }

    /// More text.
    #[must_use]
    pub fn then_text(self, text: impl Into<String>) -> Self {
        self.then_delta(&json!({ "content": text.into() }))
    }

    /// More thinking.
    #[must_use]
    pub fn then_thinking(self, text: &str) -> Self {
        self.then_delta(&json!({ "reasoning_content": text }))
    }

    /// Any delta.
    #[must_use]
    pub fn then_delta(self, delta: &Value) -> Self {
        self.then_frame(json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] }))
    }

    /// Any frame.
    #[must_use]
    pub fn then_frame(mut self, mut frame: Value) -> Self {
        if frame.get("choices").is_some() {
            frame["id"] = "chatcmpl-1".into();
            frame["object"] = "chat.completion.chunk".into();
        }
        self.pieces.push(Piece::Frame(frame));
        self
    }

    /// Any bytes of the body.
    #[must_use]
    pub fn then_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.pieces.push(Piece::Raw(bytes.into()));
        self
    }

    /// Nothing further until the test opens the gate.
    #[must_use]
    pub fn then_wait(mut self, gate: &Gate) -> Self {
        self.pieces.push(Piece::Wait(gate.clone()));
        self
    }

    /// Nothing further for a while, as a model that thinks between its words.
    #[must_use]
    pub fn then_pause(mut self, pause: Duration) -> Self {
        self.pieces.push(Piece::Pause(pause));
        self
    }

    /// Opens this gate once the last byte of a whole reply was handed to the connection.
    #[must_use]
    pub fn open_when_sent(mut self, gate: &Gate) -> Self {
        self.sent = Some(gate.clone());
        self
    }

    /// An error event, then the end of the body.
    #[must_use]
    pub fn then_error(self, error: &Value) -> Self {
        self.then_frame(json!({ "error": error })).bare()
    }

    /// An HTTP header of the answer.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(present, _)| present != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another finish reason.
    #[must_use]
    pub fn finish(mut self, reason: &str) -> Self {
        self.finish = Some(reason.to_owned());
        self
    }

    /// Other usage; none: the frame is missing.
    #[must_use]
    pub fn usage(mut self, usage: Option<Value>) -> Self {
        self.usage = usage;
        self
    }

    /// Without `[DONE]`, as some servers do it.
    #[must_use]
    pub fn without_done(mut self) -> Self {
        self.done = false;
        self
    }

    /// The connection breaks after the pieces.
    #[must_use]
    pub fn torn(mut self) -> Self {
        self.end = End::Tear;
        self.bare()
    }

    /// Nothing comes after the pieces, and the connection stays open.
    #[must_use]
    pub fn stalled(mut self) -> Self {
        self.end = End::Stall;
        self.bare()
    }

    /// Only the first bytes of the body, then its regular end.
    #[must_use]
    pub fn cut_at(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    /// Length of the whole body in bytes.
    #[must_use]
    pub fn body_len(&self) -> usize {
        let len = |step: &Step| if let Step::Bytes(bytes) = step { bytes.len() } else { 0 };
        self.steps().iter().map(len).sum()
    }

    fn stream(finish: &str) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".to_owned(), "text/event-stream".to_owned())],
            end: End::Close,
            sent: None,
            pieces: Vec::new(),
            finish: Some(finish.to_owned()),
            usage: Some(json!({ "prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17 })),
            done: true,
            cut: None,
        }
    }

    /// Nothing after the pieces.
    fn bare(mut self) -> Self {
        self.finish = None;
        self.usage = None;
        self.done = false;
        self
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let mut whole = self.clone();
        if let Some(reason) = &self.finish {
            whole = whole.then_frame(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] }));
        }
        if let Some(usage) = &self.usage {
            whole = whole.then_frame(json!({ "choices": [], "usage": usage }));
        }
        if self.done {
            whole = whole.then_bytes("data: [DONE]\n\n");
        }
        let mut left = self.cut.unwrap_or(usize::MAX);
        let steps = whole.pieces.into_iter().map(|piece| {
            let mut bytes = match piece {
                Piece::Wait(gate) => return Step::Wait(gate),
                Piece::Pause(pause) => return Step::Pause(pause),
                Piece::Raw(bytes) => bytes,
                Piece::Frame(frame) => format!("data: {frame}\n\n").into_bytes(),
            };
            bytes.truncate(left);
            left -= bytes.len();
            Step::Bytes(bytes)
        });
        steps.collect()
    }
}

/// Four characters at a time, as a model that counts tokens would send them.
pub(super) fn fragments(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(4).map(|chunk| chunk.iter().collect()).collect()
}
