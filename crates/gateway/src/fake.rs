//! A platform for unit tests: takes every message and treats edits as it is told.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Address, ApprovalButton, Body, Capabilities, Channel, ChannelError, ChannelHealth, ChannelId, ChannelTestResult,
    DeliveryReceipt, InboundSink, MessageRef, OutboundReply,
};

/// How long an edit takes, and what comes of it.
type Editing = Box<dyn Fn() -> (Duration, Result<(), ChannelError>) + Send + Sync>;

pub(crate) struct FakeChannel {
    capabilities: Capabilities,
    editing: Editing,
    seen: Mutex<Seen>,
}

/// What the platform was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) sent: Vec<String>,
    /// When edits began, and their texts.
    pub(crate) edits: Vec<(Instant, String)>,
    pub(crate) typing: Vec<Instant>,
    editing: usize,
    /// Edits at the same time.
    pub(crate) most_at_once: usize,
}

impl fmt::Debug for FakeChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeChannel")
    }
}

/// Of a platform without limits.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities {
        message_limit: 4096,
        send_pace: Duration::ZERO,
        send_burst: NonZeroU32::MAX,
        group_per_minute: None,
        bot_per_second: NonZeroU32::MAX,
        edit_pace: Duration::ZERO,
        group_edit_pace: Duration::ZERO,
        typing_every: None,
        max_file: 0,
    }
}

impl FakeChannel {
    pub(crate) fn new(
        capabilities: Capabilities,
        editing: impl Fn() -> (Duration, Result<(), ChannelError>) + Send + Sync + 'static,
    ) -> Self {
        Self { capabilities, editing: Box::new(editing), seen: Mutex::default() }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

#[async_trait]
impl Channel for FakeChannel {
    fn id(&self) -> ChannelId {
        "telegram".into()
    }

    fn display_name(&self) -> &'static str {
        "Fake"
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn compose(&self, markdown: &str) -> Vec<Body> {
        vec![Body::plain(markdown)]
    }

    async fn start_durable(&self, _: Arc<dyn InboundSink>, _: CancellationToken) -> Result<(), ChannelError> {
        Ok(())
    }

    async fn send_with_receipt(&self, reply: OutboundReply) -> Result<DeliveryReceipt, ChannelError> {
        let mut seen = self.lock();
        seen.sent.push(reply.body.text);
        Ok(DeliveryReceipt { message_id: seen.sent.len().to_string(), thread_id: None, chat: None })
    }

    async fn edit_message(&self, _: &MessageRef, body: &Body, _: &[ApprovalButton]) -> Result<(), ChannelError> {
        {
            let mut seen = self.lock();
            seen.edits.push((Instant::now(), body.text.clone()));
            seen.editing += 1;
            seen.most_at_once = seen.most_at_once.max(seen.editing);
        }
        let (time, result) = (self.editing)();
        sleep(time).await;
        self.lock().editing -= 1;
        result
    }

    async fn typing(&self, _: &Address) -> Result<(), ChannelError> {
        self.lock().typing.push(Instant::now());
        Ok(())
    }

    async fn test(&self) -> Result<ChannelTestResult, ChannelError> {
        Ok(ChannelTestResult { channel: self.id(), identity: String::new(), details: String::new() })
    }

    fn health(&self) -> ChannelHealth {
        unreachable!("nobody asks")
    }

    fn report_failure(&self, _: &ChannelError) {}
}
