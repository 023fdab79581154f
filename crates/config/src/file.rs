//! Private files: written whole or not at all, readable by their owner only.
//!
//! Invariants: a reader sees the old content or the new one, also after a crash; a file made here has mode
//! 0600 and a directory 0700 whatever the umask; a symbolic link stays one, its target is written.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// As the kernel: more links than this are taken for a loop.
const MAX_LINKS: usize = 40;

/// Why a private file or directory could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    pub(crate) fn doing(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

/// Writes a file (0600) in one step, replacing what is there. The one way to write a private file.
///
/// # Errors
/// The file is then as it was.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let target = target(path)?;
    let staged = stage(&target, bytes)?;
    replace(staged, &target)
}

/// Writes `template` (0600) unless there is a file; says whether it did.
///
/// # Errors
/// Nothing was written.
pub fn create_if_absent(path: &Path, template: &str) -> Result<bool, FileError> {
    let target = target(path)?;
    // Nothing has to be written then, so a full disk is no reason to fail.
    if fs::symlink_metadata(&target).is_ok() {
        return Ok(false);
    }
    match stage(&target, template.as_bytes())?.persist_noclobber(&target) {
        Ok(_) => sync_directory(&target).map(|()| true),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(refused) => Err(FileError::doing("create", &target)(refused.error)),
    }
}

/// Makes a directory (0700) and those above it that are missing. One that exists is left as it is: it may be
/// shared on purpose.
///
/// # Errors
/// The directory is not there.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        private_dir(above)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        // The umask may have taken bits away that the owner needs.
        Ok(()) => {
            fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(FileError::doing("set the mode of", path))
        }
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(FileError::doing("create", path)(error)),
    }
}

/// The path that a chain of symbolic links ends at, whether there is a file or not.
pub(crate) fn target(path: &Path) -> Result<PathBuf, FileError> {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = directory(&target).join(next),
            // Not a link, or nothing there.
            Err(_) => return Ok(target),
        }
    }
    Err(FileError::doing("follow", path)(io::Error::other("too many symbolic links")))
}

pub(crate) fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Puts `bytes` on disk beside `target`, under another name.
pub(crate) fn stage(target: &Path, bytes: &[u8]) -> Result<NamedTempFile, FileError> {
    let write = || {
        let mut staged = tempfile::Builder::new()
            .prefix(".stakpak-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(directory(target))?;
        staged.as_file().set_permissions(Permissions::from_mode(0o600))?;
        staged.write_all(bytes)?;
        staged.as_file().sync_all()?;
        Ok(staged)
    };
    write().map_err(FileError::doing("write", target))
}

pub(crate) fn replace(staged: NamedTempFile, target: &Path) -> Result<(), FileError> {
    staged.persist(target).map_err(|refused| FileError::doing("replace", target)(refused.error))?;
    sync_directory(target)
}

/// Makes the name durable, not only the content.
fn sync_directory(target: &Path) -> Result<(), FileError> {
    let directory = directory(target);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(FileError::doing("sync", directory))
}
