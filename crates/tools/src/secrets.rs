//! The [`Secrets`] of this machine: the vaults of the sessions, off the workers where they may take long.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use stakpak_agent_core::{HiddenStream, SecretGrant, SecretRefused, Secrets};
use stakpak_protocol::SessionId;
use stakpak_redact::{Grant, PortableVaults, RestoreError, Stream, Vaults, placeholders};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// A scan of this many bytes takes less than a millisecond.
const SHORT: usize = 64 * 1024;

/// Secrets in vaults. A clone shares everything.
#[derive(Debug, Clone)]
pub struct VaultSecrets(Arc<Vaults>);

impl VaultSecrets {
    /// Secrets in these vaults.
    #[must_use]
    pub fn new(vaults: Vaults) -> Self {
        Self(Arc::new(vaults))
    }

    /// Gives back one text.
    pub(crate) fn value(&self, session: SessionId, text: &str) -> Result<String, SecretRefused> {
        self.0.restore(&session.to_string(), text, Grant::All).map(|text| text.into_owned()).map_err(refused)
    }

    /// For a shim, which hides in the same vaults.
    pub(crate) fn portable(&self) -> PortableVaults {
        self.0.portable()
    }

    /// As [`Vaults::keep`]. Blocks.
    pub(crate) fn keep(
        &self,
        session: SessionId,
        rule: &str,
        purpose: &str,
        make: impl FnOnce() -> Option<Zeroizing<String>>,
    ) -> Option<String> {
        self.0.keep(&session.to_string(), rule, purpose, make)
    }

    /// Removes the session's vault.
    pub(crate) fn forget(&self, session: SessionId) -> std::io::Result<()> {
        self.0.forget(&session.to_string())
    }
}

#[async_trait]
impl Secrets for VaultSecrets {
    async fn hide(&self, session: SessionId, text: String) -> String {
        let session = session.to_string();
        if text.len() <= SHORT && self.0.is_clean(&session, &text) {
            return text;
        }
        let vaults = Arc::clone(&self.0);
        let hidden = spawn_blocking(move || vaults.hide(&session, &text).into_owned()).await;
        // Only a panic, or the end of the process: nothing is better than a secret.
        hidden.unwrap_or_default()
    }

    fn stream(&self, session: SessionId) -> Box<dyn HiddenStream> {
        Box::new(VaultStream { vaults: Arc::clone(&self.0), session: session.to_string(), stream: Stream::default() })
    }

    async fn restore(
        &self,
        session: SessionId,
        mut arguments: Value,
        grant: SecretGrant<'_>,
    ) -> Result<Value, SecretRefused> {
        let grant = match grant {
            SecretGrant::All => Grant::All,
            SecretGrant::Rules(rules) => Grant::Rules(rules),
        };
        let session = session.to_string();
        for leaf in leaves(&mut arguments) {
            *leaf = self.0.restore(&session, leaf, grant).map_err(refused)?.into_owned();
        }
        Ok(arguments)
    }

    fn named_in(&self, arguments: &Value) -> Vec<String> {
        let mut named = Vec::new();
        for leaf in leaves(&mut arguments.clone()) {
            for placeholder in placeholders(leaf) {
                if !named.iter().any(|name| name == placeholder.text) {
                    named.push(placeholder.text.to_owned());
                }
            }
        }
        named
    }
}

/// The strings of a value. Keys are none.
pub(crate) fn leaves(value: &mut Value) -> Vec<&mut String> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter_mut().flat_map(leaves).collect(),
        Value::Object(fields) => fields.values_mut().flat_map(leaves).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

fn refused(error: RestoreError) -> SecretRefused {
    match error {
        RestoreError::Unknown(placeholder) => SecretRefused::Unknown(placeholder),
        RestoreError::NotGranted(placeholder) => SecretRefused::NotGranted(placeholder),
    }
}

struct VaultStream {
    vaults: Arc<Vaults>,
    session: String,
    stream: Stream,
}

impl VaultStream {
    async fn ready(&mut self, has_ended: bool) -> String {
        if self.vaults.is_clean(&self.session, self.stream.text()) {
            return self.vaults.ready(&self.session, &mut self.stream, has_ended);
        }
        let (vaults, session, mut stream) =
            (Arc::clone(&self.vaults), self.session.clone(), std::mem::take(&mut self.stream));
        let ready = spawn_blocking(move || {
            let ready = vaults.ready(&session, &mut stream, has_ended);
            (stream, ready)
        });
        let (stream, ready) = ready.await.unwrap_or_default();
        self.stream = stream;
        ready
    }
}

#[async_trait]
impl HiddenStream for VaultStream {
    async fn push(&mut self, piece: &str) -> String {
        self.stream.push(piece);
        self.ready(false).await
    }

    async fn finish(&mut self) -> String {
        self.ready(true).await
    }
}
