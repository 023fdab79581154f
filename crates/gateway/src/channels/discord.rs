//! Discord, by its gateway and REST API.
//!
//! * Of serenity the routes, message builders, ids and intents are used. Its client is not: it hands each event to a task
//!   of its own, so that a watermark could pass a message that is not durable; it drops events it cannot decode; it ignores
//!   `resume_gateway_url`; and it falls back to the public address when the look-up of the gateway fails. The connection
//!   here is a socket ([`socket`]), a session over sockets ([`session`]), and an intake in order ([`intake`]).
//! * What was not accepted is read again by REST after the next start: the platform itself confirms nothing.
//! * Rate limits are obeyed by [`api`] and told to the caller, never waited out in silence.

mod api;
mod decode;
mod failure;
mod files;
mod intake;
mod outgoing;
mod places;
mod presses;
mod session;
mod socket;
mod targets;
mod threads;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use serenity::{http::Route, model::id::ChannelId as ChannelNumber};
use teloxide_reqwest::Method;
use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{
    api::{Api, Payload},
    decode::Decoder,
    failure::Failure,
    intake::Intake,
    outgoing::{Existing, Made},
    places::{Place, Places},
    session::Outlets,
    threads::Threads,
};
use super::health::Health;
use crate::{
    Address, ApprovalButton, Body, Capabilities, Channel, ChannelError, ChannelHealth, ChannelId, ChannelTestResult,
    DeliveryReceipt, DiscordConfig, InboundSink, MediaAttachment, MessageRef, OutboundFile, OutboundReply, Press,
    PressAnswer, Reaction, clock::now_ms, render,
};

/// Characters of one message.
const MESSAGE_LIMIT: usize = 2000;
/// Bytes of a file in a guild that pays for nothing.
const MAX_FILE: u64 = 10 * 1024 * 1024;
/// Events that wait to be stored. More than that at once: reading them again is the lesser evil.
const WAITING_EVENTS: usize = 4096;
const WAITING_PRESSES: usize = 256;

/// A Discord bot.
#[derive(Debug)]
pub struct DiscordChannel {
    api: Api,
    guilds: Vec<String>,
    require_mention: bool,
    catch_up: Duration,
    places: Places,
    threads: Threads,
    health: Health,
    /// Outlives a start, as the platform's patience does.
    last_identify: Mutex<Option<Instant>>,
}

impl DiscordChannel {
    /// Connects to nothing yet.
    pub fn new(config: &DiscordConfig) -> Result<Self, ChannelError> {
        Ok(Self {
            api: Api::new(&config.token, &config.settings.api_base_url)?,
            guilds: config.guilds.clone(),
            require_mention: config.settings.require_mention,
            catch_up: config.settings.catch_up,
            places: Places::new(),
            threads: Threads::new(config.auto_thread),
            health: Health::new(),
            last_identify: Mutex::new(None),
        })
    }

    fn channel_id(&self) -> ChannelId {
        "discord".into()
    }

    /// Whether a place is a direct chat or of a guild that is listed, if any is.
    fn admits(&self, place: &Place) -> bool {
        let listed = |guild: u64| self.guilds.is_empty() || self.guilds.contains(&guild.to_string());
        place.guild.is_none_or(listed)
    }

    async fn receive(&self, inbound: &dyn InboundSink) -> Result<(), ChannelError> {
        let me = self.api.me().await?;
        self.health.identified(me.username.clone());
        let (decoder, account) = (Decoder::new(me.id.get()), me.id.to_string());
        let (events, received) = mpsc::channel(WAITING_EVENTS);
        let (presses, pressed) = mpsc::channel(WAITING_PRESSES);
        let outlets = Outlets { events, presses };
        let mut intake = Intake::new(self, inbound, &decoder, &account);
        let ended = tokio::select! {
            ended = session::hold(self, &outlets) => ended,
            ended = intake.run(received) => ended,
            ended = presses::run(self, inbound, &decoder, &account, pressed) => ended,
        };
        match ended {
            Err(error) => Err(error),
        }
    }

    async fn post(&self, reply: &OutboundReply, buttons: &[ApprovalButton]) -> Result<DeliveryReceipt, ChannelError> {
        let address = &reply.address;
        let made = match self.create(outgoing::target(address)?, reply, buttons).await {
            Ok(made) => made,
            Err(failure) => self.create(self.open_thread(address, failure).await?, reply, buttons).await?,
        };
        Ok(DeliveryReceipt { message_id: made.id, thread_id: address.thread.clone(), chat: None })
    }

    async fn create(
        &self,
        channel_id: ChannelNumber,
        reply: &OutboundReply,
        buttons: &[ApprovalButton],
    ) -> Result<Made, Failure> {
        let body = Payload::Json(outgoing::message(reply, channel_id, buttons)?);
        let response = self.api.attempt(Method::POST, Route::ChannelMessages { channel_id }, "", body).await?;
        Ok(self.api.decode(response).await?)
    }

