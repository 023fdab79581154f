//! The secrets that one session has met.
//!
//! Invariants: the same value always has the same placeholder, and no two values share one; a placeholder is given out only
//! when its value is on disk. A vault that cannot be read or written hides all the same, and gives nothing back.

mod file;
pub(crate) mod key;

use std::{
    borrow::Cow,
    collections::HashMap,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use file::{Stored, VaultFile};
use key::Key;

use crate::{
    known::{Extent, Known},
    placeholder::{self, ID_LENGTH},
    redactor::{Naming, Origin, REDACTED},
};

/// Secrets of one session that have placeholders; further ones are hidden for good. It bounds memory and searching.
const MOST_SECRETS: usize = 1000;
/// Values that are searched beside the many before those are taken together.
const FEW: usize = 32;

/// A vault. Calls of the session share it.
pub(crate) struct Vault(Mutex<Contents>);

struct Contents {
    key: Key,
    /// None: it cannot be used.
    file: Option<VaultFile>,
    entries: Vec<Stored>,
    by_value: HashMap<[u8; 32], usize>,
    by_id: HashMap<String, usize>,
    /// The values up to here are in `many`, those behind in `few`.
    taken_together: usize,
    searched: usize,
    known: Values,
}

/// What is searched for.
#[derive(Clone, Default)]
struct Values {
    many: Arc<Known>,
    few: Arc<Known>,
}

impl Vault {
    /// Never fails: what is wrong is logged, and nothing can be given back.
    pub(crate) fn open(path: PathBuf, session: &str, key: Key) -> Self {
        let (file, entries) = match VaultFile::open(path, session, &key) {
            Ok((file, entries)) => (Some(file), entries),
            Err(error) => {
                tracing::error!(session_id = session, %error, "the secrets of a session cannot be read");
                (None, Vec::new())
            }
        };
        let mut contents = Contents {
            key,
            file,
            entries: Vec::new(),
            by_value: HashMap::new(),
            by_id: HashMap::new(),
            taken_together: 0,
            searched: 0,
            known: Values::default(),
        };
        entries.into_iter().for_each(|entry| contents.take(entry));
        Self(Mutex::new(contents))
    }

    /// Takes in what other processes have added.
    pub(crate) fn catch_up(&self) {
        self.contents().catch_up();
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The placeholder of the value that was made for `purpose`; made now if there is none. None: it cannot be kept.
    pub(crate) fn keep(
        &self,
        rule: &str,
        purpose: &str,
        make: impl FnOnce() -> Option<zeroize::Zeroizing<String>>,
    ) -> Option<String> {
        let mut contents = self.contents();
        if let Some(entry) = contents.entries.iter().find(|entry| entry.made_for.as_deref() == Some(purpose)) {
            return Some(placeholder::render(&entry.rule, &entry.id));
        }
        let value = make()?;
        contents.add(&value, rule.to_owned(), false, Some(purpose.to_owned()))
    }

    /// The value of a placeholder.
    pub(crate) fn value(&self, placeholder: &str) -> Option<zeroize::Zeroizing<String>> {
        let contents = self.contents();
        let id = placeholder.get(placeholder.len().checked_sub(ID_LENGTH + 1)?..placeholder.len() - 1)?;
        let entry = &contents.entries[*contents.by_id.get(id)?];
        (placeholder::render(&entry.rule, &entry.id) == placeholder).then(|| entry.value.clone())
    }
}

impl Naming for &Vault {
    fn find(&self, text: &str) -> Vec<(Range<usize>, usize)> {
        let Values { many, few } = self.contents().known();
        many.find(text).chain(few.find(text)).collect()
    }

    fn begun(&self, text: &str) -> Option<usize> {
        let Values { many, few } = self.contents().known();
        many.begun(text).into_iter().chain(few.begun(text)).min()
    }

    fn name(&mut self, secret: &str, origin: &Origin) -> Cow<'static, str> {
        let mut contents = self.contents();
        let (rule, exact) = match origin {
            Origin::Process => return REDACTED.into(),
            Origin::Rule { id, .. } => (id.to_string(), false),
            Origin::Session(number) => match contents.entries.get(*number) {
                Some(entry) => (entry.rule.clone(), true),
                None => return REDACTED.into(),
            },
        };
        contents.name(secret, rule, exact).map_or(REDACTED.into(), Cow::Owned)
    }
}

impl Contents {
    fn name(&mut self, secret: &str, rule: String, exact: bool) -> Option<String> {
        let index = self.key.index(secret);
        if let Some(entry) = self.by_value.get(&index).map(|number| &self.entries[*number]) {
            return Some(placeholder::render(&entry.rule, &entry.id));
        }
        self.add(secret, rule, exact, None)
    }

    fn add(&mut self, secret: &str, rule: String, exact: bool, made_for: Option<String>) -> Option<String> {
        let index = self.key.index(secret);
        if self.entries.len() >= MOST_SECRETS || !placeholder::is_rule_id(&rule) {
            return None;
        }
        let lock = self.file.as_mut()?.lock();
        let lock = lock.inspect_err(|error| tracing::error!(%error, "a vault cannot be locked")).ok()?;
        self.catch_up();
        if let Some(entry) = self.by_value.get(&index).map(|number| &self.entries[*number]) {
            return Some(placeholder::render(&entry.rule, &entry.id));
        }
        let id = self.fresh_id()?;
        let stored = Stored { rule, id: id.clone(), value: secret.to_owned().into(), exact, made_for };
        if let Err(error) = self.file.as_mut()?.append(&lock, &stored) {
            tracing::error!(%error, "a secret cannot be kept for its session: it is hidden for good");
            return None;
        }
        let name = placeholder::render(&stored.rule, &id);
        self.take(stored);
        Some(name)
    }

    fn take(&mut self, stored: Stored) {
        let number = self.entries.len();
        self.by_value.insert(self.key.index(&stored.value), number);
        self.by_id.insert(stored.id.clone(), number);
        self.entries.push(stored);
    }

    fn catch_up(&mut self) {
        let Some(file) = &mut self.file else { return };
        match file.unread() {
            Ok(added) => added.into_iter().for_each(|entry| self.take(entry)),
            Err(error) => {
                tracing::error!(%error, "the secrets of a session cannot be read any more");
                self.file = None;
            }
        }
    }

    /// Random, and not in use.
    fn fresh_id(&self) -> Option<String> {
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        loop {
            let mut bytes = [0; ID_LENGTH];
            getrandom::fill(&mut bytes).ok()?;
            let id: String =
                bytes.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect();
            if !self.by_id.contains_key(&id) {
                return Some(id);
            }
        }
    }

    /// All values are searched for; taking them together costs more than searching twice, so it is done now and then.
    fn known(&mut self) -> Values {
        if self.searched == self.entries.len() {
            return self.known.clone();
        }
        self.searched = self.entries.len();
        if self.entries.len() - self.taken_together > FEW + self.taken_together / 4 {
            self.known = Values { many: self.automaton(0), few: Arc::default() };
            self.taken_together = self.entries.len();
        } else {
            self.known.few = self.automaton(self.taken_together);
        }
        self.known.clone()
    }

    fn automaton(&self, from: usize) -> Arc<Known> {
        let values = self.entries.iter().enumerate().skip(from).map(|(number, entry)| {
            (number, entry.value.as_str(), if entry.exact { Extent::Exact } else { Extent::Every })
        });
        Known::numbered(values).map(Arc::new).unwrap_or_else(|error| {
            tracing::error!(%error, "the secrets of a session cannot be searched for");
            Arc::default()
        })
    }
}
