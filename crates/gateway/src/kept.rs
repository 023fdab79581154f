//! What people and programs wrote, as it is kept until the server has it: with placeholders for secrets, which are in an
//! encrypted file beside the store.
//!
//! Invariants: nothing is lost by it, since a placeholder is given out when its secret is on disk; the server gets the text
//! as it was written, the same in every attempt; a text that names a placeholder of somebody else stays as it is. A file
//! holds what was written into one chat on one day, so that it can go when those texts have gone.

use std::{
    borrow::Cow,
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};
use stakpak_redact::{Grant, Redactor, Vaults, replace_placeholders};

use crate::{
    Address,
    store::{GatewayStore, Payload, RunOptions, StoreError},
};

const DAY_MS: i64 = 24 * 3_600_000;
/// A file that was written to since is not looked at.
const YOUNG: Duration = Duration::from_secs(8 * 24 * 3600);
const FILES: &str = "vault";

/// The secrets of what is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    vaults: Arc<Vaults>,
    redactor: Redactor,
    directory: PathBuf,
}

impl Kept {
    /// Beside the store, and gone with it.
    pub(crate) fn beside(store: &Path, redactor: Redactor) -> Self {
        let directory = store.with_extension("secrets");
        let key_file = store.with_extension("secrets.key");
        Self { vaults: Arc::new(Vaults::new(directory.clone(), key_file, redactor.clone())), redactor, directory }
    }

    /// The text of a payload and its context, as they are kept. Writes a file if they hold secrets.
    pub(crate) async fn hide(&self, payload: Payload, address: &Address, now: i64) -> Payload {
        let is_clean = self.is_clean(&payload.text) && self.are_clean(&payload.options);
        if is_clean {
            return payload;
        }
        let (kept, vault) = (self.clone(), vault_of(address, now));
        let (text, written) = (self.redactor.redact(&payload.text).into_owned(), payload.clone());
        let hidden = tokio::task::spawn_blocking(move || {
            let text = kept.vaults.hide(&vault, &written.text).into_owned();
            let options = kept.hide_context(written.options.clone(), &vault);
            Payload { text, vault: Some(vault), options, ..written }
        });
        // Only a panic ends it early: then the text is kept without its secrets.
        hidden.await.unwrap_or(Payload { text, options: RunOptions::default(), ..payload })
    }

    /// The same for what a run is made from. Blocks where there are secrets.
    pub(crate) fn hide_options(&self, options: RunOptions, address: &Address, now: i64) -> RunOptions {
        if self.are_clean(&options) { options } else { self.hide_context(options, &vault_of(address, now)) }
    }

    /// What was written, for the server alone.
    pub(crate) fn reveal<'t>(&self, vaults: &[String], text: &'t str) -> Cow<'t, str> {
        let Ok(revealed) = replace_placeholders::<_, Infallible>(text, |placeholder| {
            let value = |vault: &String| self.vaults.restore(vault, placeholder.text, Grant::All).ok();
            Ok(vaults.iter().find_map(value))
        });
        revealed
    }

    /// The context of a run as it was written.
    pub(crate) fn reveal_options(&self, mut options: RunOptions, vaults: &[String]) -> RunOptions {
        let vaults: Vec<String> = options.vault.iter().chain(vaults).cloned().collect();
        for entry in &mut options.context {
            entry.content = self.reveal(&vaults, &entry.content).into_owned();
        }
        options
    }

    /// Removes the secrets of texts that are gone.
    ///
    /// # Errors
    /// The store cannot say which those are.
    pub(crate) async fn prune(&self, store: &GatewayStore) -> Result<(), StoreError> {
        for vault in self.old() {
            if !store.has_text_of(&vault).await?
                && let Err(error) = self.vaults.forget(&vault)
            {
                tracing::warn!(%error, vault, "the secrets of old messages could not be removed");
            }
        }
        Ok(())
    }

    fn old(&self) -> Vec<String> {
        let files = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let is_old = |file: &fs::DirEntry| {
            let written = file.metadata().and_then(|metadata| metadata.modified()).ok();
            written.and_then(|written| SystemTime::now().duration_since(written).ok()).is_some_and(|age| age > YOUNG)
        };
        let paths = files.filter(is_old).map(|file| file.path());
        let vaults = paths.filter(|path| path.extension().is_some_and(|extension| extension == FILES));
        vaults.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
    }

    fn is_clean(&self, text: &str) -> bool {
        matches!(self.redactor.redact(text), Cow::Borrowed(_))
    }

    fn are_clean(&self, options: &RunOptions) -> bool {
        options.context.iter().all(|entry| self.is_clean(&entry.content))
    }

    fn hide_context(&self, mut options: RunOptions, vault: &str) -> RunOptions {
        for entry in &mut options.context {
            entry.content = self.vaults.hide(vault, &entry.content).into_owned();
        }
        RunOptions { vault: Some(vault.to_owned()), ..options }
    }
}

