//! The key of a provider: held, and looked for again when it was refused, once for everybody who needs it.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

/// Where the key of a provider comes from.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The key as it is there now, if there is one.
    ///
    /// # Errors
    /// Why nobody can tell.
    async fn fetch(&self) -> Result<Option<String>, KeyError>;
}

/// A key that cannot be looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct KeyError {
    /// For people, without any secret.
    pub message: String,
}

/// The key that requests are sent with.
pub(crate) struct HeldKey {
    held: Mutex<Option<String>>,
    source: Option<Arc<dyn KeySource>>,
    /// Who holds it fetches; the others wait and find the new key.
    fetching: tokio::sync::Mutex<()>,
}

impl HeldKey {
    pub(crate) fn new(value: Option<String>, source: Option<Arc<dyn KeySource>>) -> Self {
        Self { held: Mutex::new(value), source, fetching: tokio::sync::Mutex::new(()) }
    }

    /// The key to send a request with; none: the provider needs none.
    pub(crate) fn value(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Another key than the one that was refused, if there is one.
    pub(crate) async fn instead_of(&self, refused: Option<&str>) -> Option<String> {
        let source = self.source.as_ref()?;
        let _fetching = self.fetching.lock().await;
        if let Some(other) = self.value().filter(|held| Some(held.as_str()) != refused) {
            return Some(other);
        }
        let fetched = source.fetch().await.inspect_err(|error| tracing::warn!(%error, "the key was not read again"));
        let other = fetched.ok()?.filter(|key| Some(key.as_str()) != refused)?;
        *self.lock() = Some(other.clone());
        Some(other)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
