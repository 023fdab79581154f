//! The port to the secrets that sessions meet: hidden before anything is stored or sent, given back only to a call that runs.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use stakpak_protocol::SessionId;

/// Hides what no sink may see.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// `text` with a placeholder in place of each secret; placeholders that are in it stay. A placeholder that is given out
    /// is durable.
    async fn hide(&self, session: SessionId, text: String) -> String;

    /// Hides a text that comes in pieces.
    fn stream(&self, session: SessionId) -> Box<dyn HiddenStream>;

    /// `arguments` with each placeholder in a string replaced by what it stands for, in one pass. What comes back goes to
    /// the call and nowhere else.
    ///
    /// # Errors
    /// The first placeholder that cannot be given out: the call must not run.
    async fn restore(
        &self,
        session: SessionId,
        arguments: Value,
        grant: SecretGrant<'_>,
    ) -> Result<Value, SecretRefused>;

    /// The placeholders in the strings of `arguments`, each once, in order.
    fn named_in(&self, arguments: &Value) -> Vec<String>;
}

/// A text in pieces. A secret that is split over two of them is hidden too, so the end of what was pushed may come later.
#[async_trait]
pub trait HiddenStream: Send {
    /// Takes a piece and gives what can go out, possibly nothing.
    async fn push(&mut self, piece: &str) -> String;

    /// What is left when the text has ended.
    async fn finish(&mut self) -> String;
}

/// What a destination may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretGrant<'a> {
    /// Everything: own tools of this machine.
    All,
    /// What these rules have found, by their ids: a server of somebody else.
    Rules(&'a [String]),
}

/// Why a call does not get a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretRefused {
    /// The session has met no such secret.
    #[error("{0} stands for no secret of this session; ask for the secret, or write the text without it")]
    Unknown(String),
    /// The destination may not have it.
    #[error("{0} may not be given to this tool; a person may add its rule to the server's `secrets`")]
    NotGranted(String),
}

impl SecretRefused {
    /// The code line of the call's result.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "UNKNOWN_SECRET",
            Self::NotGranted(_) => "SECRET_NOT_GRANTED",
        }
    }
}

/// Knows no secret.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn hide(&self, _: SessionId, text: String) -> String {
        text
    }

    fn stream(&self, _: SessionId) -> Box<dyn HiddenStream> {
        Box::new(Self)
    }

    async fn restore(&self, _: SessionId, arguments: Value, _: SecretGrant<'_>) -> Result<Value, SecretRefused> {
        Ok(arguments)
    }

    fn named_in(&self, _: &Value) -> Vec<String> {
        Vec::new()
    }
}

#[async_trait]
impl HiddenStream for NoSecrets {
    async fn push(&mut self, piece: &str) -> String {
        piece.to_owned()
    }

    async fn finish(&mut self) -> String {
        String::new()
    }
}

/// The secrets of one session.
#[derive(Clone)]
pub(crate) struct SessionSecrets {
    secrets: Arc<dyn Secrets>,
    session: SessionId,
}

impl SessionSecrets {
    pub(crate) fn new(secrets: &Arc<dyn Secrets>, session: SessionId) -> Self {
        Self { secrets: Arc::clone(secrets), session }
    }

    /// Hides each of these; whether any was changed.
    pub(crate) async fn hide(&self, texts: Vec<&mut String>) -> bool {
        let mut changed = false;
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            let hidden = self.secrets.hide(self.session, text.clone()).await;
            changed |= hidden != *text;
            *text = hidden;
        }
        changed
    }

    pub(crate) fn stream(&self) -> Box<dyn HiddenStream> {
        self.secrets.stream(self.session)
    }
}