/// The same for all that is written into a chat on a day.
fn vault_of(address: &Address, now: i64) -> String {
    let chat: String = Sha256::digest(address.chat_key()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{chat}", now / DAY_MS)
}

#[cfg(test)]
mod tests {
    use stakpak_client::CallerContextInput;

    use super::*;

    const SECRET: &str = "DB_PASSWORD=c0rrect-h0rse%battery";

    fn chat() -> Address {
        Address { channel: "telegram".into(), chat: "1".to_owned(), thread: None, direct: None }
    }

    #[tokio::test]
    async fn what_was_written_comes_back_from_disk_and_others_placeholders_stay() {
        let home = tempfile::tempdir().unwrap();
        let kept = || Kept::beside(&home.path().join("gateway.db"), Redactor::default());
        let context =
            |content: &str| CallerContextInput { name: "c".to_owned(), content: content.to_owned(), priority: None };
        let text = format!("with [REDACTED_SECRET:jwt:abc123] and {SECRET} and again {SECRET}");
        let options = RunOptions { context: vec![context(SECRET)], ..RunOptions::default() };
        let payload = Payload { text: text.clone(), options: options.clone(), ..Payload::default() };

        let hidden = kept().hide(payload, &chat(), 5 * DAY_MS).await;
        let stored = serde_json::to_string(&hidden).unwrap();
        assert!(!stored.contains("battery") && stored.contains("[REDACTED_SECRET:password:"), "{stored}");
        let vaults: Vec<String> = hidden.vault.into_iter().collect();
        assert_eq!(kept().reveal(&vaults, &hidden.text), text);
        assert_eq!(kept().reveal_options(hidden.options, &[]).context, options.context);
        assert_eq!(kept().reveal(&[], &hidden.text), hidden.text, "nobody else has them");

        let clean = Payload { text: "no secret".to_owned(), ..Payload::default() };
        assert_eq!(kept().hide(clean.clone(), &chat(), 0).await, clean);
    }

    #[tokio::test]
    async fn secrets_go_when_their_texts_have_gone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("gateway.db");
        let kept = Kept::beside(&path, Redactor::default());
        let payload = Payload { text: SECRET.to_owned(), ..Payload::default() };
        let hidden = kept.hide(payload, &chat(), 0).await;
        let file = home.path().join("gateway.secrets").join(format!("{}.vault", hidden.vault.clone().unwrap()));
        let store = GatewayStore::open(&path).unwrap();
        let execute = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        kept.prune(&store).await.unwrap();
        assert!(file.exists(), "it is young");
        let long_ago = SystemTime::now() - YOUNG * 2;
        fs::File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
        let stored = serde_json::to_string(&hidden).unwrap();
        execute(&format!(
            "INSERT INTO inbox (channel, account, event_key, kind, routing_key, order_key, payload, received_at, state)
             VALUES ('telegram', '1', 'a', 'message', 'k', 1, '{stored}', 0, 'accepted')"
        ));
        kept.prune(&store).await.unwrap();
        assert!(file.exists(), "a message waits for it");
        execute("UPDATE inbox SET payload = '{\"text\":\"\"}'");
        kept.prune(&store).await.unwrap();
        assert!(!file.exists());
    }
}
