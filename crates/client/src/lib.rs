//! HTTP and SSE client of the agent server: the one way in for gateway, scheduler and command line.
//!
//! * A token never shows up in `Debug` or in an error.
//! * A call is repeated by itself only when that is safe: reads, and writes under an idempotency key.
//! * An [`EventStream`] outlives its connections: after any cut it goes on behind the last event it gave, without
//!   hole and without repeat.
//!
//! Method and type names are a published interface. Where it speaks in plain ids (`Uuid`, `String`), this crate has
//! types of its own next to the wire types, which are re-exported as [`protocol`].
//!
//! ```no_run
//! # async fn example() -> Result<(), stakpak_client::ClientError> {
//! use stakpak_client::{Message, SendMessageOptions, StakpakClient};
//!
//! let client = StakpakClient::new("http://127.0.0.1:4096", "token");
//! let session = client.create_session("disk check").await?.id.to_string();
//! client.send_messages(&session, vec![Message::user("how full are my disks?")], SendMessageOptions::default()).await?;
//! let mut events = client.subscribe_events(&session, None).await?;
//! while let Some(event) = events.next_event().await {
//!     if let Some(text) = event.as_text_delta() {
//!         print!("{text}");
//!     }
//!     if event.is_run_terminal() {
//!         break;
//!     }
//! }
//! # Ok(()) }
//! ```

mod answers;
mod client;
mod cursors;
mod error;
mod event;
mod frames;
mod gateway;
mod merge;
mod options;
mod position;
mod stream;
mod timing;
mod transport;

pub use answers::{MessagesResponse, PendingTools, ProposedToolCall, SendMessageResponse, Session, SessionList};
pub use client::StakpakClient;
pub use error::{ClientError, ServerError, SetupError, TransportCause};
pub use event::{RunCompletedPayload, RunErrorPayload, SseEvent, ToolCallsProposedPayload};
pub use gateway::{DeliveryState, GatewayDelivery, GatewayInteractive, GatewaySend, GatewaySent, GatewaySession};
pub use options::{CreateSessionOptions, SendMessageOptions, ToolDecisionInput};
#[doc(hidden)]
pub use position::events_of;
pub use stakpak_protocol as protocol;
pub use stakpak_protocol::{
    AutoApproveOverride, CallerContext as CallerContextInput, Config, DecisionOutcome, DecisionsRequest,
    DecisionsResponse, ErrorCode, EventEnvelope, GapDetected, Health as HealthResponse, Message, MessageContent,
    MessagePart, MessageType, ModelInfo, NotifyRoute, Ready, Run, RunLimits, RunOverrides, RunState, RunStatus,
    ToolDecisionAction,
};
pub use stream::{EventStream, StreamItem};
pub use timing::Timing;
