//! From the outbox to the chats.
//!
//! * A row is `sending`, durably, before its request. What is certainly not sent is tried again until it is a day old; what
//!   may have been sent is looked for, or sent once more at most, then parked as `unknown`.
//! * One chat waits for nothing but its own messages, which stay in order.

mod attempt;
#[cfg(test)]
mod edits;
#[cfg(test)]
mod outage;
mod pace;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use self::{
    attempt::Outcome,
    pace::{Limit, Pace},
};
use crate::{
    Channel, ChannelError, GatewayStore, StoreError,
    actors::{Actors, Worker},
    backoff::{Backoff, nth_wait},
    clock::{millis, now_ms},
    store::{NewPart, Part},
    tally::Tally,
};

/// Messages that could not be sent for this long are given up.
const TOO_OLD: Duration = Duration::from_secs(24 * 3600);
/// A sign on a message says something for this long.
const SIGN_TOO_OLD: Duration = Duration::from_secs(60);
/// Signs give way to the messages that they would be sent together with.
const SIGNS_WAIT: Duration = Duration::from_millis(250);
/// Attempts of which it is not known whether they made a message.
const MOST_UNCERTAIN: u32 = 10;
/// The same where nothing can be edited or found: a file on Telegram is sent twice at most.
const MOST_COPIES: u32 = 2;
/// Between attempts at the same message.
const WAITS: Waits = Waits { first: Duration::from_secs(1), longest: Duration::from_secs(300) };

/// The first wait between two attempts, and what it grows to.
#[derive(Debug, Clone, Copy)]
struct Waits {
    first: Duration,
    longest: Duration,
}

/// What keeps a message from being sent now.
#[derive(Debug)]
enum Obstacle {
    NoAdapter,
    NotDue,
    TooLate(&'static str),
    Pace(Limit),
}

/// The sender's tasks, by lane.
pub(crate) type Deliveries = Actors<Sender>;

/// Sends the messages of one lane after the other.
#[derive(Debug)]
pub(crate) struct Sender {
    store: GatewayStore,
    channels: HashMap<String, Arc<dyn Channel>>,
    pace: Arc<Pace>,
    waits: Waits,
    /// Changes with every message that reached an end.
    settled: watch::Sender<u64>,
    /// Changes when a prompt need not wait for its texts any more.
    released: watch::Sender<u64>,
    draining: CancellationToken,
    /// What happened; every part of the gateway reaches it here.
    pub(crate) tally: Tally,
}

impl Sender {
    pub(crate) fn new(store: GatewayStore, channels: &[Arc<dyn Channel>], draining: CancellationToken) -> Self {
        let pace = Arc::new(Pace::new(channels));
        let channels = channels.iter().map(|channel| (channel.id().to_string(), Arc::clone(channel))).collect();
        Self {
            store,
            channels,
            pace,
            waits: WAITS,
            settled: watch::Sender::new(0),
            released: watch::Sender::new(0),
            draining,
            tally: Tally::default(),
        }
    }

    /// Notified with every message that reached an end.
    pub(crate) fn settled(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }

