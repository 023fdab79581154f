//! The protocols of providers: for each, what a request looks like and what its frames mean.
//!
//! genai carries the bytes, frames the stream and types the errors. What is said is ours, except in chat completions:
//! request bodies replace genai's by `extra_body`, and answers are read from the raw frames, because cache marks, error
//! flags, images in results and the order of thinking blocks are lost on the way through its own types.

mod anthropic;
mod bedrock;
mod chat;
mod collected;
mod content;
mod gemini;
mod reasoning;
mod responses;

use genai::{
    adapter::AdapterKind,
    chat::{ChatRequest, ReasoningEffort},
};
use serde_json::{Map, Value};
use stakpak_agent_core::{ModelRequest, Reasoning};
use stakpak_protocol::ToolCallId;
use url::Url;

pub(crate) use self::collected::{Collected, Frames, Marker, Piece};
use crate::{ProviderKind, replay::Replays};

/// What a request says beside the conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The model's exact id.
    pub(crate) model: &'a str,
    /// For protocols that insist on a limit.
    pub(crate) max_output_tokens: u64,
    /// A key for the prompt cache is understood.
    pub(crate) cache_key: bool,
    /// What goes back to the provider; none: neither sent nor asked for.
    pub(crate) replays: Option<&'a Replays>,
    /// How much it is to think.
    pub(crate) reasoning: Option<Reasoning>,
}

impl<'a> Asked<'a> {
    /// What the provider calls a call.
    pub(crate) fn call_id(self, ours: &'a ToolCallId) -> &'a str {
        self.given_id(ours).unwrap_or(ours.as_str())
    }

    /// The same, for protocols in which a call need not have an id: none where it had none.
    pub(crate) fn given_id(self, ours: &'a ToolCallId) -> Option<&'a str> {
        match self.replays.and_then(|replays| replays.call_id(ours.as_str())) {
            Some(theirs) => Some(theirs).filter(|theirs| !theirs.is_empty()),
            None => Some(ours.as_str()),
        }
    }
}

impl ProviderKind {
    pub(crate) fn adapter(self) -> AdapterKind {
        match self {
            Self::Chat => AdapterKind::OpenAI,
            Self::Responses => AdapterKind::OpenAIResp,
            Self::Anthropic => AdapterKind::Anthropic,
            Self::Gemini => AdapterKind::Gemini,
            Self::Bedrock => AdapterKind::BedrockApi,
        }
    }

    /// Where requests for a model go, below a base URL that ends in a slash; its query is kept.
    pub(crate) fn url(self, base: &Url, model: &str) -> Option<Url> {
        let mut url = base.clone();
        let mut path = url.path_segments_mut().ok()?;
        path.pop_if_empty();
        match self {
            Self::Chat => path.extend(["chat", "completions"]),
            Self::Responses => path.push("responses"),
            Self::Anthropic => path.push("messages"),
            Self::Gemini => path.extend(["models", &format!("{model}:streamGenerateContent")]),
            Self::Bedrock => path.extend(["model", model, "converse-stream"]),
        };
        drop(path);
        if self == Self::Gemini {
            url.query_pairs_mut().append_pair("alt", "sse");
        }
        Some(url)
    }

    /// The headers of every request, names in lower case: who asks, and in which version.
    #[must_use]
    pub fn headers(self, key: Option<&str>) -> Vec<(&'static str, String)> {
        let key = key.map(|key| match self {
            Self::Chat | Self::Responses | Self::Bedrock => ("authorization", format!("Bearer {key}")),
            Self::Anthropic => ("x-api-key", key.to_owned()),
            Self::Gemini => ("x-goog-api-key", key.to_owned()),
        });
        let version = (self == Self::Anthropic).then(|| ("anthropic-version", "2023-06-01".to_owned()));
        key.into_iter().chain(version).collect()
    }

    /// The conversation in genai's types, and the keys of the body that replace genai's.
    pub(crate) fn render(self, request: &ModelRequest, asked: Asked<'_>) -> (ChatRequest, Map<String, Value>) {
        match self {
            Self::Chat => (chat::request(request), chat::extras(request, asked)),
            Self::Responses => (ChatRequest::from_user("."), responses::body(request, asked)),
            Self::Anthropic => (ChatRequest::from_user("."), anthropic::body(request, asked)),
            Self::Gemini => (ChatRequest::from_user("."), gemini::body(request, asked)),
            Self::Bedrock => (bedrock::request(request, asked), Map::new()),
        }
    }

    /// What genai is told of thinking: without an effort it takes one from the end of the id. Where the body is ours, none
    /// of these sends anything.
    pub(crate) fn effort(self, asked: Asked<'_>) -> ReasoningEffort {
        match self {
            Self::Anthropic => ReasoningEffort::Zero,
            Self::Chat | Self::Responses | Self::Gemini => ReasoningEffort::Budget(0),
            Self::Bedrock => bedrock::effort(asked),
        }
    }

    pub(crate) fn frames(self) -> Box<dyn Frames> {
        match self {
            Self::Chat => Box::<chat::ChatFrames>::default(),
            Self::Responses => Box::<responses::ResponsesFrames>::default(),
            Self::Anthropic => Box::<anthropic::AnthropicFrames>::default(),
            Self::Gemini => Box::<gemini::GeminiFrames>::default(),
            Self::Bedrock => Box::<bedrock::BedrockFrames>::default(),
        }
    }
}
