//! The whole of a long output, in a file that `view` can read.

use std::{
    fs::DirBuilder,
    io,
    io::Write as _,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use stakpak_protocol::ToolCallId;
use tokio::{fs::File, io::AsyncWriteExt, task::spawn_blocking};

/// A file name that starts so, in a session's directory, is an artefact.
pub(crate) const ARTEFACT_PREFIX: &str = "tool-output.";
/// More is counted, not kept.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Written from the moment an output is too long for memory.
#[derive(Debug)]
pub(crate) enum Spool {
    /// Nothing written yet.
    Waiting { directory: PathBuf, call: ToolCallId },
    /// The file, only for its owner.
    Open { file: File, path: PathBuf, written: u64, dropped: u64 },
    /// It could not be written; why.
    Failed(io::Error),
}

impl Spool {
    pub(crate) fn new(directory: PathBuf, call: ToolCallId) -> Self {
        Self::Waiting { directory, call }
    }

    /// Of a task: in this file, which is there, from the first byte on.
    pub(crate) async fn of_task(path: PathBuf) -> io::Result<Self> {
        let file = File::options().append(true).open(&path).await?;
        Ok(Self::Open { file, path, written: 0, dropped: 0 })
    }

    /// Whether everything is written to the file.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Appends; the first append makes the file.
    pub(crate) async fn append(&mut self, text: &str) {
        if let Self::Waiting { directory, call } = self {
            let (directory, call) = (std::mem::take(directory), call.clone());
            *self = match spawn_blocking(move || create(directory, &call)).await {
                Ok(Ok((file, path))) => Self::Open { file: File::from_std(file), path, written: 0, dropped: 0 },
                Ok(Err(error)) => Self::Failed(error),
                Err(error) => Self::Failed(io::Error::other(error)),
            };
        }
        let Self::Open { file, written, dropped, .. } = self else { return };
        let size = text.len() as u64;
        if *dropped > 0 || *written + size > MAX_FILE {
            *dropped += size;
            return;
        }
        match file.write_all(text.as_bytes()).await {
            Ok(()) => *written += size,
            Err(error) => *self = Self::Failed(error),
        }
    }

    /// Says where the whole output is.
    pub(crate) async fn finish(mut self) -> String {
        if let Self::Open { file, .. } = &mut self
            && let Err(error) = file.flush().await
        {
            self = Self::Failed(error);
        }
        match self {
            Self::Waiting { .. } => String::new(),
            Self::Open { path, dropped: 0, .. } => all_of_it(&path),
            Self::Open { path, written, .. } => {
                format!("Its first {written} bytes: {} (use view with view_range or grep)", path.display())
            }
            Self::Failed(error) => format!("The whole could not be kept ({error}); run it again with less output"),
        }
    }
}

/// What of a call's id can be in a file name: a provider may have made it up.
pub(crate) fn file_name(call: &ToolCallId) -> String {
    call.as_str().chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(64).collect()
}

/// Keeps a text that a person said, durably.
pub(crate) fn keep_text(directory: PathBuf, text: &str) -> io::Result<PathBuf> {
    let (mut file, path) = create_named(directory, "user.message.")?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(path)
}

/// A file for the output of a task.
pub(crate) fn create_for_task(directory: PathBuf, task: &str) -> io::Result<PathBuf> {
    create_named(directory, &format!("stakpak.run_command_task.{task}.")).map(|(_, path)| path)
}

/// Keeps a web page that is too long for the context. Says where it is.
pub(crate) async fn keep_page(directory: PathBuf, call: &ToolCallId, page: String) -> String {
    let name = format!("stakpak.view_web_page.{}.", file_name(call));
    let kept = spawn_blocking(move || {
        let (mut file, path) = create_named(directory, &name)?;
        file.write_all(page.as_bytes())?;
        Ok(path)
    });
    match kept.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(path) => all_of_it(&path),
        Err(error) => format!("The whole could not be kept ({error})"),
    }
}

fn all_of_it(path: &Path) -> String {
    format!("All of it: {} (use view with view_range or grep)", path.display())
}

fn create(directory: PathBuf, call: &ToolCallId) -> io::Result<(std::fs::File, PathBuf)> {
    create_named(directory, &format!("stakpak.run_command.{}.", file_name(call)))
}

fn create_named(directory: PathBuf, name: &str) -> io::Result<(std::fs::File, PathBuf)> {
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    // A random part makes it one of a kind.
    let file =
        tempfile::Builder::new().prefix(&format!("{ARTEFACT_PREFIX}{name}")).suffix(".txt").tempfile_in(directory)?;
    Ok(file.keep()?)
}
