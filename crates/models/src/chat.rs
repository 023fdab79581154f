//! Chat completions through genai. No genai type leaves this crate.
//!
//! Text and thinking come from genai's events; finish reason, tool calls and usage from the raw frames ([`frames`]),
//! because genai reports them only behind `[DONE]` and in a narrower form. An answer is complete only with a finish
//! reason: everything else is torn.

mod details;
mod failure;
mod frames;
mod render;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use genai::chat::{ChatOptions, ChatStream, ChatStreamEvent, ReasoningEffort};
use serde_json::json;
use stakpak_agent_core::{ErrorClass, Model, ModelAnswer, ModelError, ModelEvent, ModelRequest, ModelStream};
use stakpak_protocol::{FinishReason, MessagePart, ModelInfo};

use self::frames::{Frames, Wire};
use crate::{call_id, estimate, provider::Provider};

/// A model behind an OpenAI-compatible endpoint.
#[derive(Debug)]
pub(crate) struct ChatModel {
    provider: Arc<Provider>,
    info: ModelInfo,
}

impl ChatModel {
    pub(crate) fn new(provider: Arc<Provider>, info: ModelInfo) -> Self {
        Self { provider, info }
    }

    fn options(&self, request: &ModelRequest, wire: &Wire) -> ChatOptions {
        let mut options = ChatOptions::default()
            // A budget of 0 sends nothing. Without an effort genai takes one from the end of the id and cuts it off.
            .with_reasoning_effort(ReasoningEffort::Budget(0))
            .with_extra_body(json!({ "model": self.info.id }))
            .with_capture_usage(true)
            .with_stream_header_timeout(self.provider.timeouts.headers)
            .with_stream_read_timeout(self.provider.timeouts.idle)
            .with_raw_frame_sink(wire.clone());
        options.max_tokens = request.max_output_tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
        options
    }
}

#[async_trait]
impl Model for ChatModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ModelRequest) -> Result<ModelStream, ModelError> {
        let wire = Wire::default();
        let options = self.options(&request, &wire);
        let target = self.provider.target(&self.info.id);
        let response =
            self.provider.client()?.exec_chat_stream(target, render::request(&request), Some(&options)).await;
        let events = response.map_err(|error| failure::from_genai(&self.provider, &error))?.stream;
        let answer = Answer { provider: Arc::clone(&self.provider), request, events, wire, text: String::new() };
        Ok(stream::unfold(Some(answer), |answer| async {
            let mut answer = answer?;
            let event = answer.next().await;
            let more = matches!(event, Ok(ModelEvent::Text(_) | ModelEvent::Thinking(_)));
            Some((event, more.then_some(answer)))
        })
        .boxed())
    }
}

/// An answer under way.
struct Answer {
    provider: Arc<Provider>,
    request: ModelRequest,
    events: ChatStream,
    wire: Wire,
    text: String,
}

impl Answer {
    async fn next(&mut self) -> Result<ModelEvent, ModelError> {
        loop {
            let Some(event) = self.events.next().await else { return self.at_end() };
            match event {
                Ok(ChatStreamEvent::Chunk(chunk)) => {
                    self.text.push_str(&chunk.content);
                    return Ok(ModelEvent::Text(chunk.content));
                }
                Ok(ChatStreamEvent::ReasoningChunk(chunk)) => return Ok(ModelEvent::Thinking(chunk.content)),
                Ok(ChatStreamEvent::End(_)) => {
                    let frames = self.wire.take();
                    return match &frames.finish {
                        Some(finish) => self.complete(finish_reason(finish), &frames),
                        None => Err(self.torn("the answer ended without a finish reason")),
                    };
                }
                Ok(_) => {}
                Err(error) => return self.failed(&error),
            }
        }
    }

    /// The body ended without `[DONE]`.
    fn at_end(&mut self) -> Result<ModelEvent, ModelError> {
        let frames = self.wire.take();
        match &frames.finish {
            Some(finish) if !self.provider.requires_done => self.complete(finish_reason(finish), &frames),
            Some(_) => {
                Err(self
                    .torn("the answer ended without [DONE]; if this server never sends it, set requires_done = false"))
            }
            None => Err(self.torn(failure::CUT_OFF)),
        }
    }

    fn failed(&mut self, error: &genai::Error) -> Result<ModelEvent, ModelError> {
        let frames = self.wire.take();
        let error = match failure::from_genai(&self.provider, error) {
            error if error.class == ErrorClass::Decode && frames.torn_done => self.torn(failure::CUT_OFF),
            error => error,
        };
        // A server that neither says `[DONE]` nor closes: the answer was complete before the wait began.
        let may_be_complete = matches!(error.class, ErrorClass::StreamTruncated | ErrorClass::Timeout);
        match &frames.finish {
            Some(finish) if may_be_complete && !self.provider.requires_done => {
                self.complete(finish_reason(finish), &frames)
            }
            _ => Err(error),
        }
    }

    fn torn(&self, why: &str) -> ModelError {
        failure::error(&self.provider, ErrorClass::StreamTruncated, None, why)
    }

    fn complete(&mut self, finish: FinishReason, frames: &Frames) -> Result<ModelEvent, ModelError> {
        if finish == FinishReason::ToolCalls && frames.calls.is_empty() {
            let why = "the answer ended for tool calls, but held none";
            return Err(failure::error(&self.provider, ErrorClass::Decode, None, why));
        }
        let text = std::mem::take(&mut self.text);
        let mut parts: Vec<MessagePart> =
            Some(text).filter(|text| !text.is_empty()).map(MessagePart::text).into_iter().collect();
        let mut ids = call_id::Ids::of(&self.request.messages);
        parts.extend(frames.calls.iter().map(|call| MessagePart::ToolCall {
            id: ids.take(&call.id),
            name: call.name.clone(),
            arguments: call.arguments(),
            metadata: None,
            provider_options: None,
        }));
        // Some servers call every end a `stop`.
        let finish = match finish {
            FinishReason::Stop if !frames.calls.is_empty() => FinishReason::ToolCalls,
            finish => finish,
        };
        let usage = frames.usage().unwrap_or_else(|| estimate::usage(&self.request, &parts));
        Ok(ModelEvent::Done(ModelAnswer { parts, reasoning: None, usage, finish }))
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
