//! What a chat sees of a run while it goes on: one message that is edited, at the platform's pace.
//!
//! Only the message itself is in the outbox; what is written into it on the way is shown as well as it goes and never
//! repeated. The end of the run waits for nothing here.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use stakpak_client::protocol::Event;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::Conversations;
use crate::{
    Body, Channel, ChannelError, MessageRef, Progress, StoreError,
    clock::now_ms,
    store::{Content, NewPart, OpenRun},
};

/// A run shorter than this needs no sign of writing.
const TYPE_AFTER: Duration = Duration::from_millis(300);
/// A run shorter than this is shown by its answer alone.
const SHOW_AFTER: Duration = Duration::from_millis(1500);
/// After a longer run the answer is a message of its own, so that people are notified.
const ANSWER_IN_PLACE: Duration = Duration::from_secs(30);
/// The end of a run waits this long for an edit under way; then its answer becomes a message of its own.
const EDIT_PATIENCE: Duration = Duration::from_secs(1);

/// The message of one run.
#[derive(Debug)]
pub(super) struct Live {
    channel: Arc<dyn Channel>,
    /// None: only the sign of writing is shown.
    key: Option<String>,
    began: Instant,
    seen: Seen,
    message: Option<MessageRef>,
    queued: bool,
    /// There is more to show than was shown.
    changed: bool,
    edit_pace: Duration,
    next_edit: Instant,
    next_typing: Option<Instant>,
    /// An edit under way, and when the platform wants the next one at the earliest.
    editing: Option<JoinHandle<Option<Instant>>>,
}

/// What a reader would know by now.
#[derive(Debug, Default)]
struct Seen {
    texts: Vec<String>,
    current: String,
    tool: Option<String>,
}

/// Where the answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A new message.
    New,
    /// Behind the messages that were sent on the way.
    Behind,
    /// The message that was shown all along.
    Instead(String),
    /// A new message; the one that was shown says how it ended.
    Beside(String),
}

impl Seen {
    /// True if there is something new to show.
    fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::TextDelta { delta, .. } => self.current.push_str(delta),
            Event::TextComplete { text, .. } => {
                self.current.clear();
                self.texts.push(text.clone());
            }
            Event::RetryAttempt { discard_text: Some(true), .. } => self.current.clear(),
            Event::ToolExecutionStarted { tool_name, .. } => self.tool = Some(tool_name.clone()),
            Event::ToolExecutionCompleted { .. } | Event::ToolRejected { .. } => self.tool = None,
            _ => return false,
        }
        true
    }

    fn text(&self) -> String {
        let texts = self.texts.iter().chain([&self.current]).map(|text| text.trim()).filter(|text| !text.is_empty());
        let mut text = texts.collect::<Vec<_>>().join("\n\n");
        if let Some(tool) = &self.tool {
            let gap = if text.is_empty() { "" } else { "\n\n" };
            let tool = tool.strip_prefix("stakpak__").unwrap_or(tool);
            text.push_str(&format!("{gap}running: {tool}"));
        }
        text
    }
}

impl Live {
    /// None where the platform is not there any more.
    pub(super) fn new(conversations: &Conversations, run: &OpenRun) -> Option<Self> {
        let channel = Arc::clone(conversations.deliveries.worker().channel(run.address.channel.as_str())?);
        let capabilities = channel.capabilities();
        let is_direct = run.address.direct.is_some();
        let age = Duration::from_millis(u64::try_from(now_ms() - run.started_at).unwrap_or(0));
        let now = Instant::now();
        Some(Self {
            key: (conversations.progress == Progress::Live).then(|| live_key(run)),
            began: now.checked_sub(age).unwrap_or(now),
            seen: Seen::default(),
            message: None,
            queued: false,
            changed: false,
            edit_pace: if is_direct { capabilities.edit_pace } else { capabilities.group_edit_pace },
            next_edit: now,
            next_typing: capabilities.typing_every.map(|_| now + TYPE_AFTER),
            editing: None,
            channel,
        })
    }

    pub(super) fn take(&mut self, event: &Event) {
        self.changed |= self.seen.take(event);
    }

    /// Until there is something to show.
    pub(super) async fn due(&self) {
        let show = (self.key.is_some() && self.changed)
            .then(|| if self.queued { self.next_edit } else { self.began + SHOW_AFTER });
        match [show, self.next_typing].into_iter().flatten().min() {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Shows what is due.
    pub(super) async fn show(&mut self, conversations: &Conversations, run: &OpenRun) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.next_typing.is_some_and(|at| at <= now) {
            self.next_typing = self.channel.capabilities().typing_every.map(|every| now + every);
            let (channel, address) = (Arc::clone(&self.channel), run.address.clone());
            tokio::spawn(async move {
                if let Err(error) = channel.typing(&address).await {
                    tracing::debug!(%error, "the sign of writing was not shown");
                }
            });
        }
        let Some(key) = self.key.clone().filter(|_| self.changed) else { return Ok(()) };
        if !self.queued {
            if now < self.began + SHOW_AFTER {
                return Ok(());
            }
            self.changed = false;
            let Some(body) = self.body() else { return Ok(()) };
            let content = super::answering(run, Content::Text { body });
            let part = NewPart { idem_key: key, address: run.address.clone(), content };
            let lane = part.lane();
            conversations.store.queue_parts(vec![part], now_ms()).await?;
            conversations.deliveries.wake(&lane);
            self.queued = true;
            self.next_edit = now + self.edit_pace;
            return Ok(());
        }
        if let Some(edited) = self.editing.take_if(|editing| editing.is_finished())
            && let Ok(Some(at)) = edited.await
        {
            self.next_edit = self.next_edit.max(at);
        }
        if now < self.next_edit {
            return Ok(());
        }
        self.next_edit = now + self.edit_pace;
        if self.message.is_none() {
            self.message = conversations.store.message_of(&key).await?;
        }
        let Some(message) = self.message.clone().filter(|_| self.editing.is_none()) else { return Ok(()) };
        self.changed = false;
        let Some(body) = self.body() else { return Ok(()) };
        let channel = Arc::clone(&self.channel);
        self.editing = Some(tokio::spawn(async move {
            let error = channel.edit_message(&message, &body, &[]).await.err()?;
            tracing::debug!(%error, "the state of a run was not shown");
            match error {
                ChannelError::RateLimited { retry_after } => Some(Instant::now() + retry_after),
                _ => None,
            }
        }));
        Ok(())
    }

    /// The end of what there is to say so far, in one message; none while there is nothing. In the platform's own form, as
    /// the answer will be: nothing in a model's text is a mention.
    fn body(&self) -> Option<Body> {
        self.channel.compose(&self.seen.text()).pop()
    }

    /// Where the answer goes now that the run has ended.
    pub(super) async fn end(self, store: &crate::GatewayStore, run: &OpenRun) -> Result<Place, StoreError> {
        let key = live_key(run);
        // An earlier process may have shown the message.
        if (run.fresh && !self.queued) || !store.is_queued_or_sent(&key).await? {
            return Ok(Place::New);
        }
        let undisturbed = match self.editing {
            // An edit that comes late must not overwrite the answer.
            Some(editing) => tokio::time::timeout(EDIT_PATIENCE, editing).await.is_ok(),
            None => true,
        };
        let in_place = undisturbed && self.began.elapsed() < ANSWER_IN_PLACE;
        Ok(if in_place { Place::Instead(key) } else { Place::Beside(key) })
    }
}

fn live_key(run: &OpenRun) -> String {
    format!("run:{}:live", run.run_id)
}