    /// Notified when a prompt need not wait for its texts any more.
    pub(crate) fn released(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    pub(crate) fn channel(&self, id: &str) -> Option<&Arc<dyn Channel>> {
        self.channels.get(id)
    }

    /// False when nothing is left that can be sent now.
    async fn send_next(&self, lane: &str) -> Result<bool, StoreError> {
        let mut paced = None;
        loop {
            let pace = Arc::clone(&self.pace);
            let obstacle = move |part: &Part| obstacle(part, &pace, paced);
            let Some((part, obstacle)) = self.store.next_part(lane, obstacle).await? else { return Ok(false) };
            match obstacle {
                None => return self.deliver(&part).await,
                // The message waits in the store for a start that has its adapter.
                Some(Obstacle::NoAdapter) => return Ok(false),
                Some(Obstacle::NotDue) => {
                    if !self.wait_until(part.next_at).await {
                        return Ok(false);
                    }
                }
                Some(Obstacle::TooLate(reason)) => {
                    self.store.failed(part.id, reason.to_owned(), Vec::new()).await?;
                    self.tally.attempted(&part.address.channel, "given_up");
                    self.settle();
                    return Ok(true);
                }
                Some(Obstacle::Pace(limit)) => tokio::select! {
                    () = self.pace.wait(&part.address, limit) => paced = Some(part.id),
                    () = self.draining.cancelled() => return Ok(false),
                },
            }
        }
    }

    /// An attempt at a message that is noted as `sending`. False when its lane has nothing else to send.
    async fn deliver(&self, part: &Part) -> Result<bool, StoreError> {
        let Some(channel) = self.channel(part.address.channel.as_str()) else { return Ok(false) };
        let outcome = self.attempt(&**channel, part).await;
        self.count(part, &outcome);
        // The outcome must not be lost to a store that fails for a moment: the message would be sent again.
        let mut backoff = self.waits.backoff();
        let more = loop {
            match self.record(&**channel, part, &outcome).await {
                Ok(more) => break more,
                Err(error) => {
                    tracing::error!(outbox_id = part.id, %error, "the outcome of a sent message could not be stored yet");
                    sleep(backoff.next()).await;
                }
            }
        };
        self.settle();
        Ok(more)
    }

    /// False when the lane has nothing else to send.
    async fn record(&self, channel: &dyn Channel, part: &Part, outcome: &Outcome) -> Result<bool, StoreError> {
        let error = match outcome {
            Outcome::Sent(message_id) => {
                let after = self.store.sent(part.id, message_id.clone()).await?;
                self.release(after.released);
                return Ok(after.more);
            }
            Outcome::SentIn(message_id, chat) => {
                let after = self.store.sent_in(part.id, message_id.clone(), chat.clone()).await?;
                self.release(after.released);
                return Ok(after.more);
            }
            Outcome::Stubbed(message_id) => {
                return self.store.stubbed(part.id, message_id.clone()).await.map(|()| true);
            }
            Outcome::Instead(content) => return self.store.replace_content(part.id, content).await.map(|()| true),
            Outcome::Failed(error) => error,
        };
        tracing::warn!(outbox_id = part.id, chat = %part.address.chat_key(), %error, "a message was not sent");
        let reason = error.to_string();
        match error {
            ChannelError::Rejected { .. } | ChannelError::Setup { .. } | ChannelError::MissingScope { .. } => {
                self.store.failed(part.id, reason, attempt::as_texts(channel, part)).await
            }
            ChannelError::Uncertain { .. } if !part.content.is_idempotent() => {
                let at = self.waits.next_at(error, part.uncertain);
                let most = if attempt::can_be_found(channel, part) { MOST_UNCERTAIN } else { MOST_COPIES };
                self.store.perhaps_sent(part.id, reason, at, most).await.map(|released| self.release(released))
            }
            _ => self.store.not_sent(part.id, reason, self.waits.next_at(error, part.attempts)).await,
        }
        .map(|()| true)
    }

    fn count(&self, part: &Part, outcome: &Outcome) {
        let channel = &part.address.channel;
        if let Outcome::Failed(ChannelError::RateLimited { retry_after }) = outcome {
            self.tally.rate_limited(channel, *retry_after);
        }
        if let Some(result) = outcome.result(part) {
            self.tally.attempted(channel, result);
        }
    }

    /// False when the gateway stops meanwhile; the message stays queued.
    async fn wait_until(&self, at: i64) -> bool {
        let wait = Duration::from_millis(u64::try_from(at - now_ms()).unwrap_or(0));
        if wait.is_zero() {
            return true;
        }
        tokio::select! {
            () = sleep(wait) => true,
            () = self.draining.cancelled() => false,
        }
    }

    /// Lets prompts run that need not wait any more.
    pub(crate) fn release(&self, released: bool) {
        if released {
            self.released.send_modify(|count| *count += 1);
        }
    }

    fn settle(&self) {
        self.settled.send_modify(|count| *count += 1);
    }
}

impl Deliveries {
    /// Sends what was queued with these parts.
    pub(crate) fn wake_for(self: &Arc<Self>, parts: &[NewPart]) {
        for part in parts {
            self.wake(&part.lane());
        }
    }
}

#[async_trait]
impl Worker for Sender {
    async fn work(&self, lane: &str) {
        let mut backoff = self.waits.backoff();
        if NewPart::is_lane_of_signs(lane) {
            sleep(SIGNS_WAIT).await;
        }
        loop {
            match self.send_next(lane).await {
                Ok(true) => backoff.reset(),
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(lane, %error, "the outbox could not be read or written");
                    sleep(backoff.next()).await;
                }
            }
        }
    }
}

/// Why a message is not sent at once; `paced` is the one whose turn was waited for.
fn obstacle(part: &Part, pace: &Pace, paced: Option<i64>) -> Option<Obstacle> {
    if !pace.knows(&part.address) {
        return Some(Obstacle::NoAdapter);
    }
    if part.next_at > now_ms() {
        return Some(Obstacle::NotDue);
    }
    if let Some(reason) = too_late(part) {
        return Some(Obstacle::TooLate(reason));
    }
    if part.content.is_idempotent() || paced == Some(part.id) {
        return None;
    }
    pace.take(&part.address).err().map(Obstacle::Pace)
}

fn too_late(part: &Part) -> Option<&'static str> {
    let age = now_ms() - part.created_at;
    if part.content.is_sign() {
        return (age > millis(SIGN_TOO_OLD)).then_some("too late to say anything");
    }
    let tried_before = part.attempts + part.uncertain > 0;
    (tried_before && age > millis(TOO_OLD)).then_some("could not be sent for a day")
}

impl Waits {
    fn backoff(self) -> Backoff {
        Backoff::new(self.first, self.longest)
    }

    fn next_at(self, error: &ChannelError, attempt: u32) -> i64 {
        let wait = match error {
            ChannelError::RateLimited { retry_after } => *retry_after,
            _ => nth_wait(attempt, self.first, self.longest),
        };
        now_ms() + millis(wait)
    }
}
