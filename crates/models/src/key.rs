//! The key of a provider: held, and fetched anew when it has run out or was refused, once for everybody who needs it.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use stakpak_agent_core::Clock;

/// Where the key of a provider comes from.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The key as it is there now.
    ///
    /// # Errors
    /// Why there is none: for people, without any secret.
    async fn fetch(&self) -> Result<Key, KeyError>;
}

/// A key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// It.
    pub value: String,
    /// None: nobody knows.
    pub expires_at: Option<DateTime<Utc>>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// A key that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct KeyError {
    /// For people, without any secret.
    pub message: String,
    /// Whether it may be had later.
    pub may_pass: bool,
}

/// A key that will run out so soon is fetched anew: the request still has to get there.
const SOON: TimeDelta = TimeDelta::seconds(60);

/// The key that requests are sent with.
pub(crate) struct HeldKey {
    held: Mutex<Option<Key>>,
    source: Option<Arc<dyn KeySource>>,
    /// Who holds it fetches; the others wait and find the new key.
    fetching: tokio::sync::Mutex<()>,
    clock: Arc<dyn Clock>,
}

impl HeldKey {
    pub(crate) fn new(value: Option<String>, source: Option<Arc<dyn KeySource>>, clock: Arc<dyn Clock>) -> Self {
        let held = Mutex::new(value.map(|value| Key { value, expires_at: None }));
        Self { held, source, fetching: tokio::sync::Mutex::new(()), clock }
    }

    /// The key to send a request with; none: the provider needs none.
    pub(crate) async fn current(&self) -> Result<Option<String>, KeyError> {
        let Some(source) = &self.source else { return Ok(self.value()) };
        if let Some(usable) = self.usable() {
            return Ok(Some(usable));
        }
        let _fetching = self.fetching.lock().await;
        if let Some(usable) = self.usable() {
            return Ok(Some(usable));
        }
        let key = source.fetch().await?;
        Ok(Some(self.hold(key)))
    }

    /// Another key than the one that was refused, if there is one.
    pub(crate) async fn instead_of(&self, refused: Option<&str>) -> Option<String> {
        let source = self.source.as_ref()?;
        let _fetching = self.fetching.lock().await;
        if let Some(other) = self.value().filter(|held| Some(held.as_str()) != refused) {
            return Some(other);
        }
        let key =
            source.fetch().await.inspect_err(|error| tracing::warn!(%error, "the key was not read again")).ok()?;
        Some(self.hold(key)).filter(|key| Some(key.as_str()) != refused)
    }

    pub(crate) fn value(&self) -> Option<String> {
        self.lock().as_ref().map(|key| key.value.clone())
    }

    fn usable(&self) -> Option<String> {
        let now = self.clock.now();
        let held = self.lock();
        let usable = held.as_ref().filter(|key| key.expires_at.is_none_or(|at| at - SOON > now));
        usable.map(|key| key.value.clone())
    }

    fn hold(&self, key: Key) -> String {
        let value = key.value.clone();
        *self.lock() = Some(key);
        value
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Key>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
