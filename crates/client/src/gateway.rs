//! Texts into chats: `/v1/gateway/send` and what became of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stakpak_protocol::{AutoApproveOverride, RunLimits};

use crate::{CallerContextInput, ClientError, StakpakClient, transport::Call};

/// A text for a chat.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GatewaySend {
    /// `telegram`, `slack` or `discord`.
    pub channel: String,
    /// Telegram: `chat_id`, `thread_id`; Discord: `channel_id`, `thread_id`; Slack: `channel`, `thread_ts`.
    pub target: Value,
    /// Markdown.
    pub text: String,
    /// What the next run of that chat is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
    /// The run to start, which answers in that chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interactive: Option<GatewayInteractive>,
}

/// A run that a send starts. What is none is left to the gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GatewayInteractive {
    /// The user message: 1 byte to 32 KiB, not blank.
    pub prompt: String,
    /// What the run is told besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caller_context: Vec<CallerContextInput>,
    /// Title of a new session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where it takes place.
    pub session: GatewaySession,
    /// Profile of the run; the channel's then counts for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Budget of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<RunLimits>,
    /// `provider/id` or `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What runs without asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_approve: Option<AutoApproveOverride>,
    /// 1 to 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u64>,
    /// Whether its tools are isolated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<bool>,
    /// Directory of a new session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
}

/// Where a run of a send takes place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewaySession {
    /// In the session of the chat.
    #[default]
    Chat,
    /// In one of its own.
    New,
}

/// What became of a send, as its answer says it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GatewaySent {
    /// The platform has it; else the gateway does, and goes on.
    pub delivered: bool,
    /// Asks for it later. Earlier gateways have none.
    #[serde(default)]
    pub delivery_id: Option<String>,
    /// Where the run takes place, if it was to start one.
    #[serde(default)]
    pub session_id: Option<String>,
}

/// What became of a send since.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GatewayDelivery {
    /// Where it stands.
    pub state: DeliveryState,
    /// Why it is not sent, or was not at the last attempt.
    #[serde(default)]
    pub error: Option<String>,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It waits for its turn.
    Queued,
    /// It is on its way.
    Sending,
    /// The platform has it.
    Sent,
    /// It is given up.
    Failed,
    /// It may have been sent, and is parked until somebody asks for it again. Also a word of a newer gateway.
    #[serde(other)]
    Unknown,
}

impl StakpakClient {
    /// `POST /v1/gateway/send`. Under an idempotency key it is sent once. The gateway's own refusals carry
    /// [`ServerError::gateway_code`](crate::ServerError::gateway_code).
    pub async fn gateway_send(&self, send: &GatewaySend) -> Result<GatewaySent, ClientError> {
        let call = self.post("gateway/send").json(send)?;
        self.transport()?.call(&call).await
    }

    /// `GET /v1/gateway/deliveries/{id}`.
    pub async fn gateway_delivery(&self, id: &str) -> Result<GatewayDelivery, ClientError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if id.is_empty() || !id.bytes().all(is_plain) {
            return Err(ClientError::InvalidArgument("the delivery id is not one of a gateway"));
        }
        self.transport()?.call(&Call::get(format!("gateway/deliveries/{id}"))).await
    }
}
