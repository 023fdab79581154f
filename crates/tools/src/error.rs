//! A call that could not do what it was asked: its result, for the model.

use stakpak_agent_core::SandboxUnavailable;

/// Upper-snake code and a message that says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}\n{message}")]
pub(crate) struct ToolError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl ToolError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<SandboxUnavailable> for ToolError {
    fn from(SandboxUnavailable { message }: SandboxUnavailable) -> Self {
        Self::new("SANDBOX_UNAVAILABLE", format!("{message}. Nothing was run"))
    }
}
