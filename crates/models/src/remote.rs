//! A model behind HTTP, through genai. No genai type leaves this crate.
//!
//! Text and thinking come from genai's events; everything else from the raw frames, because genai reports it only behind
//! the end of the stream and in a narrower form. An answer is complete only with a finish reason: everything else is torn.

mod details;
mod failure;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use genai::chat::{ChatOptions, ChatStream, ChatStreamEvent};
use serde_json::Value;
use stakpak_agent_core::{ErrorClass, Model, ModelAnswer, ModelError, ModelEvent, ModelRequest, ModelStream, Takes};
use stakpak_protocol::{FinishReason, MessagePart, ModelInfo};

use self::wire::Wire;
use crate::{
    ProviderKind, call_id,
    dialect::{Asked, Collected, Marker, Piece},
    estimate,
    gate::Passed,
    provider::Provider,
    replay::{Replays, Stored},
    takes::takes,
};

/// A model of a provider.
#[derive(Debug, Clone)]
pub(crate) struct RemoteModel {
    provider: Arc<Provider>,
    info: ModelInfo,
}

impl RemoteModel {
    pub(crate) fn new(provider: Arc<Provider>, info: ModelInfo) -> Self {
        Self { provider, info }
    }

    /// Sends the request; nothing of the answer is there yet.
    async fn ask(
        &self,
        request: &ModelRequest,
        replays: Option<&Replays>,
        key: Option<&str>,
    ) -> Result<(ChatStream, Wire), ModelError> {
        let kind = self.provider.kind;
        let wire = Wire::new(kind.frames());
        let asked = Asked {
            model: &self.info.id,
            max_output_tokens: request.max_output_tokens.unwrap_or(self.info.limit.output),
            cache_key: self.provider.takes_cache_key(),
            replays,
            // What a provider does not take back it does not take at all.
            reasoning: request.reasoning.filter(|_| replays.is_some()),
        };
        let (chat, body) = kind.render(request, asked);
        let mut options = ChatOptions::default()
            .with_reasoning_effort(kind.effort(asked))
            .with_extra_body(Value::Object(body))
            .with_capture_usage(true)
            .with_stream_header_timeout(self.provider.timeouts.headers)
            .with_stream_read_timeout(self.provider.timeouts.idle)
            .with_raw_frame_sink(wire.clone());
        options.max_tokens = request.max_output_tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
        let target = self.provider.target(&self.info.id, key)?;
        let response = self.provider.client()?.exec_chat_stream(target, chat, Some(&options)).await;
        let events = response.map_err(|error| failure::from_genai(&self.provider, &error))?.stream;
        Ok((events, wire))
    }
}

#[async_trait]
impl Model for RemoteModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn takes(&self) -> Takes {
        takes(&self.info.id)
    }

    async fn stream(&self, request: ModelRequest) -> Result<ModelStream, ModelError> {
        let replays = Replays::of(&request, &self.provider.identity(), &self.info.id);
        let mut passed = self.pass().await?;
        let key = self.provider.key.value();
        let asked = self.ask(&request, Some(&replays), key.as_deref()).await;
        let (events, wire) = asked.inspect_err(|error| tell(&mut passed, Err(error)))?;
        let is_asked_for = request.reasoning.is_some() || self.provider.kind == ProviderKind::Responses;
        let may_drop_reasoning = is_asked_for || !replays.is_empty();
        let answer = Answer {
            model: self.clone(),
            request,
            passed,
            key,
            events,
            wire,
            text: String::new(),
            may_drop_reasoning,
            may_change_key: true,
        };
        Ok(stream::unfold(Some(answer), |answer| async {
            let mut answer = answer?;
            let event = answer.next().await;
            tell(&mut answer.passed, event.as_ref());
            let more = matches!(event, Ok(ModelEvent::Text(_) | ModelEvent::Thinking(_)));
            Some((event, more.then_some(answer)))
        })
        .boxed())
    }
}

impl RemoteModel {
    /// Waits for a place among the requests with the same key.
    async fn pass(&self) -> Result<Passed, ModelError> {
        let provider = &self.provider;
        provider.gate.pass().await.map_err(|left| {
            let why = format!("{} failed again and again and is not asked for now", provider.address);
            ModelError { retry_after: Some(left), ..failure::error(provider, ErrorClass::Overloaded, None, &why) }
        })
    }
}

