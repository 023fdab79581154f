//! Frames of a socket, and what the history has instead of them: decode, hand over, acknowledge.
//!
//! * An acknowledgement is made only after the sink has accepted. Past 2.5 s there is none: Slack would not wait for it, and
//!   what it then sends again is accepted once.
//! * What was begun is finished even so: an acceptance that is cut off between commit and wake-up would leave a message lying.
//! * Each chat is a stream, and each thread in it; positions are the times of the last messages. While the history is
//!   behind, what comes live moves none: a process that dies then must find what is before it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{
    api::Api,
    decode::{Bot, Heard, Sorted},
    people::People,
};
use crate::{ChannelError, InboundBatch, InboundEvent, InboundSink, StreamId, channels::health::Health, clock::now_ms};

/// Slack sends again what is not acknowledged within 3 s.
const ACK_WITHIN: Duration = Duration::from_millis(2500);

/// Streams whose positions are held; more are forgotten together, and their next message begins anew.
const REMEMBERED: usize = 10_000;

/// Takes what Slack sends to one bot.
pub(super) struct Receiver {
    pub(super) api: Api,
    pub(super) bot: Bot,
    pub(super) sink: Arc<dyn InboundSink>,
    pub(super) people: Arc<People>,
    pub(super) health: Arc<Health>,
    /// How far back what was missed is read.
    pub(super) catch_up: Duration,
    /// The highest accepted position of each stream.
    positions: Mutex<HashMap<String, i64>>,
    gaps: Mutex<Gaps>,
    tasks: TaskTracker,
}

/// Where something comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Live,
    History,
}

/// Times without a socket, the one before the start included.
#[derive(Debug)]
struct Gaps {
    begun: u64,
    /// Up to this one the history was read.
    read: u64,
    /// Positions of what came live meanwhile.
    held: HashMap<String, i64>,
}

/// What to do about a frame.
#[derive(Debug)]
pub(super) enum Answer {
    /// Send this back.
    Ack(String),
    /// Send nothing: it will come again.
    Silence,
    /// Send nothing, and stop receiving: nothing can be kept.
    Stop(ChannelError),
}

impl Receiver {
    pub(super) fn new(
        api: Api,
        bot: Bot,
        sink: Arc<dyn InboundSink>,
        people: Arc<People>,
        health: Arc<Health>,
        catch_up: Duration,
    ) -> Self {
        let gaps = Mutex::new(Gaps { begun: 1, read: 0, held: HashMap::new() });
        Self { api, bot, sink, people, health, catch_up, positions: Mutex::default(), gaps, tasks: TaskTracker::new() }
    }

    /// No socket is open any more.
    pub(super) fn gap_begins(&self) {
        self.gaps().begun += 1;
    }

    /// The gap that reading the history now closes.
    pub(super) fn gap(&self) -> u64 {
        self.gaps().begun
    }

    /// The history was read up to a gap: if it was the last, what came live moves its positions.
    pub(super) async fn gap_is_read(&self, gap: u64) -> Result<(), ChannelError> {
        let held = {
            let mut gaps = self.gaps();
            gaps.read = gaps.read.max(gap);
            if gaps.read < gaps.begun { HashMap::new() } else { std::mem::take(&mut gaps.held) }
        };
        for (stream, position) in held {
            self.accept(stream, None, Some(position), Source::History).await?;
        }
        Ok(())
    }

    /// The position that may be stored now.
    fn due(&self, stream: &str, position: i64, source: Source) -> Option<i64> {
        let mut gaps = self.gaps();
        if source == Source::History || gaps.read == gaps.begun {
            return Some(position);
        }
        let held = gaps.held.entry(stream.to_owned()).or_insert(position);
        *held = position.max(*held);
        None
    }

    fn gaps(&self) -> MutexGuard<'_, Gaps> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An envelope.
    pub(super) async fn frame(self: &Arc<Self>, frame: Value) -> Answer {
        let Some(id) = frame["envelope_id"].as_str().map(str::to_owned) else { return Answer::Silence };
        self.health.received();
        let receiver = Arc::clone(self);
        let accepting = self.tasks.spawn(async move { receiver.envelope(frame).await });
        match timeout(ACK_WITHIN, accepting).await {
            Ok(Ok(Ok(()))) => Answer::Ack(json!({ "envelope_id": id }).to_string()),
            Ok(Ok(Err(error))) => Answer::Stop(error),
            Ok(Err(panic)) => {
                tracing::error!(%panic, "an event of Slack could not be handled");
                Answer::Silence
            }
            Err(_) => {
                tracing::warn!("an event of Slack is not stored yet and not acknowledged; it will be sent again");
                Answer::Silence
            }
        }
    }

