//! Inbound message → run → reply: one task per conversation that has something to do.
//!
//! * Everything a conversation waits for is in the store; its task can end at any point and is started again.
//! * The server hears of a batch under `gw-<batch id>`, stored before: however often it is told, one run starts.
//! * No failure is silent in the chat.

mod answer;
mod attachments;
#[cfg(test)]
mod fixtures;
mod follow;
mod idle;
mod live;
mod notice;
mod overheard;
mod segments;
mod session;
mod start;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use stakpak_client::{ClientError, StakpakClient};
use stakpak_redact::Redactor;
use tokio::{sync::Semaphore, time::sleep};
use tracing::Instrument;

use crate::{
    Address, Body, BusyPolicy, GatewayConfig, GatewayStore, Progress, Queued, StoreError,
    actors::{Actors, Worker},
    approvals::{Approvals, run_policy},
    backoff::Backoff,
    chunking::chunk_text,
    clock::now_ms,
    delivery::Deliveries,
    kept::Kept,
    store::{Batch, Content, NewPart, OpenRun, Work},
};

pub(crate) use attachments::{KeptFile, safe_name};
pub(crate) use segments::Sent;
pub(crate) use session::SessionError;
use start::Defaults;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Conversations that start runs at once. Of many messages in one instant the first are answered while the last wait; with all
/// at once each would be answered as late as the last.
const STARTING_AT_ONCE: usize = 8;

/// The conversations' tasks, by routing key.
pub(crate) type Dispatcher = Actors<Conversations>;

/// Works for conversations.
#[derive(Debug)]
pub(crate) struct Conversations {
    pub(crate) store: GatewayStore,
    pub(crate) client: StakpakClient,
    pub(crate) deliveries: Arc<Deliveries>,
    approvals: Arc<Approvals>,
    pub(crate) redactor: Redactor,
    /// What was written, until the server has it.
    pub(crate) kept: Kept,
    title_template: String,
    defaults: Arc<Defaults>,
    progress: Progress,
    queued: Queued,
    /// Where files of messages are kept.
    attachments: PathBuf,
    max_attachment: u64,
    pub(crate) busy_policy: BusyPolicy,
    pub(crate) long_reply_chunks: usize,
    run_timeout: Option<Duration>,
    starting: Semaphore,
}

/// Why a step has to be repeated.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Server(#[from] ClientError),
    #[error("session {0} is busy with a run that was started elsewhere")]
    Busy(String),
    #[error("the server does not let this gateway read the events of its run")]
    NoAccess,
    #[error("the session is gone from the server")]
    SessionGone,
}

impl Conversations {
    pub(crate) fn new(
        config: &GatewayConfig,
        store: GatewayStore,
        client: StakpakClient,
        deliveries: Arc<Deliveries>,
        redactor: Redactor,
        approvals: Arc<Approvals>,
    ) -> Self {
        let channels = config.channels.settings().map(|(name, settings)| (name, settings.run.clone())).collect();
        let defaults =
            Arc::new(Defaults { model: config.gateway.model.clone(), policy: run_policy(&config.gateway), channels });
        Self {
            store,
            client,
            deliveries,
            approvals,
            kept: Kept::beside(&config.gateway.store_path, redactor.clone()),
            redactor,
            title_template: config.gateway.title_template.clone(),
            defaults,
            progress: config.gateway.progress,
            queued: config.gateway.queued,
            attachments: config.gateway.store_path.with_file_name("attachments"),
            max_attachment: config.gateway.max_attachment,
            busy_policy: config.gateway.busy_policy,
            long_reply_chunks: config.gateway.long_reply_chunks,
            run_timeout: config.gateway.run_timeout,
            starting: Semaphore::new(STARTING_AT_ONCE),
        }
    }

    /// False when the conversation has nothing to do.
    async fn step(&self, routing_key: &str) -> Result<bool, StepError> {
        let (defaults, kept) = (Arc::clone(&self.defaults), self.kept.clone());
        // What has to be fetched first cannot be part of a transaction.
        let ask = move |batch: &Batch| {
            let is_whole = batch.payload.attachments.is_empty() && overheard::mention(batch).is_none();
            is_whole.then(|| kept.hide_options(defaults.options(batch), &batch.address, now_ms()))
        };
        let mut turn = self.starting.acquire().await.ok();
        let (run, batch) = match self.store.next_work(routing_key, self.queued, now_ms(), ask).await? {
            None => return Ok(false),
            Some(Work::Follow(run)) => (*run, None),
            Some(Work::Start(batch)) => {
                // Files and threads of other people may take long.
                turn = turn.filter(|_| batch.request.is_some());
                match self.start(&batch).await? {
                    Some(run) => (run, Some(batch)),
                    None => return Ok(true),
                }
            }
        };
        drop(turn);
        let span = tracing::info_span!("follow", session_id = run.session_id, run_id = run.run_id);
        self.follow(&run, batch.as_deref()).instrument(span).await
    }

    /// `markdown` as messages that fit the platform.
    pub(crate) fn parts(&self, address: &Address, key: &str, markdown: &str) -> Vec<NewPart> {
        const UNKNOWN_PLATFORM_LIMIT: usize = 2000;
        let bodies = match self.deliveries.worker().channel(address.channel.as_str()) {
            Some(channel) => channel.compose(markdown),
            None => chunk_text(markdown, UNKNOWN_PLATFORM_LIMIT).into_iter().map(Body::plain).collect(),
        };
        let part = |(index, body)| NewPart {
            idem_key: format!("{key}:{index}"),
            address: address.clone(),
            content: Content::Text { body },
        };
        bodies.into_iter().enumerate().map(part).collect()
    }

    /// `markdown` as messages of which the first one answers the question of a run, where others could be meant.
    fn replies(&self, run: &OpenRun, key: &str, markdown: &str) -> Vec<NewPart> {
        let mut parts = self.parts(&run.address, key, markdown);
        if let Some(first) = parts.first_mut() {
            first.content = answering(run, first.content.clone());
        }
        parts
    }

    /// Says something in a chat, once for its key.
    async fn say(&self, address: &Address, key: &str, text: &str) -> Result<(), StoreError> {
        let parts = self.parts(address, key, text);
        self.store.queue_parts(parts.clone(), now_ms()).await?;
        self.deliveries.wake_for(&parts);
        Ok(())
    }
}

/// In a direct chat there is nobody else.
fn answering(run: &OpenRun, content: Content) -> Content {
    let question = run.question.clone().filter(|id| !id.is_empty() && run.address.direct.is_none());
    match (content, question) {
        (Content::Text { body }, Some(to)) => Content::Reply { body, to },
        (content, _) => content,
    }
}

#[async_trait]
impl Worker for Conversations {
    async fn work(&self, routing_key: &str) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            match self.step(routing_key).await {
                Ok(true) => backoff.reset(),
                Ok(false) => return,
                Err(error) => {
                    if let StepError::Busy(session_id) = &error
                        && self.until_idle(session_id).await
                    {
                        backoff.reset();
                    }
                    let wait = backoff.next();
                    tracing::warn!(routing_key, error = %error, wait_ms = wait.as_millis(), "a step is repeated");
                    sleep(wait).await;
                }
            }
        }
    }
}
