//! The vaults of all sessions: hiding what a session meets, and giving it back.
//!
//! Invariants: a session has one vault, whoever asks, in whatever process; a session that has met no secret has no file and costs nothing; a
//! restored text is not searched for placeholders again.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    placeholder::replace_placeholders,
    redactor::{PortableRedactor, Redactor},
    rules::RuleError,
    stream::Stream,
    vault::{Vault, key::Key},
};

/// Vaults that stay open when nobody uses them.
const MOST_OPEN: usize = 256;

/// The vaults of all sessions.
pub struct Vaults {
    /// A file a session.
    directory: PathBuf,
    key_file: PathBuf,
    redactor: Redactor,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    key: Option<Key>,
    vaults: HashMap<String, Arc<Vault>>,
}

/// Vaults on their way to another process: through a pipe and into no file.
#[derive(Debug, Serialize, Deserialize)]
pub struct PortableVaults {
    directory: PathBuf,
    key_file: PathBuf,
    redactor: PortableRedactor,
}

/// Which placeholders may be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant<'a> {
    /// Of all rules.
    All,
    /// Of these.
    Rules(&'a [String]),
}

/// Why a text cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The session has met no such secret.
    #[error("{0} stands for no secret of this session")]
    Unknown(String),
    /// The destination may not have it.
    #[error("{0} may not be given to this destination")]
    NotGranted(String),
}

impl std::fmt::Debug for Vaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vaults").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Vaults {
    /// Keeps vaults in `directory`, encrypted with the key in `key_file`. Both are made when they are needed.
    #[must_use]
    pub fn new(directory: PathBuf, key_file: PathBuf, redactor: Redactor) -> Self {
        Self { directory, key_file, redactor, open: Mutex::default() }
    }

    /// The same vaults, for another process of the product.
    #[must_use]
    pub fn portable(&self) -> PortableVaults {
        let (directory, key_file) = (self.directory.clone(), self.key_file.clone());
        PortableVaults { directory, key_file, redactor: self.redactor.portable() }
    }

    /// The vaults of another process, shared with it.
    ///
    /// # Errors
    /// They were none.
    pub fn from_portable(PortableVaults { directory, key_file, redactor }: PortableVaults) -> Result<Self, RuleError> {
        Ok(Self::new(directory, key_file, Redactor::from_portable(redactor)?))
    }

    /// `text` with each secret replaced: what the process knows by a word, everything else by a placeholder of the session.
    #[must_use]
    pub fn hide<'t>(&self, session: &str, text: &'t str) -> Cow<'t, str> {
        match self.vault(session) {
            Ok(vault) => self.redactor.replace(text, &mut &*vault),
            Err(error) => self.without_vault(&error, text),
        }
    }

    /// Whether [`Self::hide`] would leave `text` as it is. Reads a file at most once a session.
    #[must_use]
    pub fn is_clean(&self, session: &str, text: &str) -> bool {
        self.vault(session).is_ok_and(|vault| self.redactor.is_clean(text, &&*vault))
    }

    /// What of a stream can go out; all of it once it has ended.
    pub fn ready(&self, session: &str, stream: &mut Stream, has_ended: bool) -> String {
        match self.vault(session) {
            Ok(vault) => stream.ready(&self.redactor, &mut &*vault, has_ended),
            Err(error) => {
                let text = stream.ready(&self.redactor, &mut crate::redactor::Nameless, has_ended);
                self.without_vault(&error, &text).into_owned()
            }
        }
    }

    /// The placeholder of the secret that the session has for `purpose`: made and kept the first time, the same again later.
    /// None: it cannot be kept, and nobody has it.
    pub fn keep(
        &self,
        session: &str,
        rule: &str,
        purpose: &str,
        make: impl FnOnce() -> Option<zeroize::Zeroizing<String>>,
    ) -> Option<String> {
        match self.vault(session) {
            Ok(vault) => vault.keep(rule, purpose, make),
            Err(error) => {
                tracing::error!(%error, "the key of the vaults cannot be used: nothing is kept");
                None
            }
        }
    }

    /// `text` with each placeholder replaced by what it stands for, in one pass.
    ///
    /// # Errors
    /// The first placeholder that cannot be restored.
    pub fn restore<'t>(&self, session: &str, text: &'t str, grant: Grant<'_>) -> Result<Cow<'t, str>, RestoreError> {
        replace_placeholders(text, |placeholder| {
            self.value(session, placeholder.text, placeholder.rule, grant).map(Some)
        })
    }

    fn value(
        &self,
        session: &str,
        placeholder: &str,
        rule: &str,
        grant: Grant<'_>,
    ) -> Result<zeroize::Zeroizing<String>, RestoreError> {
        let vault = self.vault(session).ok();
        let value = vault.and_then(|vault| vault.value(placeholder));
        let value = value.ok_or_else(|| RestoreError::Unknown(placeholder.to_owned()))?;
        let is_granted = match grant {
            Grant::All => true,
            Grant::Rules(rules) => rules.iter().any(|granted| granted == rule),
        };
        if is_granted { Ok(value) } else { Err(RestoreError::NotGranted(placeholder.to_owned())) }
    }

    /// Removes the session's secrets.
    ///
    /// # Errors
    /// The file is still there.
    pub fn forget(&self, session: &str) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.vaults.remove(session);
        match fs::remove_file(self.file(session)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn file(&self, session: &str) -> PathBuf {
        self.directory.join(format!("{session}.vault"))
    }

    /// The session's vault, with what other processes have added until now.
    fn vault(&self, session: &str) -> io::Result<Arc<Vault>> {
        let vault = self.opened(session)?;
        vault.catch_up();
        Ok(vault)
    }

    fn opened(&self, session: &str) -> io::Result<Arc<Vault>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vault) = open.vaults.get(session) {
            return Ok(Arc::clone(vault));
        }
        let key = match &open.key {
            Some(key) => key.clone(),
            None => open.key.insert(Key::open(&self.key_file)?).clone(),
        };
        if open.vaults.len() >= MOST_OPEN {
            // One in use stays: a session never has two.
            open.vaults.retain(|_, vault| Arc::strong_count(vault) > 1);
        }
        let vault = Arc::new(Vault::open(self.file(session), session, key));
        open.vaults.insert(session.to_owned(), Arc::clone(&vault));
        Ok(vault)
    }

    fn without_vault<'t>(&self, error: &io::Error, text: &'t str) -> Cow<'t, str> {
        tracing::error!(%error, "the key of the vaults cannot be used: secrets are hidden for good");
        self.redactor.redact(text)
    }
}
