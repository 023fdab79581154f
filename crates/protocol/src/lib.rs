//! The wire types of the agent server: what clients send and see, and nothing about how it is executed.
//!
//! Everything here is plain data with serde and OpenAPI schemas. Key names, enum spelling, and null versus omitted
//! are a published contract; the snapshots in `tests/` hold it still.

mod ascii;
mod error;
mod event;
mod ids;
mod message;
mod model;
mod ready;
mod request;
mod result;
mod run;
mod session;
mod usd;

pub use ascii::to_ascii_json;
pub use error::{ErrorBody, ErrorCode};
pub use event::{
    CONTROL_EVENTS, Event, EventEnvelope, FinishReason, GapDetected, ServerShutdown, SessionDeleted, StopDetail,
    StopReason, UnconsumedCommand,
};
pub use ids::{EventId, RequestId, RunId, SessionId, ToolCallId};
pub use message::{
    AnthropicOptions, Approval, CacheControl, ImageDetail, Message, MessageContent, MessagePart, ProposedToolCall,
    ProviderOptions, Role,
};
pub use model::{InputTokenDetails, ModelCost, ModelInfo, ModelLimit, OutputTokenDetails, Usage};
pub use ready::{CheckState, Ready, ReadyChecks};
pub use request::{
    AutoApproveOverride, CallerContext, CancelRequest, CancelResponse, CreateSessionRequest, DecidedBy,
    DecisionOutcome, DecisionRequest, DecisionScope, DecisionsRequest, DecisionsResponse, MessageType,
    MessagesResponse, ModelsResponse, NotifyRoute, PendingToolsResponse, PostMessageRequest, PostMessageResponse,
    RunLimits, RunOverrides, SwitchModelRequest, SwitchModelResponse, ToolDecision, ToolDecisionAction,
    UpdateSessionRequest,
};
pub use result::{ResultPart, result_parts, result_text};
pub use run::{LastError, LastErrorCode, Run, RunList, RunState, RunStatus};
pub use session::{AutoApproveMode, Config, Health, Session, SessionDetail, SessionList, SessionStatus, Visibility};
pub use usd::Usd;
