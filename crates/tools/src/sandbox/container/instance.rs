//! Whose containers are whose: each process that keeps some has a lock in the state directory, and its containers its label.
//!
//! The lock goes with the process, however it ends. Its file says which engine to ask, and stays until nothing is left.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use stakpak_protocol::SessionId;
use uuid::Uuid;

use super::engine::{Engine, Kind};

const LABEL: &str = "dev.stakpak";
const EXTENSION: &str = "lock";

/// This process among those that keep containers.
#[derive(Debug)]
pub(super) struct Instance {
    id: String,
    _lock: File,
}

/// A process that is gone. Locked, so that one process at a time cleans up behind it.
pub(super) struct Gone {
    pub(super) id: String,
    pub(super) engine: Engine,
    path: PathBuf,
    _lock: File,
}

impl Instance {
    pub(super) fn new(directory: &Path, engine: &Engine) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let id = random_id();
        // It gets its name when it is whole and locked.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
        writeln!(file, "{}\n{}", engine.name(), engine.program().display())?;
        file.as_file().lock()?;
        let lock = file.persist(directory.join(&id).with_extension(EXTENSION)).map_err(|error| error.error)?;
        Ok(Self { id, _lock: lock })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn labels(&self, session: SessionId) -> Vec<String> {
        vec![owner_label(&self.id), format!("{LABEL}.session={session}")]
    }
}

impl Gone {
    /// All that have left something.
    pub(super) fn all(directory: &Path) -> Vec<Self> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| Self::of(entry.path())).collect()
    }

    fn of(path: PathBuf) -> Option<Self> {
        let id = path.file_stem()?.to_str()?.to_owned();
        path.extension().filter(|extension| *extension == EXTENSION)?;
        let lock = File::open(&path).ok()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return None,
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, path = %path.display(), "a lock of containers cannot be looked at");
                return None;
            }
        }
        let text = fs::read_to_string(&path).ok()?;
        let (kind, program) = text.split_once('\n')?;
        let engine = Engine::recorded(Kind::named(kind)?, PathBuf::from(program.trim_end_matches('\n')));
        Some(Self { id, engine, path, _lock: lock })
    }

    /// The label of its containers.
    pub(super) fn label(&self) -> String {
        owner_label(&self.id)
    }

    /// Nothing is left of it.
    pub(super) fn forget(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn owner_label(id: &str) -> String {
    format!("{LABEL}.owner={id}")
}

/// No other container, process or call has it.
pub(super) fn random_id() -> String {
    Uuid::new_v4().simple().to_string()
}
