//! Why settings cannot be used. Never holds a key, a header value or a whole URL.

use stakpak_agent_core::UnknownModel;

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Empty, with a slash, or taken by the built-in models.
    #[error("`{id}` cannot be the name of a provider: it must not be empty, hold `/`, or be `builtin`")]
    ProviderId {
        /// What was written.
        id: String,
    },
    /// No http(s) URL.
    #[error("provider `{id}`: api_endpoint must be a URL like http://127.0.0.1:11434/v1")]
    Endpoint {
        /// The provider.
        id: String,
    },
    /// No valid HTTP header; the key counts as the header `authorization`.
    #[error("provider `{id}`: `{name}` with its value is not a valid HTTP header")]
    Header {
        /// The provider.
        id: String,
        /// Name of the header.
        name: String,
    },
    /// Providers, but nothing says which model answers.
    #[error("no default model: set `model = \"provider/id\"` in the profile, or `models = [...]` of a provider")]
    NoDefaultModel,
    /// The default model is not there.
    #[error("the default model cannot be used")]
    DefaultModel(#[source] UnknownModel),
}
