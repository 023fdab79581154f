//! The file of a vault: a header, then one encrypted entry after another.
//!
//! Invariants: only its owner reads it, and only with the key; it is appended to, never rewritten, by one process at a time;
//! an entry is on disk before its placeholder is used. An entry that was being written when the machine stopped is cut off; any other that cannot be
//! read makes the whole file unusable, as it is.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
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

/// The file, which is made with its first entry. Other processes may append to it too.
pub(crate) struct VaultFile {
    path: PathBuf,
    /// Binds entries to their session.
    session: String,
    cipher: XChaCha20Poly1305,
    file: Option<File>,
    entries: u64,
    /// Bytes that were read or written here.
    read: u64,
}

/// The right to change the file, against other processes.
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of a vault is given back late");
        }
    }
}

impl VaultFile {
    /// Reads what is there.
    pub(crate) fn open(path: PathBuf, session: &str, key: &Key) -> io::Result<(Self, Vec<Stored>)> {
        let cipher = XChaCha20Poly1305::new(&key.bytes().into());
        let mut vault = Self { path, session: session.to_owned(), cipher, file: None, entries: 0, read: 0 };
        let Some(file) = vault.existing()? else { return Ok((vault, Vec::new())) };
        let _lock = locked(file)?;
        let stored = vault.unread()?;
        vault.mend()?;
        Ok((vault, stored))
    }

    /// What has not been read yet: other processes have appended it. An entry that is being written comes later.
    pub(crate) fn unread(&mut self) -> io::Result<Vec<Stored>> {
        let read = self.read;
        let Some(mut file) = self.existing()? else { return Ok(Vec::new()) };
        let length = file.metadata()?.len();
        if length == read {
            return Ok(Vec::new());
        }
        if length < read {
            return Err(damaged("entries are gone"));
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(read))?;
        file.read_to_end(&mut bytes)?;
        self.take(&bytes)
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<Vec<Stored>> {
        let mut stored = Vec::new();
        let mut rest = bytes;
        if self.read == 0 {
            match bytes.strip_prefix(HEADER) {
                Some(entries) => rest = entries,
                None if HEADER.starts_with(bytes) => return Ok(stored),
                None => return Err(damaged("no vault")),
            }
        }
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            if length > LONGEST {
                return Err(damaged("an entry is too long"));
            }
            let Some((entry, behind)) = behind.split_at_checked(length) else { break };
            stored.push(self.decrypt(entry)?);
            self.entries += 1;
            rest = behind;
        }
        self.read += (bytes.len() - rest.len()) as u64;
        Ok(stored)
    }

    /// With the lock held, what is not whole was being written when its process or the machine stopped.
    fn mend(&mut self) -> io::Result<()> {
        let read = self.read;
        let Some(mut file) = self.existing()? else { return Ok(()) };
        if file.metadata()?.len() > read {
            file.set_len(read)?;
        }
        if read == 0 {
            file.write_all(HEADER)?;
            self.read = HEADER.len() as u64;
            if let Some(directory) = self.path.parent() {
                File::open(directory)?.sync_all()?;
            }
        }
        Ok(())
    }

    fn decrypt(&self, entry: &[u8]) -> io::Result<Stored> {
        let (nonce, text) = entry.split_first_chunk::<NONCE>().ok_or_else(|| damaged("an entry is too short"))?;
        let payload = Payload { msg: text, aad: &self.place() };
        let plain = self.cipher.decrypt(&XNonce::from(*nonce), payload);
        let plain = Zeroizing::new(plain.map_err(|_| damaged("an entry cannot be decrypted with this key"))?);
        serde_json::from_slice(&plain).map_err(|_| damaged("an entry cannot be read"))
    }

    /// Keeps other processes from appending. Makes the file.
    pub(crate) fn lock(&mut self) -> io::Result<Lock> {
        if self.existing()?.is_none() {
            if let Some(directory) = self.path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
            self.file = Some(file);
        }
        locked(self.file.as_ref().ok_or_else(|| damaged("it is not open"))?)
    }

    /// Appends one, with the lock held and everything read; it is on disk when this returns.
    pub(crate) fn append(&mut self, _: &Lock, stored: &Stored) -> io::Result<()> {
        self.mend()?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        let plain = Zeroizing::new(serde_json::to_vec(stored)?);
        let payload = Payload { msg: &plain, aad: &self.place() };
        let text = self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| damaged("cannot encrypt"))?;
        let length = u32::try_from(NONCE + text.len()).map_err(io::Error::other)?;
        let entry = [length.to_le_bytes().as_slice(), &nonce, &text].concat();
        let before = self.read;
        let mut file = self.file.as_ref().ok_or_else(|| damaged("it is not open"))?;
        if let Err(error) = file.write_all(&entry).and_then(|()| file.sync_data()) {
            // Half an entry in the middle would make the rest unreadable.
            file.set_len(before)?;
            return Err(error);
        }
        self.read += entry.len() as u64;
        self.entries += 1;
        Ok(())
    }

    /// Where an entry stands: none can be moved to another place or another session.
    fn place(&self) -> Vec<u8> {
        [self.session.as_bytes(), &self.entries.to_le_bytes()].concat()
    }

    /// The file, if somebody has made it.
    fn existing(&mut self) -> io::Result<Option<&File>> {
        if self.file.is_none() {
            match OpenOptions::new().read(true).append(true).open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.file.as_ref())
    }
}

fn locked(file: &File) -> io::Result<Lock> {
    let file = file.try_clone()?;
    file.lock()?;
    Ok(Lock(file))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
