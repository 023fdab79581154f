//! What callers pass in.

use stakpak_protocol::{CallerContext, MessageType, NotifyRoute, RunOverrides, ToolDecision, ToolDecisionAction};

/// A new session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateSessionOptions {
    /// May be empty; at most 1,024 characters.
    pub title: String,
    /// An existing absolute directory of the server; none: the server's own.
    pub cwd: Option<String>,
}

/// How messages are sent. The default starts a run with the server's settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SendMessageOptions {
    /// `provider/id` or `id`.
    pub model: Option<String>,
    /// Starts a run, steers one, or follows one.
    pub message_type: MessageType,
    /// The active run; needed by steering and follow-up.
    pub run_id: Option<String>,
    /// None: what the profile asks for.
    pub sandbox: Option<bool>,
    /// Text put in front of the message; at most 32 entries.
    pub context: Vec<CallerContext>,
    /// For this run only.
    pub overrides: Option<RunOverrides>,
    /// Where what the run has to tell on its way goes.
    pub notify_route: Option<NotifyRoute>,
    /// A person reads along who can answer questions of the agent.
    pub interactive: bool,
}

/// One decision about one call. For a scope or a person's name see
/// [`StakpakClient::resolve_tool_calls`](crate::StakpakClient::resolve_tool_calls).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolDecisionInput {
    /// What to do.
    pub action: ToolDecisionAction,
    /// The reason of a reject; the result of a custom result.
    pub content: Option<String>,
}

impl From<ToolDecisionInput> for ToolDecision {
    fn from(ToolDecisionInput { action, content }: ToolDecisionInput) -> Self {
        Self { action, content, scope: None, by: None }
    }
}
