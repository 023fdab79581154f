//! Stands for the gateway: keeps what it accepts, once, with positions; can block and fail.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Mutex,
    time::Duration,
};

use async_trait::async_trait;
use stakpak_gateway::{
    Address, ChannelError, ChannelId, InboundBatch, InboundEvent, InboundMessage, InboundSink, Press, StreamId,
};
use tokio::{sync::watch, time::timeout};

pub(crate) struct Sink {
    kept: Mutex<Kept>,
    changed: watch::Sender<u64>,
    open: watch::Sender<bool>,
}

#[derive(Default)]
struct Kept {
    events: Vec<InboundEvent>,
    keys: HashSet<String>,
    positions: BTreeMap<String, i64>,
    deliveries: usize,
    attempts: usize,
    failures: u32,
    takes_part: bool,
}

impl Default for Sink {
    fn default() -> Self {
        Self { kept: Mutex::default(), changed: watch::Sender::default(), open: watch::Sender::new(true) }
    }
}

impl Sink {
    /// Nothing is accepted until it is opened again.
    pub(crate) fn block(&self, blocked: bool) {
        self.open.send_replace(!blocked);
    }

    /// The next attempts to store fail.
    pub(crate) fn fail(&self, times: u32) {
        self.kept.lock().unwrap().failures = times;
    }

    /// The bot takes part in all threads.
    pub(crate) fn take_part(&self) {
        self.kept.lock().unwrap().takes_part = true;
    }

    pub(crate) fn messages(&self) -> Vec<InboundMessage> {
        let kept = self.kept.lock().unwrap();
        let message = |event: &InboundEvent| match event {
            InboundEvent::Message(message) => Some((**message).clone()),
            _ => None,
        };
        kept.events.iter().filter_map(message).collect()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.messages().into_iter().map(|message| message.text).collect()
    }

    pub(crate) fn edits(&self) -> Vec<InboundMessage> {
        let kept = self.kept.lock().unwrap();
        let edit = |event: &InboundEvent| match event {
            InboundEvent::Edited(message) => Some((**message).clone()),
            _ => None,
        };
        kept.events.iter().filter_map(edit).collect()
    }

    pub(crate) fn presses(&self) -> Vec<Press> {
        let kept = self.kept.lock().unwrap();
        let press = |event: &InboundEvent| match event {
            InboundEvent::Press(press) => Some((**press).clone()),
            _ => None,
        };
        kept.events.iter().filter_map(press).collect()
    }

    pub(crate) fn undecodable(&self) -> usize {
        let kept = self.kept.lock().unwrap();
        kept.events.iter().filter(|event| matches!(event, InboundEvent::Undecodable { .. })).count()
    }

    /// Events that were handed over, repeated ones included.
    pub(crate) fn deliveries(&self) -> usize {
        self.kept.lock().unwrap().deliveries
    }

    /// Batches that were handed over, those that wait included.
    pub(crate) fn attempts(&self) -> usize {
        self.kept.lock().unwrap().attempts
    }

    pub(crate) fn position(&self, channel: u64) -> Option<i64> {
        self.kept.lock().unwrap().positions.get(&format!("chat:{channel}")).copied()
    }

    pub(crate) async fn wait_for(&self, what: &str, enough: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !enough(self) {
                changed.changed().await.unwrap();
            }
        };
        let waited = timeout(Duration::from_secs(30), wait).await;
        assert!(waited.is_ok(), "waited in vain for {what}; texts: {:?}", self.texts());
    }
}

#[async_trait]
impl InboundSink for Sink {
    async fn accept(&self, batch: InboundBatch) -> Result<(), ChannelError> {
        self.kept.lock().unwrap().attempts += 1;
        self.changed.send_modify(|count| *count += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        {
            let mut kept = self.kept.lock().unwrap();
            if kept.failures > 0 {
                kept.failures -= 1;
                return Err(ChannelError::Store { reason: "disk full".to_owned() });
            }
            for event in batch.events {
                kept.deliveries += 1;
                let key = match &event {
                    InboundEvent::Message(message) => message.event_key.clone(),
                    InboundEvent::Press(press) => press.event_key.clone(),
                    InboundEvent::Undecodable { event_key, .. } => event_key.clone(),
                    InboundEvent::Edited(message) => format!("edit {} {}", message.event_key, message.text),
                    InboundEvent::Migrated { from, .. } => from.clone(),
                };
                if kept.keys.insert(key) {
                    kept.events.push(event);
                }
            }
            if let Some(position) = batch.position {
                assert_eq!(batch.stream.account, stakpak_test_support::FakeDiscord::BOT.to_string());
                let known = kept.positions.entry(batch.stream.name).or_default();
                *known = position.max(*known);
            }
        }
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn position(&self, stream: &StreamId) -> Result<Option<i64>, ChannelError> {
        Ok(self.kept.lock().unwrap().positions.get(&stream.name).copied())
    }

    async fn positions(&self, _: &ChannelId, _: &str) -> Result<Vec<(String, i64)>, ChannelError> {
        Ok(self.kept.lock().unwrap().positions.iter().map(|(name, position)| (name.clone(), *position)).collect())
    }

    async fn takes_part(&self, _: &Address) -> Result<bool, ChannelError> {
        Ok(self.kept.lock().unwrap().takes_part)
    }
}
