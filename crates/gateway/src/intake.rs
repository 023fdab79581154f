//! Receive → decide → persist → acknowledge: the sink of all adapters.
//!
//! Rows and watermark of a batch are one commit. A refused message moves the watermark only: its text is neither kept
//! nor logged.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    Address, ChannelError, ChannelId, GatewayStore, InboundBatch, InboundEvent, InboundMessage, InboundSink,
    RouterConfig, StoreError, StreamId,
    access::Access,
    clock::{millis, now_ms},
    dispatcher::Dispatcher,
    router::resolve_routing_key,
    store::{IntakeBatch, NewInbox, Payload, Refusal},
};

/// Telegram may number updates anew, and lower, after a week without any.
const OLDEST_POSITION: Duration = Duration::from_secs(6 * 24 * 3600);

/// Decides and stores what adapters receive.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) store: GatewayStore,
    pub(crate) access: Access,
    pub(crate) router: RouterConfig,
    pub(crate) dispatcher: Arc<Dispatcher>,
}

#[async_trait]
impl InboundSink for Intake {
    async fn accept(&self, batch: InboundBatch) -> Result<(), ChannelError> {
        let InboundBatch { stream, events, position } = batch;
        let mut sorted = IntakeBatch { stream, position, rows: Vec::new(), refused: Vec::new() };
        for event in events {
            self.sort(event, &mut sorted).map_err(|error| not_stored(&error))?;
        }
        let accepted = self.store.accept(sorted, now_ms()).await.map_err(|error| not_stored(&error))?;
        for stranger in &accepted.to_tell {
            tell(stranger);
        }
        for key in accepted.routing_keys {
            self.dispatcher.wake(&key);
        }
        Ok(())
    }

    async fn position(&self, stream: &StreamId) -> Result<Option<i64>, ChannelError> {
        let oldest = now_ms() - millis(OLDEST_POSITION);
        self.store.position(stream, oldest).await.map_err(|error| not_stored(&error))
    }

    async fn positions(&self, channel: &ChannelId, account: &str) -> Result<Vec<(String, i64)>, ChannelError> {
        self.store.positions(channel, account).await.map_err(|error| not_stored(&error))
    }

    async fn takes_part(&self, address: &Address) -> Result<bool, ChannelError> {
        let routing_key = resolve_routing_key(&self.router, address);
        let known = self.store.get(&routing_key).await.map_err(|error| not_stored(&error))?;
        Ok(known.is_some())
    }
}

impl Intake {
    fn sort(&self, event: InboundEvent, into: &mut IntakeBatch) -> Result<(), StoreError> {
        let (channel, account) = (into.stream.channel.to_string(), into.stream.account.clone());
        match event {
            InboundEvent::Message(message) if self.access.allows(&message) => {
                into.rows.push(self.row(*message, channel, account)?);
            }
            InboundEvent::Message(message) => into.refused.push(refusal(&message)),
            // Not handled yet: nothing is offered that could be pressed.
            InboundEvent::Edited(_) | InboundEvent::Press(_) | InboundEvent::Migrated { .. } => {}
            InboundEvent::Undecodable { event_key, order_key, raw } => into.rows.push(NewInbox {
                channel,
                account,
                event_key,
                kind: "message",
                state: "dead",
                routing_key: String::new(),
                address: None,
                sender: None,
                order_key,
                message_id: None,
                payload: raw,
            }),
        }
        Ok(())
    }

    fn row(&self, message: InboundMessage, channel: String, account: String) -> Result<NewInbox, StoreError> {
        let InboundMessage { address, sender, event_key, order_key, message_id, text, metadata, .. } = message;
        let payload = Payload { text, metadata, options: Default::default() };
        Ok(NewInbox {
            channel,
            account,
            event_key,
            kind: "message",
            state: "accepted",
            routing_key: resolve_routing_key(&self.router, &address),
            address: Some(address),
            sender: Some(sender),
            order_key,
            message_id: Some(message_id),
            payload: serde_json::to_string(&payload)?,
        })
    }
}

fn refusal(message: &InboundMessage) -> Refusal {
    Refusal {
        channel: message.address.channel.to_string(),
        user_id: message.sender.id.to_string(),
        chat_id: message.address.chat.clone(),
        // Chosen by the stranger, so it is cut and cannot start a line of its own.
        display_name: message.sender.name().chars().filter(|character| !character.is_control()).take(64).collect(),
    }
}

fn tell(Refusal { channel, user_id, display_name, .. }: &Refusal) {
    tracing::warn!(
        channel,
        user_id,
        display_name,
        "refused a message of somebody who is not allowed; to let them in: stakpak autopilot channel add {channel} --allow-user {user_id}"
    );
}

fn not_stored(error: &StoreError) -> ChannelError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    ChannelError::Store { reason: format!("{error}{cause}") }
}
