//! Providers that are known by name: their endpoint in the protocol of OpenAI, the variable of their key, and a model.
//!
//! Endpoints: <https://platform.openai.com/docs/api-reference/chat>,
//! <https://platform.claude.com/docs/en/api/openai-sdk>, <https://ai.google.dev/gemini-api/docs/openai>,
//! <https://openrouter.ai/docs/api-reference/overview>.

/// A provider of which only the key has to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownProvider {
    /// `type` in its table, and the usual key of that table.
    pub name: &'static str,
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
        endpoint: "https://api.anthropic.com/v1",
        variable: "ANTHROPIC_API_KEY",
        model: "claude-sonnet-4-5",
    },
    KnownProvider { name: "openai", endpoint: "https://api.openai.com/v1", variable: "OPENAI_API_KEY", model: "gpt-5" },
    KnownProvider {
        name: "gemini",
        endpoint: "https://generativelanguage.googleapis.com/v1beta/openai",
        variable: "GEMINI_API_KEY",
        model: "gemini-2.5-pro",
    },
    KnownProvider {
        name: "openrouter",
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
}
