//! Receive → decide → persist → acknowledge: the sink of all adapters.
//!
//! Rows and watermark of a batch are one commit. A refused message moves the watermark only: its text is neither kept
//! nor logged.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::{
    Address, BusyPolicy, ChannelError, ChannelId, GatewayStore, InboundBatch, InboundEvent, InboundMessage,
    InboundSink, Press, PressAnswer, RouterConfig, StoreError, StreamId,
    access::{Claim, pair_code},
    approvals::Approvals,
    clock::{millis, now_ms},
    commands::{Command, Commands},
    dispatcher::Dispatcher,
    router::resolve_routing_key,
    store::{
        Admission, Arrival, Gate, IntakeBatch, Knock, Migration, NewInbox, NewPress, Payload, Pressed, Refusal,
        Resolution,
    },
    targeting::located,
};

/// Telegram may number updates anew, and lower, after a week without any.
const OLDEST_POSITION: Duration = Duration::from_secs(6 * 24 * 3600);

/// Platforms forget a press after some seconds.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);

/// Decides and stores what adapters receive.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) store: GatewayStore,
    pub(crate) gate: Arc<Gate>,
    pub(crate) router: RouterConfig,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) approvals: Arc<Approvals>,
    /// Answers to presses on their way.
    pub(crate) answers: TaskTracker,
}

#[async_trait]
impl InboundSink for Intake {
    async fn accept(&self, batch: InboundBatch) -> Result<(), ChannelError> {
        let began = Instant::now();
        let InboundBatch { stream, events, position } = batch;
        let mut arrivals = Vec::new();
        for event in events {
            arrivals.extend(self.arrival(event, &stream).await.map_err(|error| not_stored(&error))?);
        }
        let any = !arrivals.is_empty();
        let batch = IntakeBatch { stream, position, arrivals };
        let accepted =
            self.store.accept(batch, Arc::clone(&self.gate), now_ms()).await.map_err(|error| not_stored(&error))?;
        if any {
            self.dispatcher.worker().deliveries.worker().tally.accepted(began.elapsed());
        }
        for stranger in &accepted.to_tell {
            tell(stranger);
        }
        for chat in &accepted.chats {
            self.dispatcher.worker().deliveries.wake(chat);
        }
        for approval in &accepted.decided {
            self.approvals.decided(approval);
        }
        for (press, pressed) in accepted.presses {
            self.answer(press, &pressed).await;
        }
        for admission in accepted.admissions {
            self.ask_admins(admission);
        }
        for key in accepted.commands {
            self.commands.wake(&key);
        }
        for key in accepted.routing_keys {
            self.dispatcher.wake(&key);
            // It may be meant to interrupt or steer the run before it.
            if self.dispatcher.worker().busy_policy != BusyPolicy::Queue {
                self.commands.wake(&key);
            }
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
        Ok(known.is_some() || self.store.opened_thread(address).await.map_err(|error| not_stored(&error))?)
    }
}

impl Intake {
    /// None for what has no effect.
    async fn arrival(&self, event: InboundEvent, stream: &StreamId) -> Result<Option<Arrival>, StoreError> {
        Ok(Some(match event {
            InboundEvent::Message(message) => Arrival::Message(Box::new(self.knock(*message, stream).await?)),
            InboundEvent::Migrated { from, to } => Arrival::Migrated(Box::new(self.migration(stream, from, to))),
            InboundEvent::Edited(message) => Arrival::Edited(Box::new(self.knock(*message, stream).await?)),
            InboundEvent::Press(press) => Arrival::Press(Box::new(self.press(*press, stream)?)),
            InboundEvent::Undecodable { event_key, order_key, raw } => Arrival::Dead(Box::new(NewInbox {
                channel: stream.channel.to_string(),
                account: stream.account.clone(),
                event_key,
                kind: "message",
                state: "dead",
                routing_key: String::new(),
                address: None,
                sender: None,
                order_key,
                message_id: None,
                payload: self.dispatcher.worker().redactor.redact(&raw).into_owned(),
            })),
        }))
    }

