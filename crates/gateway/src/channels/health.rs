//! What is known about the connection, for `/channels`.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::{ChannelError, ChannelHealth, ChannelStatus, clock::now_ms};

#[derive(Debug)]
pub(crate) struct Health {
    now: Mutex<ChannelHealth>,
    /// What does not go and needs a person, while everything else does.
    note: Mutex<Option<String>>,
    /// A connection was lost and not made anew yet.
    lost: AtomicBool,
    reconnects: AtomicU64,
}

impl Health {
    pub(crate) fn new() -> Self {
        let now = ChannelHealth {
            status: ChannelStatus::Connecting,
            identity: None,
            since: now_ms(),
            last_event_at: None,
            last_error: None,
        };
        Self {
            now: Mutex::new(now),
            note: Mutex::default(),
            lost: AtomicBool::new(false),
            reconnects: AtomicU64::new(0),
        }
    }

    pub(crate) fn get(&self) -> ChannelHealth {
        let mut now = self.lock().clone();
        if now.last_error.is_none() {
            now.last_error.clone_from(&self.note.lock().unwrap_or_else(PoisonError::into_inner));
        }
        now
    }

    /// Something does not go, and the rest does.
    pub(crate) fn note(&self, what: String) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    pub(crate) fn identified(&self, identity: String) {
        self.lock().identity = Some(identity);
    }

    /// How many times a lost connection was made anew.
    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// The connection ended; whether that is worth a word is not known yet.
    pub(crate) fn lost(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    pub(crate) fn connected(&self) {
        if self.lost.swap(false, Ordering::Relaxed) {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        let mut health = self.lock();
        enter(&mut health, ChannelStatus::Connected);
        health.last_error = None;
    }

    pub(crate) fn received(&self) {
        self.lock().last_event_at = Some(now_ms());
    }

    pub(crate) fn failed(&self, error: &ChannelError) {
        let status = match error {
            ChannelError::Unauthorized { .. } | ChannelError::Setup { .. } | ChannelError::MissingScope { .. } => {
                ChannelStatus::Failed
            }
            _ => ChannelStatus::Degraded,
        };
        if self.get().status == ChannelStatus::Connected {
            self.lost();
        }
        let mut health = self.lock();
        enter(&mut health, status);
        health.last_error = Some(error.to_string());
    }

    fn lock(&self) -> MutexGuard<'_, ChannelHealth> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn enter(health: &mut ChannelHealth, status: ChannelStatus) {
    if health.status != status {
        health.status = status;
        health.since = now_ms();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_new_again_only_after_it_was_there_and_was_lost() {
        let health = Health::new();
        let failure = ChannelError::Uncertain { host: "platform.example".to_owned(), reason: "502".to_owned() };
        health.failed(&failure);
        health.connected();
        health.connected();
        assert_eq!(health.reconnects(), 0, "the first connection, and a poll that follows");
        health.failed(&failure);
        health.failed(&failure);
        assert_eq!(health.reconnects(), 0, "not yet");
        health.connected();
        assert_eq!(health.reconnects(), 1);
        health.lost();
        health.connected();
        assert_eq!(health.reconnects(), 2);
    }
}