    async fn sign(&self, method: Method, message: &MessageRef, sign: Reaction) -> Result<(), ChannelError> {
        let (channel_id, message_id) = self.place_of_message(message)?;
        let reaction = match sign {
            Reaction::Seen => "👀",
            Reaction::Done => "✅",
            Reaction::Failed => "❌",
        };
        let route = Route::ChannelMessageReactionMe { channel_id, message_id, reaction };
        self.api.call(method, route, "", Payload::None).await.map(drop)
    }
}

#[async_trait]
impl Channel for DiscordChannel {
    fn id(&self) -> ChannelId {
        self.channel_id()
    }

    fn display_name(&self) -> &'static str {
        "Discord"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            message_limit: MESSAGE_LIMIT,
            send_pace: Duration::from_secs(1),
            send_burst: NonZeroU32::new(5).unwrap_or(NonZeroU32::MIN),
            group_per_minute: None,
            bot_per_second: NonZeroU32::new(40).unwrap_or(NonZeroU32::MIN),
            edit_pace: Duration::from_millis(1500),
            group_edit_pace: Duration::from_millis(1500),
            typing_every: Some(Duration::from_secs(8)),
            max_file: MAX_FILE,
        }
    }

    fn compose(&self, markdown: &str) -> Vec<Body> {
        render::discord::compose(markdown)
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
        let (channel_id, message_id) = self.place_of_message(message)?;
        let change = async |channel_id| {
            let body = Payload::Json(outgoing::edit(body, buttons)?);
            let route = Route::ChannelMessage { channel_id, message_id };
            self.api.attempt(Method::PATCH, route, "", body).await.map(drop)
        };
        match change(channel_id).await {
            Err(failure) => match self.without_thread(&message.address, &failure) {
                Some(channel_id) => Ok(change(channel_id).await?),
                None => Err(failure.into()),
            },
            Ok(()) => Ok(()),
        }
    }

    async fn send_file(&self, address: &Address, file: OutboundFile) -> Result<DeliveryReceipt, ChannelError> {
        let made = match files::send(&self.api, outgoing::target(address)?, file.clone()).await {
            Ok(made) => made,
            Err(failure) => files::send(&self.api, self.open_thread(address, failure).await?, file).await?,
        };
        Ok(DeliveryReceipt { message_id: made.id, thread_id: address.thread.clone(), chat: None })
    }

    /// A repeated nonce makes no second copy for some minutes; after that a look is needed.
    async fn reconcile(&self, reply: &OutboundReply) -> Result<Option<DeliveryReceipt>, ChannelError> {
        let bot = self.api.me().await?.id.to_string();
        let messages = match self.api.last_messages(outgoing::target(&reply.address)?).await {
            Ok(messages) => messages,
            Err(failure) => match self.without_thread(&reply.address, &failure) {
                Some(channel_id) => self.api.last_messages(channel_id).await?,
                None => return Err(failure.into()),
            },
        };
        let existing =
            messages.into_iter().rev().filter_map(|message| serde_json::from_value::<Existing>(message).ok());
        let copy = existing.into_iter().find(|message| message.is_copy_of(reply, &bot, now_ms()));
        Ok(copy.map(|message| message.receipt(&reply.address)))
    }

    fn finds_copies(&self) -> bool {
        true
    }

    async fn typing(&self, address: &Address) -> Result<(), ChannelError> {
        let channel_id = outgoing::target(address)?;
        match self.api.attempt(Method::POST, Route::ChannelTyping { channel_id }, "", Payload::None).await {
            Err(failure) => match self.without_thread(address, &failure) {
                // Opened by the first message, where people look until then.
                Some(channel_id) => {
                    self.api.call(Method::POST, Route::ChannelTyping { channel_id }, "", Payload::None).await.map(drop)
                }
                None => Err(failure.into()),
            },
            Ok(_) => Ok(()),
        }
    }

    async fn react(
        &self,
        message: &MessageRef,
        reaction: Reaction,
        instead_of: Option<Reaction>,
    ) -> Result<(), ChannelError> {
        self.sign(Method::PUT, message, reaction).await?;
        match instead_of.filter(|old| *old != reaction) {
            Some(old) => self.sign(Method::DELETE, message, old).await,
            None => Ok(()),
        }
    }

    async fn answer_press(&self, press: &Press, answer: PressAnswer) -> Result<(), ChannelError> {
        match answer {
            // The press was acknowledged when it was accepted.
            PressAnswer::Taken => Ok(()),
            PressAnswer::Refused(reason) => presses::refuse(self, press, &reason).await,
        }
    }

    async fn fetch(&self, attachment: &MediaAttachment, limit: u64) -> Result<Vec<u8>, ChannelError> {
        files::fetch(&self.api, attachment, limit).await
    }

    async fn test(&self) -> Result<ChannelTestResult, ChannelError> {
        let me = self.api.me().await?;
        let application = self.api.application().await?;
        let gateway = self.api.gateway().await?;
        let content = if application.reads_content() {
            "Message Content intent is on"
        } else {
            "Message Content intent is OFF: enable it in the developer portal, or nothing is received"
        };
        let left = gateway.session_start_limit.remaining;
        let details = format!(
            "bot id {} of application {} at {}; {content}; {left} session starts left today",
            me.id,
            application.id,
            self.api.host()
        );
        Ok(ChannelTestResult { channel: self.id(), identity: format!("@{}", me.username), details })
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