    async fn knock(&self, message: InboundMessage, stream: &StreamId) -> Result<Knock, StoreError> {
        let claim = Claim::of(&message);
        let pair_code = pair_code(&message.text).map(str::to_owned);
        let answers = message.reply_to.iter().chain(&message.address.thread).cloned().collect();
        let InboundMessage { address, sender, event_key, order_key, message_id, text, attachments, metadata, .. } =
            message;
        let is_command = Command::parse(&text).is_some();
        let payload = Payload { text, metadata, attachments, ..Payload::default() };
        let payload = self.dispatcher.worker().kept.hide(payload, &address, now_ms()).await;
        let row = NewInbox {
            channel: stream.channel.to_string(),
            account: stream.account.clone(),
            event_key,
            kind: if is_command { "command" } else { "message" },
            state: "accepted",
            routing_key: resolve_routing_key(&self.router, &address),
            address: Some(address),
            sender: Some(sender),
            order_key,
            message_id: Some(message_id),
            payload: serde_json::to_string(&payload)?,
        };
        Ok(Knock { claim, row, pair_code, answers })
    }

    fn press(&self, press: Press, stream: &StreamId) -> Result<NewPress, StoreError> {
        let payload = Payload { text: press.payload.clone(), ..Payload::default() };
        let row = NewInbox {
            channel: stream.channel.to_string(),
            account: stream.account.clone(),
            event_key: press.event_key.clone(),
            kind: "press",
            state: "done",
            routing_key: resolve_routing_key(&self.router, &press.address),
            address: Some(press.address.clone()),
            sender: Some(press.sender.clone()),
            order_key: press.order_key,
            message_id: None,
            payload: serde_json::to_string(&payload)?,
        };
        Ok(NewPress { press, row })
    }

    /// What was resolved takes its course, and the presser hears of it, as well as that goes.
    async fn answer(&self, press: Press, pressed: &Pressed) {
        let answer = match pressed {
            Pressed::Approval(resolution) => self.follow_up(&press, resolution).await,
            Pressed::Admission(Ok(chats)) => {
                chats.iter().for_each(|chat| self.dispatcher.worker().deliveries.wake(chat));
                PressAnswer::Taken
            }
            Pressed::Admission(Err(refused)) => PressAnswer::Refused(refused.to_string()),
        };
        let deliveries = &self.dispatcher.worker().deliveries;
        let Some(channel) = deliveries.worker().channel(press.address.channel.as_str()).cloned() else { return };
        self.answers.spawn(async move {
            match timeout(ANSWER_PATIENCE, channel.answer_press(&press, answer)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a press could not be answered"),
                Err(_) => tracing::debug!("a press could not be answered in time"),
            }
        });
    }

    async fn follow_up(&self, press: &Press, resolution: &Resolution) -> PressAnswer {
        if let Err(error) = self.approvals.follow_up(resolution, &press.address, &press.event_key).await {
            tracing::warn!(%error, "the full text of an approval could not be queued");
        }
        match resolution {
            Resolution::Refused(refused) => PressAnswer::Refused(refused.to_string()),
            Resolution::Decided(_) | Resolution::Show(_) => PressAnswer::Taken,
        }
    }

    /// Beside the stream of events: where a platform has to be asked for the chats of people, that may take a while. What is
    /// lost by a crash meanwhile is a convenience; the code goes on to count.
    fn ask_admins(&self, admission: Admission) {
        let (store, deliveries) = (self.store.clone(), Arc::clone(&self.dispatcher.worker().deliveries));
        let Some(channel) = deliveries.worker().channel(admission.channel.as_str()).cloned() else { return };
        self.answers.spawn(async move {
            let mut chats = Vec::new();
            for admin in &admission.admins {
                let direct = Some(admin.as_str().into());
                let named = Address { channel: channel.id(), chat: admin.clone(), thread: None, direct };
                chats.push((admin.clone(), located(&*channel, named).await));
            }
            let parts = admission.parts(chats);
            match store.ask_admins(admission, parts.clone(), now_ms()).await {
                Ok(true) => deliveries.wake_for(&parts),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the admins could not be asked about a stranger"),
            }
        });
    }

    fn migration(&self, stream: &StreamId, from: String, to: String) -> Migration {
        let group = |chat: String| Address { channel: stream.channel.clone(), chat, thread: None, direct: None };
        let (from, to) = (group(from), group(to));
        tracing::info!(channel = %stream.channel, from = from.chat, to = to.chat, "a group has a new id; what the file says of the old one should be changed");
        Migration {
            listed: self.gate.access.lists_chat(stream.channel.as_str(), &from.chat),
            old_key: resolve_routing_key(&self.router, &from),
            new_key: resolve_routing_key(&self.router, &to),
            from,
            to,
        }
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
