//! Messages: the same JSON in and out. A string content stays a string, an array stays an array.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::ToolCallId;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions of the host.
    System,
    /// A person or a program.
    User,
    /// The model.
    Assistant,
    /// The result of one tool call.
    Tool,
}

/// One entry of a session's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: MessageContent,
    /// Display name of the speaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Hints for one provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_options: Option<ProviderOptions>,
}

impl Message {
    /// A user message of plain text.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, MessageContent::Text(text.into()))
    }

    /// A user's message of text and images.
    #[must_use]
    pub fn user_parts(parts: Vec<MessagePart>) -> Self {
        Self::new(Role::User, MessageContent::Parts(parts))
    }

    /// An assistant message; its content is always an array.
    #[must_use]
    pub fn assistant(parts: Vec<MessagePart>) -> Self {
        Self::new(Role::Assistant, MessageContent::Parts(parts))
    }

    /// A message without name and provider options.
    #[must_use]
    pub fn new(role: Role, content: MessageContent) -> Self {
        Self { role, content, name: None, provider_options: None }
    }

    /// The text parts joined without a separator.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.content {
            MessageContent::Text(text) => text.clone(),
            MessageContent::Parts(parts) => parts
                .iter()
                .filter_map(|part| match part {
                    MessagePart::Text { text, .. } => Some(text.as_str()),
                    _ => None,
                })
                .collect(),
        }
    }

    /// The parts; a string content counts as none.
    #[must_use]
    pub fn parts(&self) -> &[MessagePart] {
        match &self.content {
            MessageContent::Text(_) => &[],
            MessageContent::Parts(parts) => parts,
        }
    }
}

/// A string, or an array of parts. Nothing else parses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum MessageContent {
    /// Plain text.
    Text(String),
    /// Typed parts, possibly none.
    Parts(Vec<MessagePart>),
}

/// One typed part of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MessagePart {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// Hints for one provider.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_options: Option<ProviderOptions>,
    },
    /// An image by http(s) URL or data URI.
    Image {
        /// `http:`, `https:` or `data:`.
        url: String,
        /// Wanted resolution.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<ImageDetail>,
        /// Hints for one provider.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_options: Option<ProviderOptions>,
    },
    /// A call the assistant wants made.
    ToolCall {
        /// Unique in the session.
        id: ToolCallId,
        /// `server__tool`.
        name: String,
        /// Any JSON; normally an object.
        arguments: Value,
        /// Opaque; goes back to the provider unchanged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata: Option<Value>,
        /// Hints for one provider.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_options: Option<ProviderOptions>,
    },
    /// What a call gave.
    ToolResult {
        /// The call it answers.
        tool_call_id: ToolCallId,
        /// Any JSON; normally a string.
        content: Value,
        /// Present only when true.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        /// Hints for one provider.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_options: Option<ProviderOptions>,
    },
}

impl MessagePart {
    /// A text part.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), provider_options: None }
    }
}

/// Wanted resolution of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageDetail {
    /// Few tokens.
    Low,
    /// Many tokens.
    High,
    /// The provider decides.
    Auto,
}

/// Hints that only one provider reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderOptions {
    /// Anthropic's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anthropic: Option<AnthropicOptions>,
}

/// Anthropic's hints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnthropicOptions {
    /// Prompt caching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
}

/// A prompt-cache breakpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CacheControl {
    /// `ephemeral`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `5m` or `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// A tool call as clients see it before it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProposedToolCall {
    /// Unique in the session.
    pub id: ToolCallId,
    /// `server__tool`.
    pub name: String,
    /// Any JSON; normally an object.
    pub arguments: Value,
    /// Opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// What policy said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Why policy said so, if it gave a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_reason: Option<String>,
}

/// What policy said about a call. Ordered from the least to the most restrictive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// Runs without a question.
    Auto,
    /// Waits for a person.
    Ask,
    /// Never runs.
    Deny,
}
