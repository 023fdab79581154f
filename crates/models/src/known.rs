//! Providers that are known by name: their protocol and endpoint, the variable of their key, and a model.
//!
//! Endpoints: <https://platform.openai.com/docs/api-reference/responses>,
//! <https://platform.claude.com/docs/en/api/messages>, <https://ai.google.dev/api/generate-content>,
//! <https://openrouter.ai/docs/api-reference/overview>.

use crate::{ProviderKind, provider::addresses};

/// A provider of which only the key has to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownProvider {
    /// `type` in its table, and the usual key of that table.
    pub name: &'static str,
    /// What is spoken there.
    pub kind: ProviderKind,
    /// Base URL.
    pub endpoint: &'static str,
    /// Environment variable of the key.
    pub variable: &'static str,
    /// Id of the model that answers when none is named.
    pub model: &'static str,
}

/// All of them, in the order in which their variables are looked at.
pub const KNOWN_PROVIDERS: [KnownProvider; 4] = [
    KnownProvider {
        name: "anthropic",
        kind: ProviderKind::Anthropic,
        endpoint: "https://api.anthropic.com/v1",
        variable: "ANTHROPIC_API_KEY",
        model: "claude-sonnet-4-5",
    },
    KnownProvider {
        name: "openai",
        kind: ProviderKind::Responses,
        endpoint: "https://api.openai.com/v1",
        variable: "OPENAI_API_KEY",
        model: "gpt-5",
    },
    KnownProvider {
        name: "gemini",
        kind: ProviderKind::Gemini,
        endpoint: "https://generativelanguage.googleapis.com/v1beta",
        variable: "GEMINI_API_KEY",
        model: "gemini-2.5-pro",
    },
    KnownProvider {
        name: "openrouter",
        kind: ProviderKind::Chat,
        endpoint: "https://openrouter.ai/api/v1",
        variable: "OPENROUTER_API_KEY",
        model: "openrouter/auto",
    },
];

impl KnownProvider {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        KNOWN_PROVIDERS.iter().find(|known| known.name == name)
    }

    /// The one whose base URL this is.
    #[must_use]
    pub fn at(endpoint: &str) -> Option<&'static Self> {
        let (base, _) = addresses(endpoint)?;
        KNOWN_PROVIDERS.iter().find(|known| addresses(known.endpoint).is_some_and(|(its, _)| its == base))
    }
}
