//! Chat platforms joined to the agent server: a message becomes a run, the run's answer goes back to the chat.
//!
//! * Accept before acknowledge: a platform hears that a message was received after it is durable here.
//! * A platform event starts at most one run, an answer is delivered or visibly parked; whatever crashes.
//! * Nobody may talk unless listed; what is refused is neither kept nor logged.
//! * The agent server is reached by HTTP and SSE only, through [`client`].
//!
//! ```no_run
//! # async fn embed(cancel: tokio_util::sync::CancellationToken) -> Result<(), Box<dyn std::error::Error>> {
//! use stakpak_gateway::{Gateway, GatewayCliFlags, GatewayConfig};
//!
//! let cli = GatewayCliFlags::default();
//! let config = GatewayConfig::load_default(&cli)?;
//! let gateway = Gateway::new(config)?;
//! gateway.run(cancel).await?;
//! # Ok(()) }
//! ```

pub use stakpak_client as client;

mod address;
mod types;

pub mod config;
pub mod router;
pub mod targeting;

pub mod store;

mod channel;
pub mod channels;
pub mod chunking;
pub mod render;
pub mod slack_blocks;

mod access;
mod actors;
mod approvals;
mod backoff;
mod clock;
mod commands;
mod delivery;
mod dispatcher;
#[cfg(test)]
mod fake;
mod intake;
mod kept;
mod tally;

mod api;
mod ownership;
mod runtime;

pub use access::Role;
pub use address::Address;
pub use api::openapi;
pub use approvals::parse_approval_callback;
pub use channel::{
    Capabilities, Channel, ChannelError, ChannelHealth, ChannelStatus, ChannelTestResult, InboundBatch, InboundEvent,
    InboundSink, StreamId,
};
pub use channels::build_channels;
pub use client::StakpakClient;
pub use config::{
    ApprovalMode, BusyPolicy, ChannelSettings, DiscordConfig, DmPolicy, GatewayCliFlags, GatewayConfig,
    GatewayConfigError, GroupPolicy, MessageWhilePending, Progress, Queued, SlackConfig, TelegramConfig,
};
pub use ownership::{Ownership, OwnershipError};
pub use router::{Binding, BindingMatch, DmScope, PeerMatch, PeerMatchKind, RouterConfig};
pub use runtime::{Gateway, GatewayError};
pub use store::{
    AccessEntry, AuditEntry, GatewayStore, Origin, Pairing, QueueAges, SessionMapping, Settled, StoreError,
    StoreReport, Subject, Undelivered,
};
pub use tally::{Happened, Spread};
pub use types::{
    ApprovalButton, Body, ButtonStyle, ChannelId, ChatType, DeliveryContext, DeliveryReceipt, InboundMessage,
    MediaAttachment, MessageRef, OutboundFile, OutboundReply, Overheard, PeerId, Press, PressAnswer, Reaction, Sender,
};