    async fn envelope(&self, frame: Value) -> Result<(), ChannelError> {
        let payload = &frame["payload"];
        match frame["type"].as_str() {
            Some("events_api") => match payload["event"]["type"].as_str() {
                Some("message" | "app_mention") => self.event(payload).await,
                _ => Ok(()),
            },
            Some("interactive") => {
                for press in self.bot.presses(payload) {
                    let chat = chat_stream(&press.address.chat);
                    self.accept(chat, Some(InboundEvent::Press(Box::new(press))), None, Source::Live).await?;
                }
                Ok(())
            }
            Some("slash_commands") => match self.bot.command(payload, now_ms().saturating_mul(1000)) {
                Some(mut command) => {
                    self.people.name(&self.api, &mut command.sender).await;
                    let chat = chat_stream(&command.address.chat);
                    self.accept(chat, Some(InboundEvent::Message(Box::new(command))), None, Source::Live).await
                }
                None => Ok(()),
            },
            // New kinds are of no use here, and sent again for ever if they are not acknowledged.
            _ => Ok(()),
        }
    }

    async fn event(&self, payload: &Value) -> Result<(), ChannelError> {
        let event = &payload["event"];
        let kind = self.people.kind(&self.api, event).await;
        match self.bot.sort(event, kind) {
            Sorted::Ignored => Ok(()),
            Sorted::Heard(heard) => self.heard(heard, Source::Live).await,
            Sorted::Undecodable => {
                let undecodable = InboundEvent::Undecodable {
                    event_key: format!("event:{}", payload["event_id"].as_str().unwrap_or_default()),
                    order_key: now_ms().saturating_mul(1000),
                    raw: payload.to_string(),
                };
                let chat = chat_stream(event["channel"].as_str().unwrap_or_default());
                self.accept(chat, Some(undecodable), None, Source::Live).await
            }
        }
    }

    /// Something that a person said, live or found in the history.
    pub(super) async fn heard(&self, heard: Heard, source: Source) -> Result<(), ChannelError> {
        let Heard { mut message, addressed, edited, thread } = heard;
        let addressed = addressed || (thread.is_some() && self.sink.takes_part(&message.address).await?);
        let position = (!edited).then_some(message.order_key);
        let stream = match thread {
            Some(thread) => thread_stream(&message.address.chat, &thread),
            None => chat_stream(&message.address.chat),
        };
        if !addressed {
            // Threads that are not the bot's are not followed.
            let followed = !stream.starts_with(THREAD);
            return if followed && !edited { self.accept(stream, None, position, source).await } else { Ok(()) };
        }
        self.people.name(&self.api, &mut message.sender).await;
        if let Some(name) = message.sender.display_name.clone() {
            message.metadata["display_name"] = name.into();
        }
        let opened = message.address.thread.clone().filter(|thread| *thread == message.message_id);
        let opened = opened.map(|thread| thread_stream(&message.address.chat, &thread));
        let event = if edited { InboundEvent::Edited(message) } else { InboundEvent::Message(message) };
        self.accept(stream, Some(event), position, source).await?;
        match opened {
            // From now on its replies are caught up too.
            Some(opened) if !edited => self.accept(opened, None, position, source).await,
            _ => Ok(()),
        }
    }

    async fn accept(
        &self,
        stream: String,
        event: Option<InboundEvent>,
        position: Option<i64>,
        source: Source,
    ) -> Result<(), ChannelError> {
        let position = position.and_then(|position| self.due(&stream, position, source));
        // Sockets overtake each other, and a stream never goes back.
        let position = position.map(|position| position.max(self.position(&stream).unwrap_or(position)));
        let id = StreamId { channel: "slack".into(), account: self.bot.user.clone(), name: stream.clone() };
        self.sink.accept(InboundBatch { stream: id, events: event.into_iter().collect(), position }).await?;
        if let Some(position) = position {
            self.moved(stream, position);
        }
        Ok(())
    }

    pub(super) fn position(&self, stream: &str) -> Option<i64> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).get(stream).copied()
    }

    pub(super) fn moved(&self, stream: String, position: i64) {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        if positions.len() >= REMEMBERED {
            positions.clear();
        }
        let last = positions.entry(stream).or_insert(position);
        *last = position.max(*last);
    }
}

const CHAT: &str = "chat:";
const THREAD: &str = "thread:";

pub(super) fn chat_stream(chat: &str) -> String {
    format!("{CHAT}{chat}")
}

fn thread_stream(chat: &str, thread: &str) -> String {
    format!("{THREAD}{chat}:{thread}")
}

/// What a stream is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Chat(String),
    Thread(String, String),
}

impl Place {
    pub(super) fn of_stream(name: &str) -> Option<Self> {
        if let Some(chat) = name.strip_prefix(CHAT) {
            return (!chat.is_empty()).then(|| Self::Chat(chat.to_owned()));
        }
        let (chat, thread) = name.strip_prefix(THREAD)?.split_once(':')?;
        Some(Self::Thread(chat.to_owned(), thread.to_owned()))
    }
}
