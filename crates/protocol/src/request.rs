//! Bodies of requests and of their answers. An absent field and `null` mean the same.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{EventId, Message, ModelInfo, ProposedToolCall, RunId, ToolCallId, Visibility};

/// POST sessions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreateSessionRequest {
    /// Required, may be empty; at most 1,024 characters.
    pub title: String,
    /// An existing absolute directory.
    #[serde(default)]
    pub cwd: Option<String>,
}

/// PATCH a session. What is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpdateSessionRequest {
    /// May be empty; at most 1,024 characters.
    #[serde(default)]
    pub title: Option<String>,
    /// Who may see it.
    #[serde(default)]
    pub visibility: Option<Visibility>,
}

/// POST messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PostMessageRequest {
    /// A user message of text and images.
    pub message: Message,
    /// Absent: `message`.
    #[serde(default, rename = "type")]
    pub message_type: Option<MessageType>,
    /// Needed by `steering` and `follow_up`.
    #[serde(default)]
    pub run_id: Option<RunId>,
    /// `provider/id` or `id`.
    #[serde(default)]
    pub model: Option<String>,
    /// Absent: what the profile asks for.
    #[serde(default)]
    pub sandbox: Option<bool>,
    /// At most 32 entries.
    #[serde(default)]
    pub context: Option<Vec<CallerContext>>,
    /// For this run only.
    #[serde(default)]
    pub overrides: Option<RunOverrides>,
    /// Where what the run has to tell on its way goes.
    // Without it a body is what it was before there was this field, and so is its hash under an idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_route: Option<NotifyRoute>,
    /// Whether a person reads along who can answer questions of the agent; absent: nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interactive: Option<bool>,
}

/// A place on a chat platform, named as `POST /v1/gateway/send` does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotifyRoute {
    /// `telegram`, `slack`, `discord`.
    pub channel: String,
    /// The chat there.
    #[schema(value_type = BTreeMap<String, Value>)]
    pub target: Map<String, Value>,
}

/// What a posted message is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageType {
    /// Starts a run.
    #[default]
    Message,
    /// Read by the run before its next step.
    Steering,
    /// Used when the run would end.
    FollowUp,
}

/// Text the caller puts in front of the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallerContext {
    /// At most 256 characters.
    pub name: String,
    /// At most 50,000 characters.
    pub content: String,
    /// `critical`, `high`, `normal`; anything else is low.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
}

/// What a message changes for its run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunOverrides {
    /// `provider/id` or `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What runs without a question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_approve: Option<AutoApproveOverride>,
    /// The sender's own policy, below that of the profile: what runs without a question where the profile does not say;
    /// where it does, only what both let run. Nothing above the server's ceiling runs by it. `auto_approve` goes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_auto_approve: Option<AutoApproveOverride>,
    /// At most 32,768 characters; blank counts as absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// 1 to 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u64>,
    /// A profile of the server's `config.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Bounds of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<RunLimits>,
}

/// `"all"`, `"none"`, or a list of tool names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AutoApproveOverride {
    /// `all` or `none`, trimmed, any case.
    Mode(String),
    /// These run, all others ask.
    Tools(Vec<String>),
}

/// Bounds of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunLimits {
    /// Seconds, time spent waiting for a person not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_clock_s: Option<u64>,
    /// Tokens in and out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// What messages about a limit call it where a message set it.
impl RunLimits {
    /// `wall_clock_s`
    pub const WALL_CLOCK_KEY: &str = "overrides.limits.wall_clock_s";
    /// `tokens`
    pub const TOKENS_KEY: &str = "overrides.limits.tokens";
    /// `cost_usd`
    pub const COST_KEY: &str = "overrides.limits.cost_usd";
    /// In the message of a run for which the day of its profile had no room.
    pub const DAY_TAKEN: &str = "of the day are taken by runs of profile";
}

/// Answer of POST messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PostMessageResponse {
    /// The run.
    pub run_id: RunId,
    /// Last event before this request's first effect: `?after=<cursor>` shows all of it.
    #[serde(default)]
    pub cursor: EventId,
    /// Options that this type of message does not apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// Answer of GET messages: oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MessagesResponse {
    /// The page.
    pub messages: Vec<Message>,
    /// All messages of the session.
    pub total: u64,
    /// The event this answer corresponds to.
    #[serde(default)]
    pub last_event_id: EventId,
}

/// Answer of GET tools/pending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PendingToolsResponse {
    /// The active run, if a call of it waits.
    pub run_id: Option<RunId>,
    /// Calls that wait for a person.
    pub tool_calls: Vec<ProposedToolCall>,
}

/// One decision about one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolDecision {
    /// What to do.
    pub action: ToolDecisionAction,
    /// The reason of a reject; the result of a `custom_result`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// How far an accept reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<DecisionScope>,
    /// Display name of the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What to do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolDecisionAction {
    /// Run it.
    Accept,
    /// Do not.
    Reject,
    /// Do not; use this result.
    CustomResult,
}

/// How far an accept reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecisionScope {
    /// This call.
    Once,
    /// The same tool with the same arguments, in this session.
    Session,
}

/// POST tools/{tool_call_id}/decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionRequest {
    /// The active run.
    pub run_id: RunId,
    /// The decision.
    #[serde(flatten)]
    pub decision: ToolDecision,
}

/// POST tools/decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionsRequest {
    /// The active run.
    pub run_id: RunId,
    /// By call id.
    pub decisions: BTreeMap<ToolCallId, ToolDecision>,
}

/// Answer of both decision routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionsResponse {
    /// Always true.
    pub accepted: bool,
    /// The run.
    pub run_id: RunId,
    /// By call id.
    #[serde(default)]
    pub results: BTreeMap<ToolCallId, DecisionOutcome>,
    /// Who decided the calls whose outcome is not `applied`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decided: BTreeMap<ToolCallId, DecidedBy>,
}

/// What became of one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionOutcome {
    /// It counts.
    Applied,
    /// It was so already.
    Duplicate,
    /// It was decided otherwise, or ran.
    TooLate,
    /// Policy refused the call.
    Denied,
    /// No call of this run.
    Unknown,
}

/// Who decided a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecidedBy {
    /// What was decided.
    pub action: ToolDecisionAction,
    /// A person, or `policy`.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// POST cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelRequest {
    /// The active run.
    pub run_id: RunId,
}

/// Answer of POST cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelResponse {
    /// Always true: requested and durable.
    pub cancelled: bool,
    /// The run.
    pub run_id: RunId,
}

/// POST model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SwitchModelRequest {
    /// The active run.
    pub run_id: RunId,
    /// `provider/id` or `id`.
    pub model: String,
}

/// Answer of POST model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SwitchModelResponse {
    /// Always true: asked from the next request on.
    pub accepted: bool,
    /// The run.
    pub run_id: RunId,
    /// `provider/id`.
    pub model: String,
}

/// Answer of GET models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelsResponse {
    /// The catalogue.
    pub models: Vec<ModelInfo>,
}
