//! The file of a vault: a header, then one encrypted entry after another.
//!
//! Invariants: only its owner reads it, and only with the key; it is appended to, never rewritten; an entry is on disk before
//! its placeholder is used. An entry that was being written when the machine stopped is cut off; any other that cannot be
//! read makes the whole file unusable, as it is.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::key::Key;

const HEADER: &[u8; 8] = b"STKVLT1\n";
const NONCE: usize = 24;
/// More than any entry.
const LONGEST: usize = 1 << 20;

/// One secret as it is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) rule: String,
    pub(crate) id: String,
    pub(crate) value: Zeroizing<String>,
    /// It is another secret in another form: its own forms are not searched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) exact: bool,
    /// What it was made for; there is one for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) made_for: Option<String>,
}

/// The file, which is made with its first entry.
pub(crate) struct VaultFile {
    path: PathBuf,
    /// Binds entries to their session.
    session: String,
    cipher: XChaCha20Poly1305,
    file: Option<File>,
    entries: u64,
}

impl VaultFile {
    /// Reads what is there.
    pub(crate) fn open(path: PathBuf, session: &str, key: &Key) -> io::Result<(Self, Vec<Stored>)> {
        let cipher = XChaCha20Poly1305::new(&key.bytes().into());
        let mut vault = Self { path, session: session.to_owned(), cipher, file: None, entries: 0 };
        let mut file = match OpenOptions::new().read(true).append(true).open(&vault.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((vault, Vec::new())),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let stored = vault.read(&bytes, &file)?;
        vault.file = Some(file);
        Ok((vault, stored))
    }

    fn read(&mut self, bytes: &[u8], file: &File) -> io::Result<Vec<Stored>> {
        let mut stored = Vec::new();
        let Some(mut rest) = bytes.strip_prefix(HEADER) else {
            if !HEADER.starts_with(bytes) {
                return Err(damaged("no vault"));
            }
            file.set_len(0)?;
            (&*file).write_all(HEADER)?;
            return Ok(stored);
        };
        while !rest.is_empty() {
            let Some((length, behind)) = rest.split_first_chunk::<4>() else { break };
            let length = u32::from_le_bytes(*length) as usize;
            if length > LONGEST {
                return Err(damaged("an entry is too long"));
            }
            let Some((entry, behind)) = behind.split_at_checked(length) else { break };
            stored.push(self.decrypt(entry)?);
            self.entries += 1;
            rest = behind;
        }
        file.set_len((bytes.len() - rest.len()) as u64)?;
        Ok(stored)
    }

    fn decrypt(&self, entry: &[u8]) -> io::Result<Stored> {
        let (nonce, text) = entry.split_first_chunk::<NONCE>().ok_or_else(|| damaged("an entry is too short"))?;
        let payload = Payload { msg: text, aad: &self.place() };
        let plain = self.cipher.decrypt(&XNonce::from(*nonce), payload);
        let plain = Zeroizing::new(plain.map_err(|_| damaged("an entry cannot be decrypted with this key"))?);
        serde_json::from_slice(&plain).map_err(|_| damaged("an entry cannot be read"))
    }

    /// Appends one; it is on disk when this returns.
    pub(crate) fn append(&mut self, stored: &Stored) -> io::Result<()> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        let plain = Zeroizing::new(serde_json::to_vec(stored)?);
        let payload = Payload { msg: &plain, aad: &self.place() };
        let text = self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| damaged("cannot encrypt"))?;
        let length = u32::try_from(NONCE + text.len()).map_err(io::Error::other)?;
        let entry = [length.to_le_bytes().as_slice(), &nonce, &text].concat();
        let file = self.file()?;
        let before = file.metadata()?.len();
        if let Err(error) = file.write_all(&entry).and_then(|()| file.sync_data()) {
            // Half an entry in the middle would make the rest unreadable.
            file.set_len(before)?;
            return Err(error);
        }
        self.entries += 1;
        Ok(())
    }

    /// Where an entry stands: none can be moved to another place or another session.
    fn place(&self) -> Vec<u8> {
        [self.session.as_bytes(), &self.entries.to_le_bytes()].concat()
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            if let Some(directory) = self.path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            let mut file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&self.path)?;
            file.write_all(HEADER)?;
            if let Some(directory) = self.path.parent() {
                File::open(directory)?.sync_all()?;
            }
            self.file = Some(file);
        }
        self.file.as_mut().ok_or_else(|| damaged("it is not open"))
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
