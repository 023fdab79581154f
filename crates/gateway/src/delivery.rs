//! From the outbox to the chats.
//!
//! * A row is `sending`, durably, before its request. What is certainly not sent is tried again; what may have been sent
//!   is sent once more at most, and only to a platform that answers, then parked as `unknown`.
//! * One chat waits for nothing but its own texts, which stay in order.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Channel, ChannelError, DeliveryReceipt, GatewayStore, OutboundReply, StoreError,
    actors::{Actors, Worker},
    backoff::{Backoff, nth_wait},
    clock::{millis, now_ms},
    store::Part,
};

/// Texts that could not be sent for this long are given up.
const TOO_OLD: Duration = Duration::from_secs(24 * 3600);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The sender's tasks, by chat key.
pub(crate) type Deliveries = Actors<Sender>;

/// Sends the texts of one chat after the other.
#[derive(Debug)]
pub(crate) struct Sender {
    store: GatewayStore,
    channels: HashMap<String, Arc<dyn Channel>>,
    /// Changes with every text that reached an end.
    settled: watch::Sender<u64>,
    draining: CancellationToken,
}

impl Sender {
    pub(crate) fn new(store: GatewayStore, channels: &[Arc<dyn Channel>], draining: CancellationToken) -> Self {
        let channels = channels.iter().map(|channel| (channel.id().to_string(), Arc::clone(channel))).collect();
        Self { store, channels, settled: watch::Sender::new(0), draining }
    }

    /// Notified with every text that reached an end.
    pub(crate) fn settled(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }

    pub(crate) fn channel(&self, id: &str) -> Option<&Arc<dyn Channel>> {
        self.channels.get(id)
    }

    /// False when nothing is left that can be sent now.
    async fn send_next(&self, chat_key: &str) -> Result<bool, StoreError> {
        let Some(part) = self.store.next_part(chat_key).await? else { return Ok(false) };
        // Without its adapter the text waits in the store for a start that has one.
        let Some(channel) = self.channels.get(part.address.channel.as_str()) else { return Ok(false) };
        if !self.wait_until(part.next_at).await {
            return Ok(false);
        }
        let tried_before = part.attempts + part.uncertain > 0;
        if tried_before && now_ms() - part.created_at > millis(TOO_OLD) {
            self.store.failed(part.id, "could not be sent for a day".to_owned()).await?;
            self.settle();
            return Ok(true);
        }
        // A second copy is risked only when the platform answers again.
        if part.uncertain > 0
            && let Err(error) = channel.test().await
        {
            self.store.not_sent(part.id, error.to_string(), next_at(&error, part.attempts)).await?;
            return Ok(true);
        }
        self.store.sending(part.id).await?;
        let reply = OutboundReply {
            address: part.address.clone(),
            body: part.body.clone(),
            reply_to: None,
            dedupe_key: part.idem_key.clone(),
        };
        let outcome = channel.send_with_receipt(reply).await;
        // The outcome must not be lost to a store that fails for a moment: the text would be sent again.
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while let Err(error) = self.record(&part, &outcome).await {
            tracing::error!(outbox_id = part.id, error = %error, "the outcome of a sent text could not be stored yet");
            sleep(backoff.next()).await;
        }
        self.settle();
        Ok(true)
    }

    async fn record(&self, part: &Part, outcome: &Result<DeliveryReceipt, ChannelError>) -> Result<(), StoreError> {
        let error = match outcome {
            Ok(receipt) => return self.store.sent(part.id, receipt.message_id.clone()).await,
            Err(error) => error,
        };
        tracing::warn!(outbox_id = part.id, chat = %part.address.chat_key(), error = %error, "a text was not sent");
        match error {
            ChannelError::Rejected { .. } | ChannelError::Setup { .. } => {
                self.store.failed(part.id, error.to_string()).await
            }
            ChannelError::Uncertain { .. } => {
                self.store.perhaps_sent(part.id, error.to_string(), next_at(error, part.uncertain)).await
            }
            _ => self.store.not_sent(part.id, error.to_string(), next_at(error, part.attempts)).await,
        }
    }

    /// False when the gateway stops meanwhile; the text stays queued.
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

    fn settle(&self) {
        self.settled.send_modify(|count| *count += 1);
    }
}

#[async_trait]
impl Worker for Sender {
    async fn work(&self, chat_key: &str) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            match self.send_next(chat_key).await {
                Ok(true) => backoff.reset(),
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(chat_key, error = %error, "the outbox could not be read or written");
                    sleep(backoff.next()).await;
                }
            }
        }
    }
}

fn next_at(error: &ChannelError, attempt: u32) -> i64 {
    let wait = match error {
        ChannelError::RateLimited { retry_after } => *retry_after,
        _ => nth_wait(attempt, FIRST_WAIT, LONGEST_WAIT),
    };
    now_ms() + millis(wait)
}
