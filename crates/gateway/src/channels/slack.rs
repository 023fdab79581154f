//! Slack, by Socket Mode.
//!
//! * An envelope is acknowledged after the sink has accepted it, and never later than Slack waits for that.
//! * What was said while no socket was open is read from the history.
//! * A message carries its dedupe key, so that a copy whose receipt was lost is found before another is sent.
//! * Only the sockets are the library's; calls of the Web API are raw, because headers and files matter.

mod api;
mod catch_up;
mod check;
mod decode;
mod files;
mod people;
mod places;
mod receive;
mod send;
mod socket;
mod text;
mod thread;
mod ts;

use std::{
    num::NonZeroU32,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::{api::Api, check::of_bot_token, decode::Bot, people::People, places::Places, receive::Receiver};
use super::health::Health;
use crate::{
    Address, ApprovalButton, Body, Capabilities, Channel, ChannelError, ChannelHealth, ChannelId, ChannelTestResult,
    DeliveryReceipt, InboundSink, MediaAttachment, MessageRef, OutboundFile, OutboundReply, Overheard, Press,
    PressAnswer, Reaction, SlackConfig, render,
};

/// A Slack app with its bot.
#[derive(Debug)]
pub struct SlackChannel {
    api: Api,
    require_mention: bool,
    allow_external: bool,
    catch_up: Duration,
    health: Arc<Health>,
    people: Arc<People>,
    places: Places,
    /// The bot as a user, once known.
    own: OnceLock<String>,
}

impl SlackChannel {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The base URL cannot be used.
    pub fn new(config: &SlackConfig) -> Result<Self, ChannelError> {
        Ok(Self {
            api: Api::new(config)?,
            require_mention: config.settings.require_mention,
            allow_external: config.allow_external,
            catch_up: config.settings.catch_up,
            health: Arc::new(Health::new()),
            people: Arc::default(),
            places: Places::default(),
            own: OnceLock::new(),
        })
    }

    async fn receive(&self, sink: Arc<dyn InboundSink>) -> Result<(), ChannelError> {
        let me = self.api.auth_test().await.map_err(of_bot_token)?.body;
        self.api.check_app_token().await?;
        let text = |key: &str| me[key].as_str().map(str::to_owned);
        let (Some(team), Some(user)) = (text("team_id"), text("user_id")) else {
            let reason = "the bot token belongs to no bot of a workspace".to_owned();
            return Err(ChannelError::Setup { reason });
        };
        self.health.identified(format!("@{}", text("user").as_deref().unwrap_or(&user)));
        let _ = self.own.set(user.clone());
        let bot = Bot {
            team,
            enterprise: text("enterprise_id"),
            user,
            require_mention: self.require_mention,
            allow_external: self.allow_external,
        };
        let (people, health) = (Arc::clone(&self.people), Arc::clone(&self.health));
        socket::run(Arc::new(Receiver::new(self.api.clone(), bot, sink, people, health, self.catch_up))).await
    }

    fn is_own(&self, message: &Value) -> bool {
        self.own.get().is_none_or(|own| message["user"] == own.as_str())
    }
}

#[async_trait]
impl Channel for SlackChannel {
    fn id(&self) -> ChannelId {
        "slack".into()
    }

    fn display_name(&self) -> &'static str {
        "Slack"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            message_limit: render::slack::LIMIT,
            send_pace: Duration::from_secs(1),
            // "Short bursts above this limit are allowed", says the reference; a few go well.
            send_burst: NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN),
            group_per_minute: None,
            bot_per_second: NonZeroU32::new(20).unwrap_or(NonZeroU32::MIN),
            edit_pace: Duration::from_millis(1500),
            group_edit_pace: Duration::from_millis(1500),
            typing_every: None,
            max_file: 1024 * 1024 * 1024,
        }
    }

    fn compose(&self, markdown: &str) -> Vec<Body> {
        render::slack::compose(markdown)
    }

    async fn start_durable(
        &self,
        inbound: Arc<dyn InboundSink>,
        cancel: CancellationToken,
    ) -> Result<(), ChannelError> {
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            outcome = self.receive(inbound) => outcome,
        }
    }

    async fn locate(&self, address: &Address) -> Result<Address, ChannelError> {
        self.find_target(address).await
    }

    async fn send_with_receipt(&self, reply: OutboundReply) -> Result<DeliveryReceipt, ChannelError> {
        self.post(&reply, &[]).await
    }

    async fn send_with_buttons(
        &self,
        reply: OutboundReply,
        buttons: Vec<ApprovalButton>,
    ) -> Result<DeliveryReceipt, ChannelError> {
        self.post(&reply, &buttons).await
    }

    async fn edit_message(
        &self,
        message: &MessageRef,
        body: &Body,
        buttons: &[ApprovalButton],
    ) -> Result<(), ChannelError> {
        self.update(message, body, buttons).await
    }

    async fn send_file(&self, address: &Address, file: OutboundFile) -> Result<DeliveryReceipt, ChannelError> {
        self.upload(address, file).await
    }

    async fn reconcile(&self, reply: &OutboundReply) -> Result<Option<DeliveryReceipt>, ChannelError> {
        self.find(reply).await
    }

    fn finds_copies(&self) -> bool {
        true
    }

    async fn react(
        &self,
        message: &MessageRef,
        reaction: Reaction,
        instead_of: Option<Reaction>,
    ) -> Result<(), ChannelError> {
        self.set_reaction(message, reaction, instead_of).await
    }

    async fn answer_press(&self, press: &Press, answer: PressAnswer) -> Result<(), ChannelError> {
        match answer {
            // The envelope was acknowledged when the press was stored.
            PressAnswer::Taken => Ok(()),
            PressAnswer::Refused(why) => self.whisper(&press.address, press.sender.id.as_str(), &why).await,
        }
    }

    async fn said_before(
        &self,
        address: &Address,
        message_id: &str,
        most: usize,
    ) -> Result<Vec<Overheard>, ChannelError> {
        self.said_before(address, message_id, most).await
    }

    async fn fetch(&self, attachment: &MediaAttachment, limit: u64) -> Result<Vec<u8>, ChannelError> {
        self.api.download(&attachment.id, limit).await
    }

    async fn test(&self) -> Result<ChannelTestResult, ChannelError> {
        self.check().await
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
