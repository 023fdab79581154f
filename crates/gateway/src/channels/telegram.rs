//! Telegram, by long polling.
//!
//! * The offset of a poll comes from the store, after the commit of what was received before it: what was not stored is
//!   delivered again.
//! * A text is sent as it is, with entities instead of a parse mode: nothing in it can be markup.
//! * Only `getMe`, `getUpdates` and `sendMessage` are needed; a server without the others does less and stays connected.
//!   Of answers only what is needed is decoded.

mod album;
mod api;
mod decode;
mod failure;
mod files;
mod menu;
mod methods;
mod send;
mod wire;

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::{
    api::{Api, Me},
    decode::{Decoder, update_id},
    methods::{DeleteWebhook, GetWebhookInfo},
};
use super::health::Health;
use crate::{
    Address, ApprovalButton, Body, Capabilities, Channel, ChannelError, ChannelHealth, ChannelId, ChannelTestResult,
    DeliveryReceipt, InboundBatch, InboundEvent, InboundSink, MediaAttachment, MessageRef, OutboundFile, OutboundReply,
    Press, PressAnswer, Reaction, StreamId, TelegramConfig, render::telegram,
};

/// How long the platform holds a poll that has nothing to deliver.
const LONG_POLL: Duration = Duration::from_secs(30);
/// The pictures of an album follow each other at once.
const ALBUM_WAIT: Duration = Duration::from_millis(500);

/// A Telegram bot.
#[derive(Debug)]
pub struct TelegramChannel {
    api: Api,
    require_mention: bool,
    /// Files are read from this machine.
    local_mode: bool,
    health: Health,
    /// The menu of commands was set.
    menu_set: AtomicBool,
    /// Groups found to have another id while something was sent to them; told with the next poll.
    moved: Mutex<Vec<InboundEvent>>,
}

impl TelegramChannel {
    /// Connects to nothing yet.
    pub fn new(config: &TelegramConfig) -> Result<Self, ChannelError> {
        let api = Api::new(config.token.expose(), &config.settings.api_base_url)?;
        Ok(Self {
            api,
            require_mention: config.settings.require_mention,
            local_mode: config.local_mode,
            health: Health::new(),
            menu_set: AtomicBool::new(false),
            moved: Mutex::default(),
        })
    }

    async fn receive(&self, inbound: &dyn InboundSink) -> Result<(), ChannelError> {
        let me = self.api.get_me().await?;
        self.health.identified(me.identity());
        let stream = StreamId { channel: self.id(), account: me.id.to_string(), name: "updates".to_owned() };
        let decoder = Decoder::new(&me, self.require_mention);
        // The first poll does not wait, so that what stands in its way is known at once.
        let mut wait = Duration::ZERO;
        let poll = async {
            loop {
                self.tell_moved(inbound, &stream).await?;
                self.poll(inbound, &stream, &decoder, wait).await?;
                wait = LONG_POLL;
            }
        };
        tokio::select! {
            outcome = poll => outcome,
            never = self.set_menu() => match never {},
        }
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
        let updates = self.updates(offset, wait).await?;
        self.health.connected();
        // An entry without a number can neither be kept nor be confirmed; the real platform sends none.
        let numbered: Vec<(i64, Value)> =
            updates.into_iter().filter_map(|update| Some((update_id(&update)?, update))).collect();
        let Some(position) = numbered.last().map(|(id, _)| *id) else { return Ok(()) };
        self.health.received();
        let whole = album::gathered(numbered).into_iter();
        let events = whole.filter_map(|(id, update)| decoder.decode(id, update)).collect();
        inbound.accept(InboundBatch { stream: stream.clone(), events, position: Some(position) }).await
    }

    /// From `offset` on. What may be the beginning of an album is asked for again until it has come to its end; none of it is
    /// confirmed meanwhile.
    async fn updates(&self, offset: Option<i64>, wait: Duration) -> Result<Vec<Value>, ChannelError> {
        let mut updates = self.api.get_updates(offset, wait).await?;
        while album::may_grow(&updates) {
            sleep(ALBUM_WAIT).await;
            let more = self.api.get_updates(offset, Duration::ZERO).await?;
            let grew = more.len() > updates.len();
            updates = more;
            if !grew {
                break;
            }
        }
        Ok(updates)
    }

    async fn tell_moved(&self, inbound: &dyn InboundSink, stream: &StreamId) -> Result<(), ChannelError> {
        let events = std::mem::take(&mut *self.moved.lock().unwrap_or_else(PoisonError::into_inner));
        if events.is_empty() {
            return Ok(());
        }
        inbound.accept(InboundBatch { stream: stream.clone(), events, position: None }).await
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
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            outcome = self.receive(&*inbound) => outcome,
        }
    }

    async fn locate(&self, address: &Address) -> Result<Address, ChannelError> {
        self.look_up(address).await
    }

    async fn send_with_receipt(&self, reply: OutboundReply) -> Result<DeliveryReceipt, ChannelError> {
        self.send_text(reply, &[]).await
    }

    async fn send_with_buttons(
        &self,
        reply: OutboundReply,
        buttons: Vec<ApprovalButton>,
    ) -> Result<DeliveryReceipt, ChannelError> {
        self.send_text(reply, &buttons).await
    }

    async fn edit_message(
        &self,
        message: &MessageRef,
        body: &Body,
        buttons: &[ApprovalButton],
    ) -> Result<(), ChannelError> {
        self.edit(message, body, buttons).await
    }

    async fn send_file(&self, address: &Address, file: OutboundFile) -> Result<DeliveryReceipt, ChannelError> {
        self.upload(address, &file).await
    }

    async fn typing(&self, address: &Address) -> Result<(), ChannelError> {
        self.show_typing(address).await
    }

    async fn react(
        &self,
        message: &MessageRef,
        reaction: Reaction,
        _instead_of: Option<Reaction>,
    ) -> Result<(), ChannelError> {
        // A bot has one reaction to a message: the new one takes the place of the old one.
        self.set_reaction(message, reaction).await
    }

    async fn answer_press(&self, press: &Press, answer: PressAnswer) -> Result<(), ChannelError> {
        self.answer_query(press, answer).await
    }

    async fn fetch(&self, attachment: &MediaAttachment, limit: u64) -> Result<Vec<u8>, ChannelError> {
        self.download(&attachment.id, limit).await
    }

    async fn test(&self) -> Result<ChannelTestResult, ChannelError> {
        let me: Me = self.api.get_me().await?;
        let groups = match me.can_read_all_group_messages {
            Some(true) => "reads all group messages",
            Some(false) => "in groups sees only commands, mentions and replies (privacy mode of BotFather)",
            None => "privacy mode unknown",
        };
        // Servers need not have this method.
        let webhook = match self.api.try_call(GetWebhookInfo {}).await {
            Ok(webhook) if !webhook.url.is_empty() => {
                "; a webhook is set, NOTHING is received: `stakpak channel test telegram --delete-webhook` removes it"
            }
            _ => "",
        };
        let details = format!("bot id {} at {}; {groups}{webhook}", me.id, self.api.host());
        Ok(ChannelTestResult { channel: self.id(), identity: me.identity(), details })
    }

    async fn delete_webhook(&self) -> Result<(), ChannelError> {
        Ok(self.api.call(DeleteWebhook {}).await.map(drop)?)
    }

    fn health(&self) -> ChannelHealth {
        self.health.get()
    }

    fn reconnects(&self) -> u64 {
        self.health.reconnects()
    }

    fn report_failure(&self, error: &ChannelError) {
        self.health.failed(error);
    }
}
