//! Who works with a store and receives with a bot token: one gateway at a time, on one machine.
//!
//! * Only locks of the operating system decide; they end with their process, however it ends. The files stay and mean nothing.
//! * A store is known by its file, whatever path leads to it, a token by its hash: the state directory is the same for all
//!   stores of a person, so that two stores with one token are found out, too.
//! * Operators' commands open the store beside a gateway and need no lock.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::GatewayConfig;

/// Characters of the hash that names a token's file.
const HASH_LENGTH: usize = 32;

/// Everything that one gateway must have for itself, held for as long as this lives.
#[derive(Debug)]
pub struct Ownership(#[expect(dead_code, reason = "holding the files is holding the locks")] Vec<File>);

/// Why a gateway may not run here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnershipError {
    /// Another gateway works with the store.
    #[error("{} is in use by another gateway{}; stop that one, or give this one another store (`gateway.store`)", .path.display(), of_process(*.process))]
    Store {
        /// The store.
        path: PathBuf,
        /// The other process, if it said so.
        process: Option<u32>,
    },
    /// Another gateway receives with a token.
    #[error("the {channel} bot token is in use by another gateway{}; stop that one, or give this one a bot of its own", of_process(*.process))]
    Token {
        /// The platform.
        channel: &'static str,
        /// The other process, if it said so.
        process: Option<u32>,
    },
    /// A lock cannot be had for another reason.
    #[error("cannot lock {}", .path.display())]
    File {
        /// The file of the lock.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
}

fn of_process(process: Option<u32>) -> String {
    process.map(|process| format!(" (process {process})")).unwrap_or_default()
}

impl Ownership {
    /// Takes the store and every token of the configuration, or nothing. Does not wait.
    ///
    /// # Errors
    /// Another gateway has one of them, or a file cannot be made.
    pub fn claim(config: &GatewayConfig) -> Result<Self, OwnershipError> {
        let store = &config.gateway.store_path;
        let mut files = vec![match lock(&lock_of_store(store)?)? {
            Claim::Ours(file) => file,
            Claim::Theirs(process) => return Err(OwnershipError::Store { path: store.clone(), process }),
        }];
        for (channel, token) in config.channels.tokens() {
            let path = config.gateway.state_dir.join(format!("token-{}.lock", hash(channel, token)));
            match lock(&path)? {
                Claim::Ours(file) => files.push(file),
                Claim::Theirs(process) => return Err(OwnershipError::Token { channel, process }),
            }
        }
        Ok(Self(files))
    }
}

enum Claim {
    Ours(File),
    Theirs(Option<u32>),
}

/// Beside the file itself, wherever links lead to it from.
fn lock_of_store(store: &Path) -> Result<PathBuf, OwnershipError> {
    let named = |path: PathBuf| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        path.with_file_name(name)
    };
    match store.canonicalize() {
        Ok(real) => Ok(named(real)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(named(store.to_owned())),
        Err(source) => Err(OwnershipError::File { path: store.to_owned(), source }),
    }
}

/// The file is never removed: a lock on a file that is gone from its directory excludes nobody.
fn lock(path: &Path) -> Result<Claim, OwnershipError> {
    let failed = |source: io::Error| OwnershipError::File { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Claim::Theirs(owner(file))),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // For people only; without it the lock is as good.
    let noted = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = noted {
        tracing::debug!(%error, "the owner of a lock is not noted");
    }
    Ok(Claim::Ours(file))
}

fn owner(mut file: File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn hash(channel: &str, token: &str) -> String {
    let digest = Sha256::digest(format!("{channel}:{token}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().chars().take(HASH_LENGTH).collect()
}
