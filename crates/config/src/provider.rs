//! One provider of a profile: `[profiles.NAME.providers.KEY]`.

use std::collections::BTreeMap;

use serde::{
    Deserialize,
    de::{IgnoredAny, IntoDeserializer as _, value},
};

use crate::{credentials::Credential, secret::Secret};

/// How a provider is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderKind {
    /// `openai`
    #[serde(rename = "openai")]
    OpenAi,
    /// `anthropic`
    Anthropic,
    /// `gemini`, also `google`
    #[serde(alias = "google")]
    Gemini,
    /// `openrouter`
    #[serde(rename = "openrouter")]
    OpenRouter,
    /// `amazon-bedrock`, also `bedrock`
    #[serde(alias = "bedrock")]
    AmazonBedrock,
    /// `github-copilot`
    GithubCopilot,
    /// `stakpak`
    Stakpak,
    /// `custom`: an endpoint that speaks the protocol of OpenAI.
    Custom,
}

impl ProviderKind {
    /// The one that is written so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::deserialize(name.into_deserializer()).map_err(|_: value::Error| ()).ok()
    }

    /// Whether a key is all that is needed to use it.
    pub(crate) fn needs_only_a_key(self) -> bool {
        matches!(self, Self::OpenAi | Self::Anthropic | Self::Gemini | Self::OpenRouter)
    }

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::OpenRouter => "openrouter",
            Self::AmazonBedrock => "amazon-bedrock",
            Self::GithubCopilot => "github-copilot",
            Self::Stakpak => "stakpak",
            Self::Custom => "custom",
        }
    }
}

/// Which of its two protocols an OpenAI endpoint is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderApi {
    /// `chat`: chat completions.
    Chat,
    /// `responses`
    Responses,
}

/// Access to one provider.
#[derive(Clone, Debug, Deserialize)]
pub struct ProviderConfig {
    /// How it is spoken to.
    #[serde(rename = "type")]
    pub kind: ProviderKind,
    /// Its key; without one the credentials of the profile are looked at, then the environment.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// For types `openai` and `custom`; without it responses at OpenAI's own endpoint, else chat.
    #[serde(default)]
    pub api: Option<ProviderApi>,
    /// Base URL; always there for [`ProviderKind::Custom`].
    #[serde(default)]
    pub api_endpoint: Option<String>,
    /// Ids of the models to offer; empty means those known for the kind.
    #[serde(default)]
    pub models: Vec<String>,
    /// Headers to send with each request. Values may carry credentials.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Whether a stream that ends without its end marker counts as torn.
    #[serde(default)]
    pub requires_done: Option<bool>,
    /// Requests at once.
    #[serde(default)]
    pub max_concurrent: Option<usize>,
    /// For type `amazon-bedrock`: where it is, such as `eu-central-1`.
    #[serde(default)]
    pub region: Option<String>,
    #[serde(default, rename = "profile_name")]
    _profile_name: IgnoredAny,
    /// Goes before `api_key`, in whose place it is once the file is read.
    #[serde(default)]
    pub(crate) auth: Option<Credential>,
}

impl ProviderConfig {
    /// A provider of which only the kind is known.
    #[must_use]
    pub fn new(kind: ProviderKind) -> Self {
        Self {
            kind,
            api_key: None,
            api: None,
            api_endpoint: None,
            models: Vec::new(),
            headers: BTreeMap::new(),
            requires_done: None,
            max_concurrent: None,
            region: None,
            _profile_name: IgnoredAny,
            auth: None,
        }
    }
}
