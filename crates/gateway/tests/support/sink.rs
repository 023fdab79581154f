//! Keeps what an adapter hands over, as the gateway's own store does; and can block and fail.
#![allow(dead_code, reason = "each platform's tests use a part of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use stakpak_gateway::{
    Address, ChannelError, ChannelId, InboundBatch, InboundEvent, InboundMessage, InboundSink, Press, StreamId,
};
use tokio::{sync::watch, time::timeout};

#[derive(Default)]
pub(crate) struct Sink {
    kept: Mutex<Kept>,
    changed: watch::Sender<u64>,
    blocked: watch::Sender<bool>,
    failing: AtomicBool,
}

#[derive(Default)]
struct Kept {
    events: Vec<InboundEvent>,
    keys: BTreeSet<String>,
    positions: BTreeMap<String, i64>,
    /// Threads that the bot takes part in: chat and thread.
    threads: BTreeSet<(String, String)>,
    repeated: usize,
}

impl Sink {
    /// Nothing is accepted until it is unblocked.
    pub(crate) fn block(&self, blocked: bool) {
        self.blocked.send_replace(blocked);
    }

    /// Whether nothing can be stored.
    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// As after six days in which the position did not move.
    pub(crate) fn forget_position(&self) {
        self.kept().positions.clear();
    }

    pub(crate) fn take_part(&self, chat: &str, thread: &str) {
        self.kept().threads.insert((chat.to_owned(), thread.to_owned()));
    }

    pub(crate) fn messages(&self) -> Vec<InboundMessage> {
        let message = |event: &InboundEvent| match event {
            InboundEvent::Message(message) => Some((**message).clone()),
            _ => None,
        };
        self.kept().events.iter().filter_map(message).collect()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.messages().into_iter().map(|message| message.text).collect()
    }

    pub(crate) fn presses(&self) -> Vec<Press> {
        let press = |event: &InboundEvent| match event {
            InboundEvent::Press(press) => Some((**press).clone()),
            _ => None,
        };
        self.kept().events.iter().filter_map(press).collect()
    }

    pub(crate) fn events(&self) -> Vec<InboundEvent> {
        self.kept().events.clone()
    }

    pub(crate) fn repeated(&self) -> usize {
        self.kept().repeated
    }

    pub(crate) fn position(&self, stream: &str) -> Option<i64> {
        self.kept().positions.get(stream).copied()
    }

    pub(crate) async fn wait_for<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = look(self) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        match timeout(Duration::from_secs(30), wait).await {
            Ok(found) => found,
            Err(_) => panic!("not handed over in time: {what}; {:#?}", self.events()),
        }
    }

    pub(crate) async fn wait_for_texts(&self, count: usize) -> Vec<String> {
        self.wait_for(&format!("{count} texts"), |sink| Some(sink.texts()).filter(|texts| texts.len() >= count)).await
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }
}

fn key(event: &InboundEvent) -> Option<String> {
    match event {
        InboundEvent::Message(message) | InboundEvent::Edited(message) => Some(message.event_key.clone()),
        InboundEvent::Press(press) => Some(press.event_key.clone()),
        InboundEvent::Undecodable { event_key, .. } => Some(event_key.clone()),
        InboundEvent::Migrated { .. } => None,
    }
}

#[async_trait]
impl InboundSink for Sink {
    async fn accept(&self, batch: InboundBatch) -> Result<(), ChannelError> {
        self.blocked.subscribe().wait_for(|blocked| !blocked).await.unwrap();
        if self.failing.load(Ordering::Relaxed) {
            return Err(ChannelError::Store { reason: "disk full".to_owned() });
        }
        {
            let mut kept = self.kept();
            for event in batch.events {
                if key(&event).is_none_or(|key| kept.keys.insert(key)) {
                    kept.events.push(event);
                } else {
                    kept.repeated += 1;
                }
            }
            if let Some(position) = batch.position {
                kept.positions.insert(batch.stream.name, position);
            }
        }
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn position(&self, stream: &StreamId) -> Result<Option<i64>, ChannelError> {
        Ok(self.kept().positions.get(&stream.name).copied())
    }

    async fn positions(&self, _channel: &ChannelId, _account: &str) -> Result<Vec<(String, i64)>, ChannelError> {
        Ok(self.kept().positions.clone().into_iter().collect())
    }

    async fn takes_part(&self, address: &Address) -> Result<bool, ChannelError> {
        let thread = address.thread.clone().unwrap_or_default();
        Ok(self.kept().threads.contains(&(address.chat.clone(), thread)))
    }
}
