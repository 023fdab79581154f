//! Which processes that use the journal are alive: each holds an OS lock on a file that is named after its epoch.
//!
//! Only the lock decides; what the file says is for people. A file appears under its name when its lock is held, so nobody
//! takes a process that is just starting for dead.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use stakpak_agent_core::JournalError;
use stakpak_protocol::SessionId;

/// The owners of a journal, among them this process.
#[derive(Debug)]
pub(crate) struct Owners {
    directory: PathBuf,
    own: Seat,
}

/// This process's lock, and the name it is found under once the epoch is known.
#[derive(Debug)]
struct Seat {
    _lock: File,
    path: PathBuf,
}

impl Owners {
    /// Locks a file that has no epoch yet. `name` is what other processes call this one.
    pub(crate) fn prepare(directory: &Path, name: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(format!("{}.new", uuid::Uuid::new_v4()));
        let mut lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        lock.try_lock()?;
        lock.write_all(name.as_bytes())?;
        Ok(Self { directory: directory.to_owned(), own: Seat { _lock: lock, path } })
    }

    /// From here on sessions of this epoch are this process's, and files of processes that are gone are removed.
    pub(crate) fn take(mut self, epoch: u64) -> io::Result<Self> {
        let path = self.path(epoch);
        fs::rename(&self.own.path, &path)?;
        self.own.path = path;
        self.sweep();
        Ok(self)
    }

    /// Refused while the process lives that wrote to the session last, unless it is the one that wants to.
    pub(crate) fn may_write(&self, session: SessionId, epoch: u64, last: u64) -> Result<(), JournalError> {
        if epoch == last {
            return Ok(());
        }
        self.alive(last).map_or(Ok(()), |owner| Err(JournalError::Elsewhere { session, owner }))
    }

    /// What the process calls itself that holds the lock of this epoch; none when nobody does.
    fn alive(&self, epoch: u64) -> Option<String> {
        read_if_held(&self.path(epoch))
    }

    fn path(&self, epoch: u64) -> PathBuf {
        self.directory.join(format!("{epoch}.lock"))
    }

    /// An epoch is never taken twice: a file whose lock is free says nothing any more.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let left = entries.flatten().map(|entry| entry.path());
        for path in left.filter(|path| path.extension().is_some_and(|end| end == "lock")) {
            if read_if_held(&path).is_none() {
                // Another process may sweep at the same time.
                let _ = fs::remove_file(path);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "not removed");
        }
    }
}

fn read_if_held(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut name = String::new();
            file.read_to_string(&mut name).ok()?;
            Some(name)
        }
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A-P26: a process that is gone owns nothing, and leaves nothing behind.
    #[test]
    fn an_owner_is_alive_while_it_holds_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let owner = |name: &str, epoch| Owners::prepare(folder.path(), name).unwrap().take(epoch).unwrap();
        let (first, second) = (owner("first", 1), owner("second", 2));
        assert_eq!((second.alive(1), first.alive(2)), (Some("first".to_owned()), Some("second".to_owned())));
        assert_eq!(first.alive(7), None);
        drop(first);
        assert_eq!(second.alive(1), None);

        fs::write(folder.path().join("3.lock"), "killed").unwrap();
        let third = owner("third", 4);
        assert_eq!((third.alive(3), third.alive(2)), (None, Some("second".to_owned())));
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