/// What comes of a request tells of the health of its provider.
fn tell(passed: &mut Passed, event: Result<&ModelEvent, &ModelError>) {
    match event {
        Ok(ModelEvent::Text(_) | ModelEvent::Thinking(_)) => passed.heard(),
        Err(error) if error.class.is_retryable() => passed.failed(),
        Ok(ModelEvent::Done(_)) | Err(_) => passed.succeeded(),
    }
}

/// An answer under way.
struct Answer {
    model: RemoteModel,
    request: ModelRequest,
    passed: Passed,
    /// That it was sent with.
    key: Option<String>,
    events: ChatStream,
    wire: Wire,
    text: String,
    /// Nothing was said yet, and reasoning was sent along or asked for.
    may_drop_reasoning: bool,
    /// Nothing was said yet, and it was not sent with another key.
    may_change_key: bool,
}

impl Answer {
    async fn next(&mut self) -> Result<ModelEvent, ModelError> {
        loop {
            let Some(event) = self.events.next().await else { return self.at_end() };
            match event {
                Ok(ChatStreamEvent::Chunk(chunk)) if chunk.content.is_empty() => {}
                Ok(ChatStreamEvent::Chunk(chunk)) => {
                    self.has_begun();
                    self.text.push_str(&chunk.content);
                    return Ok(ModelEvent::Text(chunk.content));
                }
                Ok(ChatStreamEvent::ReasoningChunk(chunk)) => {
                    self.has_begun();
                    return Ok(ModelEvent::Thinking(chunk.content));
                }
                Ok(ChatStreamEvent::End(_)) => return self.at_end(),
                Ok(_) => {}
                Err(error) if self.is_of_no_matter(&error) => {}
                Err(error) => match self.failed(&error) {
                    Err(error) if self.is_about_reasoning(&error) => self.ask_without_reasoning().await?,
                    Err(error) if self.may_change_key && error.class == ErrorClass::Auth => {
                        self.ask_with_another_key(error).await?;
                    }
                    end => return end,
                },
            }
        }
    }

    /// From now on a second request would say it all twice.
    fn has_begun(&mut self) {
        (self.may_drop_reasoning, self.may_change_key) = (false, false);
    }

    /// A frame that holds less than genai expects: what matters of it was read from the wire.
    fn is_of_no_matter(&self, error: &genai::Error) -> bool {
        match error {
            genai::Error::JsonValueExt(_) => true,
            genai::Error::ChatResponse { body, .. } => {
                self.model.provider.kind == ProviderKind::Gemini && body.get("error").is_none()
            }
            _ => false,
        }
    }

    /// Signatures can expire, and not every model encrypts its reasoning.
    fn is_about_reasoning(&self, error: &ModelError) -> bool {
        const WORDS: [&str; 4] = ["thinking", "signature", "encrypted", "reasoning"];
        let message = error.message.to_lowercase();
        self.may_drop_reasoning
            && error.class == ErrorClass::BadRequest
            && WORDS.iter().any(|word| message.contains(word))
    }

    async fn ask_without_reasoning(&mut self) -> Result<(), ModelError> {
        self.may_drop_reasoning = false;
        (self.events, self.wire) = self.model.ask(&self.request, None, self.key.as_deref()).await?;
        Ok(())
    }

    /// Once, and not with the one that was refused.
    async fn ask_with_another_key(&mut self, refused: ModelError) -> Result<(), ModelError> {
        self.may_change_key = false;
        let provider = &self.model.provider;
        self.key = Some(provider.key.instead_of(self.key.as_deref()).await.ok_or(refused)?);
        let replays = Replays::of(&self.request, &provider.identity(), &self.model.info.id);
        (self.events, self.wire) = self.model.ask(&self.request, Some(&replays), self.key.as_deref()).await?;
        Ok(())
    }

    /// The body ended, or its last frame came.
    fn at_end(&mut self) -> Result<ModelEvent, ModelError> {
        let collected = self.wire.take();
        if let Some(body) = &collected.failure {
            return Err(failure::from_event(&self.model.provider, body));
        }
        let is_whole = collected.is_marked(self.model.provider.requires_done);
        match collected.finish {
            Some(_) if !is_whole => {
                Err(self
                    .torn("the answer ended without [DONE]; if this server never sends it, set requires_done = false"))
            }
            Some(finish) => self.complete(finish, collected),
            None => match &collected.refusal {
                Some(words) => Err(self.refused(words)),
                None => Err(self.torn(failure::CUT_OFF)),
            },
        }
    }

