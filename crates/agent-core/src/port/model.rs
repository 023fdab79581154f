//! The port to models, and the profiles that choose between them.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stakpak_protocol::{FinishReason, Message, MessagePart, ModelInfo, RunLimits, SessionId, Usage};

use super::{DayBudget, Sandbox, ToolSpec};
use crate::{Compaction, NoProgress, Policy};

/// One request to a model. Messages are a *view* of the history: well formed for any provider.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// What for.
    pub purpose: Purpose,
    /// Instructions; not part of the history.
    pub system: Arc<str>,
    /// Starts with a user message; every call is answered exactly once, right after its message.
    pub messages: Vec<Message>,
    /// What providers said beside these messages, in order. Each takes back only what is its own.
    pub replays: Vec<Replay>,
    /// The run's tools, sorted by name.
    pub tools: Arc<[ToolSpec]>,
    /// Longest answer in tokens; none: the provider's default.
    pub max_output_tokens: Option<u64>,
    /// How much it thinks before it answers; none: as the provider has it.
    pub reasoning: Option<Reasoning>,
    /// Key for the provider's prompt cache.
    pub session_id: SessionId,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// The next answer of the conversation.
    #[default]
    Answer,
    /// A summary of the conversation that is its only message.
    Compact,
}

/// How much a model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reasoning {
    /// As the provider understands it.
    Effort(Effort),
    /// At most so many tokens.
    Budget(u64),
}

/// How much a model thinks, without a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

/// [`ModelAnswer::reasoning`] of an answer in a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// Index of the message that holds the answer.
    pub message: usize,
    /// Index of the answer's first part in that message.
    pub first_part: usize,
    /// As it was given.
    pub reasoning: Arc<Value>,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "the large one comes once, last")]
pub enum ModelEvent {
    /// More thinking.
    Thinking(String),
    /// More text.
    Text(String),
    /// The answer is complete; always the last item, and only with a stop reason from the provider.
    Done(ModelAnswer),
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelAnswer {
    /// Text and tool calls, in the provider's order. The text parts joined equal the streamed text. Arguments that
    /// were not JSON are a JSON string, never `{}`.
    pub parts: Vec<MessagePart>,
    /// Reasoning and signatures that the same provider needs back; opaque.
    pub reasoning: Option<Value>,
    /// Tokens.
    pub usage: Usage,
    /// Why it ended.
    pub finish: FinishReason,
}

/// An answer as it comes. Dropping it closes the connection.
pub type ModelStream = BoxStream<'static, Result<ModelEvent, ModelError>>;

/// A model at its provider.
#[async_trait]
pub trait Model: Send + Sync {
    /// Name, provider, limits, price.
    fn info(&self) -> &ModelInfo;

    /// What it can be given.
    fn takes(&self) -> Takes {
        Takes::default()
    }

    /// Asks the model. A stream that ends without [`ModelEvent::Done`] was torn.
    ///
    /// # Errors
    /// Typed; whether to try again is part of the class.
    async fn stream(&self, request: ModelRequest) -> Result<ModelStream, ModelError>;
}

/// What a model can be given besides text; all of it, unless it is known otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takes {
    /// Tools to call.
    pub tools: bool,
    /// Images.
    pub images: bool,
}

impl Default for Takes {
    fn default() -> Self {
        Self { tools: true, images: true }
    }
}

/// The longest answer that is asked of a model, in tokens; none: the provider's default. It leaves half of the context.
#[must_use]
pub fn longest_answer(model: &ModelInfo) -> Option<u64> {
    let half = if model.limit.context == 0 { u64::MAX } else { (model.limit.context / 2).max(1) };
    Some(model.limit.output.min(16_384).min(half)).filter(|limit| *limit > 0)
}

/// Why a request failed. The message is public: `provider: status class` and a short text, never a URL path, header or body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// Decides whether to try again.
    pub class: ErrorClass,
    /// For people.
    pub message: String,
    /// The wait the provider asked for.
    pub retry_after: Option<Duration>,
    /// The provider said that the same request will not work, whatever the class says.
    pub is_final: bool,
}

