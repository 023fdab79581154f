//! Telegram, by long polling.
//!
//! * The offset of a poll comes from the store, after the commit of what was received before it: what was not stored is
//!   delivered again.
//! * A text is sent as it is, with entities instead of a parse mode: nothing in it can be markup.
//! * Only `getMe`, `getUpdates` and `sendMessage` are used, and of their answers only what is needed is decoded.

mod api;
mod decode;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::{
    api::{Api, Me},
    decode::{Decoder, update_id},
};
use super::health::Health;
use crate::{
    Body, Capabilities, Channel, ChannelError, ChannelHealth, ChannelId, ChannelTestResult, DeliveryReceipt,
    InboundBatch, InboundSink, OutboundReply, StreamId, TelegramConfig, render::telegram,
};

/// How long the platform holds a poll that has nothing to deliver.
const LONG_POLL: Duration = Duration::from_secs(30);

/// A Telegram bot.
#[derive(Debug)]
pub struct TelegramChannel {
    api: Api,
    require_mention: bool,
    health: Health,
}

impl TelegramChannel {
    /// Connects to nothing yet.
    pub fn new(config: &TelegramConfig) -> Result<Self, ChannelError> {
        let api = Api::new(config.token.expose(), &config.settings.api_base_url, LONG_POLL)?;
        Ok(Self { api, require_mention: config.settings.require_mention, health: Health::new() })
    }

    /// Polls once and hands over what came.
    async fn poll(
        &self,
        inbound: &dyn InboundSink,
        stream: &StreamId,
        decoder: &Decoder,
        wait: Duration,
    ) -> Result<(), ChannelError> {
        let offset = inbound.position(stream).await?.map(|position| position + 1);
        let updates = self.api.get_updates(offset, wait).await?;
        self.health.connected();
        // An entry without a number can neither be kept nor be confirmed; the real platform sends none.
        let numbered: Vec<(i64, Value)> =
            updates.into_iter().filter_map(|update| Some((update_id(&update)?, update))).collect();
        let Some(position) = numbered.last().map(|(id, _)| *id) else { return Ok(()) };
        self.health.received();
        let events = numbered.into_iter().filter_map(|(id, update)| decoder.decode(id, update)).collect();
        inbound.accept(InboundBatch { stream: stream.clone(), events, position: Some(position) }).await
    }
}

#[async_trait]
impl Channel for TelegramChannel {
    fn id(&self) -> ChannelId {
        "telegram".into()
    }

    fn display_name(&self) -> &'static str {
        "Telegram"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            message_limit: telegram::LIMIT,
            send_pace: Duration::from_secs(1),
            send_burst: NonZeroU32::MIN,
            group_per_minute: NonZeroU32::new(20),
            bot_per_second: NonZeroU32::new(30).unwrap_or(NonZeroU32::MIN),
            edit_pace: Duration::from_millis(1500),
            group_edit_pace: Duration::from_secs(3),
            typing_every: Some(Duration::from_secs(4)),
            max_file: 50 * 1024 * 1024,
        }
    }

    fn compose(&self, markdown: &str) -> Vec<Body> {
        telegram::compose(markdown)
    }

    async fn start_durable(
        &self,
        inbound: Arc<dyn InboundSink>,
        cancel: CancellationToken,
    ) -> Result<(), ChannelError> {
        let receive = async {
            let me = self.api.get_me().await?;
            self.health.identified(me.identity());
            let stream = StreamId { channel: self.id(), account: me.id.to_string(), name: "updates".to_owned() };
            let decoder = Decoder::new(&me, self.require_mention);
            // The first poll does not wait, so that what stands in its way is known at once.
            let mut wait = Duration::ZERO;
            loop {
                self.poll(&*inbound, &stream, &decoder, wait).await?;
                wait = LONG_POLL;
            }
        };
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            outcome = receive => outcome,
        }
    }

    async fn send_with_receipt(&self, reply: OutboundReply) -> Result<DeliveryReceipt, ChannelError> {
        let OutboundReply { address, body, .. } = reply;
        let sent = self.api.send_message(&address.chat, address.thread.as_deref(), body).await?;
        Ok(DeliveryReceipt { message_id: sent.message_id.to_string(), thread_id: address.thread })
    }

    async fn test(&self) -> Result<ChannelTestResult, ChannelError> {
        let me: Me = self.api.get_me().await?;
        let groups = match me.can_read_all_group_messages {
            Some(true) => "reads all group messages",
            Some(false) => "in groups sees only commands, mentions and replies (privacy mode of BotFather)",
            None => "privacy mode unknown",
        };
        let details = format!("bot id {} at {}; {groups}", me.id, self.api.host());
        Ok(ChannelTestResult { channel: self.id(), identity: me.identity(), details })
    }

    fn health(&self) -> ChannelHealth {
        self.health.get()
    }

    fn report_failure(&self, error: &ChannelError) {
        self.health.failed(error);
    }
}
