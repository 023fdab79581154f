//! What is known about the connection, for `/channels`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{ChannelError, ChannelHealth, ChannelStatus, clock::now_ms};

#[derive(Debug)]
pub(crate) struct Health(Mutex<ChannelHealth>);

impl Health {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(ChannelHealth {
            status: ChannelStatus::Connecting,
            identity: None,
            since: now_ms(),
            last_event_at: None,
            last_error: None,
        }))
    }

    pub(crate) fn get(&self) -> ChannelHealth {
        self.lock().clone()
    }

    pub(crate) fn identified(&self, identity: String) {
        self.lock().identity = Some(identity);
    }

    pub(crate) fn connected(&self) {
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
        let mut health = self.lock();
        enter(&mut health, status);
        health.last_error = Some(error.to_string());
    }

    fn lock(&self) -> MutexGuard<'_, ChannelHealth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn enter(health: &mut ChannelHealth, status: ChannelStatus) {
    if health.status != status {
        health.status = status;
        health.since = now_ms();
    }
}