    fn failed(&mut self, error: &genai::Error) -> Result<ModelEvent, ModelError> {
        let collected = self.wire.take();
        if let Some(body) = &collected.failure {
            return Err(failure::from_event(&self.model.provider, body));
        }
        let error = match failure::from_genai(&self.model.provider, error) {
            error if error.class == ErrorClass::Decode && collected.marker == Marker::Torn => {
                self.torn(failure::CUT_OFF)
            }
            error => error,
        };
        // A server that neither marks the end nor closes: the answer was complete before the wait began.
        let may_be_complete = matches!(error.class, ErrorClass::StreamTruncated | ErrorClass::Timeout);
        let is_whole = collected.is_marked(self.model.provider.requires_done);
        match collected.finish {
            Some(finish) if may_be_complete && is_whole => self.complete(finish, collected),
            _ => Err(error),
        }
    }

    fn torn(&self, why: &str) -> ModelError {
        failure::error(&self.model.provider, ErrorClass::StreamTruncated, None, why)
    }

    fn refused(&self, words: &str) -> ModelError {
        failure::error(&self.model.provider, ErrorClass::ContentFilter, None, words)
    }

    fn complete(&mut self, finish: FinishReason, collected: Collected) -> Result<ModelEvent, ModelError> {
        let has_calls = collected.has_calls();
        let Collected { mut pieces, usage, refusal, .. } = collected;
        if finish == FinishReason::ToolCalls && !has_calls {
            let why = "the answer ended for tool calls, but held none";
            return Err(failure::error(&self.model.provider, ErrorClass::Decode, None, why));
        }
        let text = std::mem::take(&mut self.text);
        let has_text = pieces.iter().any(|piece| matches!(piece, Piece::Text(_)));
        if let Some(words) = refusal.filter(|_| text.is_empty() && !has_calls) {
            return Err(self.refused(&words));
        }
        if !has_text && !text.is_empty() {
            pieces.insert(0, Piece::Text(text));
        }
        let (parts, reasoning) = self.parts(pieces);
        // Some servers call every end a `stop`.
        let finish = match finish {
            FinishReason::Stop if has_calls => FinishReason::ToolCalls,
            finish => finish,
        };
        let usage = usage.unwrap_or_else(|| estimate::usage(&self.request, &parts));
        Ok(ModelEvent::Done(ModelAnswer { parts, reasoning, usage, finish }))
    }

    /// The message's parts, and what is kept beside them.
    fn parts(&self, pieces: Vec<Piece>) -> (Vec<MessagePart>, Option<Value>) {
        let mut ids = call_id::Ids::of(&self.request.messages);
        let mut beside = Stored::new(&self.model.provider.identity(), &self.model.info.id);
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                Piece::Text(text) => parts.push(MessagePart::text(text)),
                Piece::Opaque(data) => beside.keep(parts.len(), data),
                Piece::Call(call) => {
                    let id = ids.take(&call.id);
                    if id.as_str() != call.id {
                        beside.keep_call_id(parts.len(), call.id.clone());
                    }
                    let arguments = call.arguments();
                    parts.push(MessagePart::ToolCall {
                        id,
                        name: call.name,
                        arguments,
                        metadata: None,
                        provider_options: None,
                    });
                }
            }
        }
        // Chat servers see our ids from the start, and repeat theirs: those would not tell calls apart.
        let reasoning = if self.model.provider.kind == ProviderKind::Chat { None } else { beside.into_value() };
        (parts, reasoning)
    }
}

/// Whether these frames are a complete answer of a server that marks the end where its protocol has a mark. Of no use but to
/// test this crate from outside.
#[doc(hidden)]
pub fn is_complete_answer<'a>(kind: ProviderKind, frames: impl IntoIterator<Item = &'a str>) -> bool {
    let mut reader = kind.frames();
    for frame in frames {
        reader.add(frame);
    }
    let collected = reader.take();
    for piece in &collected.pieces {
        if let Piece::Call(call) = piece {
            call.arguments();
        }
    }
    let may_end = collected.failure.is_none() && collected.is_marked(true);
    may_end && collected.finish.is_some_and(|finish| finish != FinishReason::ToolCalls || collected.has_calls())
}