impl ModelError {
    /// One of which nothing more is known.
    #[must_use]
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after: None, is_final: false }
    }

    /// Whether the same request may work later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.class.is_retryable() && !self.is_final
    }

    /// How often the same request is sent, where `most` attempts are made at best.
    pub(crate) fn attempts(&self, most: u64) -> u64 {
        match self.class {
            _ if self.is_final => 1,
            class if class.is_retryable() => most,
            ErrorClass::Decode => most.min(2),
            _ => 1,
        }
    }
}

/// Class of a failed request, from status and code, never from free text alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// 429.
    RateLimited,
    /// 529, 503.
    Overloaded,
    /// Other 5xx.
    Server,
    /// Connect, TLS, reset.
    Network,
    /// No answer in time.
    Timeout,
    /// The stream ended without a stop reason.
    StreamTruncated,
    /// Out of credit.
    Quota,
    /// Bad key.
    Auth,
    /// 403.
    Permission,
    /// 404.
    ModelNotFound,
    /// The conversation is too long.
    ContextOverflow,
    /// Other 4xx.
    BadRequest,
    /// The provider refused the content.
    ContentFilter,
    /// The answer could not be read.
    Decode,
    /// Nothing was asked: the fault is ours.
    Internal,
}

impl ErrorClass {
    /// Whether the same request may work later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::Overloaded | Self::Server | Self::Network | Self::Timeout | Self::StreamTruncated
        )
    }

    /// Whether another model may do what this one did not.
    #[must_use]
    pub fn may_fall_back(self) -> bool {
        !matches!(self, Self::BadRequest | Self::ContentFilter | Self::Internal)
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RateLimited => "rate limited",
            Self::Overloaded => "overloaded",
            Self::Server => "server error",
            Self::Network => "network error",
            Self::Timeout => "timeout",
            Self::StreamTruncated => "answer cut off",
            Self::Quota => "out of quota",
            Self::Auth => "key refused",
            Self::Permission => "not permitted",
            Self::ModelNotFound => "model not found",
            Self::ContextOverflow => "conversation too long",
            Self::BadRequest => "bad request",
            Self::ContentFilter => "content refused",
            Self::Decode => "unreadable answer",
            Self::Internal => "internal error",
        })
    }
}

/// The models of one profile.
pub trait Models: Send + Sync {
    /// The catalogue, default first.
    fn list(&self) -> Vec<ModelInfo>;

    /// `provider/id` of the default; none only when the catalogue is empty.
    fn default_model(&self) -> Option<String>;

    /// By `provider/id`, or `id`.
    ///
    /// # Errors
    /// No such model; the error names near ones.
    fn resolve(&self, id: &str) -> Result<Arc<dyn Model>, UnknownModel>;
}

/// A model that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UnknownModel {
    /// Names the model and near ones.
    pub message: String,
}

/// What a run gets unless its message says otherwise.
#[derive(Clone)]
pub struct Profile {
    /// Its name in `config.toml`.
    pub name: String,
    /// The models it can use.
    pub models: Arc<dyn Models>,
    /// What runs without a question.
    pub policy: Policy,
    /// Whether it says so itself; if not, `policy` is what everybody gets who says nothing.
    pub has_own_policy: bool,
    /// Replaces the built-in prompt.
    pub system_prompt: Option<Arc<str>>,
    /// 1 to 256.
    pub max_turns: Option<u64>,
    /// How often a run may repeat itself.
    pub no_progress: NoProgress,
    /// What each run may take; where the message says less, that.
    pub limits: RunLimits,
    /// What its runs may take together in a day.
    pub day: DayBudget,
    /// What confines its tools; a message may ask for more.
    pub sandbox: Sandbox,
    /// How conversations are made to fit their model.
    pub compaction: Compaction,
    /// How much its models think.
    pub reasoning: Option<Reasoning>,
    /// Models that stand in for one that fails, as `provider/id`, in this order.
    pub fallback: Vec<String>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").field("name", &self.name).field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The profiles of the configuration.
pub trait Profiles: Send + Sync {
    /// By name; none: the one the process was started with.
    ///
    /// # Errors
    /// Unknown or unusable; never an empty default.
    fn profile(&self, name: Option<&str>) -> Result<Arc<Profile>, ProfileError>;
}

/// A profile that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProfileError {
    /// Names the profile, the cause and the remedy.
    pub message: String,
}
