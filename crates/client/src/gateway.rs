//! Texts into chats: `/v1/gateway/send` and what became of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ClientError, StakpakClient, transport::Call};

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
}

/// What became of a send, as its answer says it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GatewaySent {
    /// The platform has it; else the gateway does, and goes on.
    pub delivered: bool,
    /// Asks for it later. Earlier gateways have none.
    #[serde(default)]
    pub delivery_id: Option<String>,
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
