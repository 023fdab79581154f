//! What is on disk of a task: its record, how it ended, and the lock that its shim holds.
//!
//! Invariants: a task is seen when it is whole and locked; it has ended when it has an exit record, which is written once
//! and in one step; one that has neither lock nor exit record lost its shim, and nobody knows how it ended.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stakpak_protocol::SessionId;

use crate::{
    processes::Belongings,
    sandbox::{Owner, remove_leftovers},
};

const ID_LENGTH: usize = 6;
const RECORD: &str = "task.json";
const EXIT: &str = "exit.json";
const LOCK: &str = "lock";
/// A pipe: whoever writes to it tells the shim to end the task.
pub(super) const CONTROL: &str = "control";
/// What the shim has to say when something is wrong with itself.
pub(super) const LOG: &str = "shim.log";
/// Of a directory that is no task yet.
const UNFINISHED: &str = ".new-";

/// A task as it was started. Its texts have no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) command: String,
    pub(super) description: Option<String>,
    pub(super) start_time: DateTime<Utc>,
    /// Seconds.
    pub(super) timeout: Option<u64>,
    /// The file with its output.
    pub(super) output: PathBuf,
    /// Which of the programs that share the directory started it.
    pub(super) host: String,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exit {
    pub(super) status: Ended,
    /// For people: exit code, signal, what else is to be said.
    pub(super) note: String,
    pub(super) end_time: DateTime<Utc>,
}

/// The states a task stays in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ended {
    Completed,
    Failed,
    Cancelled,
    TimedOut,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    Running,
    Ended(Exit),
}

impl Status {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Ended(exit) => match exit.status {
                Ended::Completed => "Completed",
                Ended::Failed => "Failed",
                Ended::Cancelled => "Cancelled",
                Ended::TimedOut => "TimedOut",
            },
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }
}

/// A task of a session. All of it blocks.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) session: SessionId,
    pub(super) directory: PathBuf,
    pub(super) record: Record,
}

/// A task that nobody sees yet. Dropped, it never was one.
pub(super) struct Draft {
    directory: tempfile::TempDir,
    pub(super) record: Record,
    /// Locked; whoever has it is the shim.
    pub(super) lock: File,
}

impl Draft {
    /// In the directory of a session's tasks, which is there.
    pub(super) fn new(tasks: &Path, record: Record) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(tasks)?;
        write(directory.path(), RECORD, &record)?;
        let lock = File::create_new(directory.path().join(LOCK))?;
        lock.lock()?;
        nix::unistd::mkfifo(
            &directory.path().join(CONTROL),
            nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR,
        )?;
        Ok(Self { directory, record, lock })
    }

    /// Gives the task its name: from here on it is seen. What comes back is the lock.
    pub(super) fn publish(self, session: SessionId, tasks: &Path) -> io::Result<(Task, File)> {
        let Self { directory, record, lock } = self;
        let place = tasks.join(&record.id);
        fs::rename(directory.path(), &place)?;
        // It has another name now, so there is nothing to remove.
        let _ = directory.keep();
        File::open(tasks)?.sync_all()?;
        Ok((Task { session, directory: place, record }, lock))
    }
}

impl Task {
    /// The task of this id; none if the session has no such task.
    pub(super) fn find(tasks: &Path, session: SessionId, id: &str) -> Option<Self> {
        if !is_id(id) {
            return None;
        }
        let directory = tasks.join(id);
        let record = read(&directory, RECORD)?;
        Some(Self { session, directory, record })
    }

    /// All tasks of the session, newest first.
    pub(super) fn all(tasks: &Path, session: SessionId) -> Vec<Self> {
        let entries = fs::read_dir(tasks).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut all: Vec<Self> = names.filter_map(|id| Self::find(tasks, session, &id)).collect();
        all.sort_by(|a, b| (b.record.start_time, &b.record.id).cmp(&(a.record.start_time, &a.record.id)));
        all
    }

    pub(super) fn status(&self) -> Status {
        // The record comes before the lock goes, so it is looked for again behind the lock.
        if let Some(exit) = self.exit() {
            return Status::Ended(exit);
        }
        let Ok(lock) = File::open(self.directory.join(LOCK)) else { return Status::Ended(Exit::unknown()) };
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => Status::Running,
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, task = self.record.id, "a task's lock cannot be looked at");
                Status::Running
            }
            Ok(()) => Status::Ended(self.exit().unwrap_or_else(|| self.give_up())),
        }
    }

    /// The shim is gone: what is left of the task is ended, and that is recorded. The lock is held here.
    fn give_up(&self) -> Exit {
        let ended = Belongings::of_task(&self.record.id, self.session, None).end().len();
        tracing::info!(task = self.record.id, processes = ended, "a task lost its shim");
        remove_leftovers(Owner::Task(self.session, &self.record.id));
        let exit = Exit::unknown();
        self.end(&exit);
        exit
    }

    fn exit(&self) -> Option<Exit> {
        read(&self.directory, EXIT)
    }

    /// Records the end, once.
    pub(super) fn end(&self, exit: &Exit) {
        if let Err(error) = write(&self.directory, EXIT, exit) {
            tracing::error!(%error, task = self.record.id, "the end of a task cannot be recorded");
        }
    }

    /// Forgets the task and its output.
    pub(super) fn remove(&self) -> io::Result<()> {
        for removed in [fs::remove_file(&self.record.output), fs::remove_dir_all(&self.directory)] {
            match removed {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }
}

impl Exit {
    pub(super) fn now(status: Ended, note: String) -> Self {
        Self { status, note, end_time: Utc::now() }
    }

    fn unknown() -> Self {
        let note = "outcome unknown: the process that kept the task is gone. Look at what the command changes before it is \
                    run again";
        Self::now(Ended::Failed, note.to_owned())
    }
}

/// Six characters, not in use in the directory.
pub(super) fn fresh_id(tasks: &Path) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    loop {
        let id: String = (0..ID_LENGTH).map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())])).collect();
        if !tasks.join(&id).exists() {
            return id;
        }
    }
}

pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn read<T: for<'de> Deserialize<'de>>(directory: &Path, name: &str) -> Option<T> {
    let bytes = fs::read(directory.join(name)).ok()?;
    let read = serde_json::from_slice(&bytes);
    read.inspect_err(|error| tracing::error!(%error, directory = %directory.display(), name, "a task cannot be read"))
        .ok()
}

/// Whole or not at all, and on disk.
fn write(directory: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.as_file().sync_all()?;
    file.persist(directory.join(name))?;
    File::open(directory)?.sync_all()
}
