//! `remove`: a file or directory goes to a backup, never away.
//!
//! Invariants:
//! * What is removed is whole in its backup before it is gone from its place, and it goes in one step.
//! * A link is removed, not what it leads to.
//! * The root, the home, the working directory, the product's own state, and what holds one of them stay.

use std::{
    fs::{self, DirBuilder, File, Metadata},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{path::place, unreadable, write::sync_directory};
use crate::{arguments::Remove, error::ToolError};

/// How long what was removed or changed is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where a call puts what it removes, and what it never removes.
#[derive(Debug, Clone)]
pub(crate) struct Bin {
    /// Of this call: the same when it runs again.
    pub(crate) directory: PathBuf,
    /// With everything that holds one of them.
    pub(crate) stays: Vec<PathBuf>,
}

/// Where the last name of a path stands; a link there is not followed.
pub(crate) fn target(path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => place(parent).join(name),
        _ => place(path),
    }
}

pub(crate) fn remove(arguments: &Remove, path: &Path, bin: &Bin) -> Result<String, ToolError> {
    let target = target(path);
    let metadata = target.symlink_metadata().map_err(|error| unreadable(path, &error))?;
    if let Some(kept) = bin.stays.iter().map(|kept| place(kept)).find(|kept| kept.starts_with(&target)) {
        let what = if kept == target { "is never removed".to_owned() } else { format!("holds {}", kept.display()) };
        let message = format!("{} {what}: remove single files or directories in it", target.display());
        return Err(ToolError::new("PATH_DENIED", message));
    }
    if metadata.is_dir() && !arguments.recursive.unwrap_or(false) {
        let mut entries = fs::read_dir(&target).map_err(|error| unreadable(path, &error))?;
        if entries.next().is_some() {
            let message = format!("{} is not empty: set recursive to remove it with all it holds", target.display());
            return Err(ToolError::new("DIRECTORY_NOT_EMPTY", message));
        }
    }
    let backup = backup_of(&target, bin);
    let failed =
        |error: io::Error| ToolError::new("BACKUP_ERROR", format!("{} was not removed: {error}", target.display()));
    prepare(&backup, bin).map_err(failed)?;
    match fs::rename(&target, &backup) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            move_by_copy(&target, &backup, &metadata).map_err(failed)?;
        }
        moved => moved.map_err(failed)?,
    }
    // It is gone: what is left to do must not say otherwise.
    for directory in [target.parent(), Some(bin.directory.as_path())].into_iter().flatten() {
        if let Err(error) = sync_directory(directory) {
            tracing::warn!(%error, "a removal may not outlive a failure of power");
        }
    }
    Ok(removed(&target, &backup))
}

/// What is said of a call that was done.
pub(crate) fn removed(target: &Path, backup: &Path) -> String {
    let [target, backup] = [target, backup].map(|path| path.display().to_string());
    format!(
        "Removed {target}; it is kept for 7 days\n<file_backups>\n<file original_path=\"{}\" backup_path=\"{}\" \
         location=\"local\"/>\n</file_backups>",
        escaped(&target),
        escaped(&backup)
    )
}

pub(crate) fn backup_of(target: &Path, bin: &Bin) -> PathBuf {
    bin.directory.join(target.file_name().unwrap_or_default())
}

/// What tells a file or directory from any other, and from itself once it was changed.
pub(crate) fn identity(path: &Path) -> io::Result<String> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(GONE.to_owned()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => Ok(format!("directory:{}:{}", metadata.dev(), metadata.ino())),
        Ok(metadata) => {
            let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
            Ok(format!("file:{}:{}:{}:{seconds}.{nanos:09}", metadata.dev(), metadata.ino(), metadata.size()))
        }
    }
}

/// The identity of what is not there.
pub(crate) const GONE: &str = "absent";

/// Keeps the text that a file has before it is changed.
pub(super) fn keep(target: &Path, text: &str, bin: &Bin) -> io::Result<()> {
    let backup = backup_of(target, bin);
    prepare(&backup, bin)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&backup)?;
    let kept = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if kept.is_err() {
        // The file is as it was.
        fs::remove_file(&backup).ok();
    }
    kept.and_then(|()| sync_directory(&bin.directory))
}

/// An empty place for the backup. What is in the way was left by an earlier start of the same call, which did not remove.
fn prepare(backup: &Path, bin: &Bin) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(&bin.directory)?;
    match backup.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) => discard(backup, &metadata),
    }
}

/// To another file system: a whole copy first, then the original goes in one step.
fn move_by_copy(target: &Path, backup: &Path, metadata: &Metadata) -> io::Result<()> {
    let copied = copy(target, backup, metadata).and_then(|()| take_away(target, metadata));
    if copied.is_err() {
        // The original is whole.
        backup.symlink_metadata().and_then(|metadata| discard(backup, &metadata)).ok();
    }
    copied
}

/// A directory gets another name first, so that nobody sees a part of it.
fn take_away(target: &Path, metadata: &Metadata) -> io::Result<()> {
    if !metadata.is_dir() {
        return fs::remove_file(target);
    }
    let name = format!(".stakpak-removed-{:016x}", fastrand::u64(..));
    let aside = target.with_file_name(name);
    fs::rename(target, &aside)?;
    if let Err(error) = fs::remove_dir_all(&aside) {
        tracing::warn!(%error, path = %aside.display(), "a removed directory has left something behind");
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if kind.is_dir() {
        DirBuilder::new().mode(0o700).create(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()), &entry.metadata()?)?;
        }
        fs::set_permissions(to, metadata.permissions())?;
    } else if kind.is_file() {
        fs::copy(from, to)?;
        let copy = File::options().read(true).open(to)?;
        copy.set_modified(metadata.modified()?)?;
        copy.sync_all()?;
    } else {
        return Err(io::Error::other(format!("{} is neither file, directory nor link", from.display())));
    }
    // Only root may give files away.
    lchown(to, Some(metadata.uid()), Some(metadata.gid())).ok();
    Ok(())
}

fn discard(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Removes backups of all sessions whose time is over. `root` holds a directory a session, those one a call.
pub(crate) fn forget_old_backups(root: &Path) {
    let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_old = |path: &PathBuf| {
        let changed = path.symlink_metadata().and_then(|metadata| metadata.modified());
        changed.is_ok_and(|changed| SystemTime::now().duration_since(changed).is_ok_and(|age| age > KEPT))
    };
    for call in entries(root).flat_map(|session| entries(&session).collect::<Vec<_>>()).filter(is_old) {
        if let Err(error) = fs::remove_dir_all(&call) {
            tracing::warn!(%error, path = %call.display(), "an old backup cannot be removed");
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C-P36: what was copied is all there, links as links, and only then the original goes.
    #[test]
    fn a_copy_is_whole_before_the_original_goes() {
        let root = tempfile::tempdir().expect("a directory");
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir_all(from.join("a/b")).expect("a directory");
        fs::write(from.join("a/b/file"), "text").expect("a file");
        symlink("/etc/passwd", from.join("a/link")).expect("a link");
        let metadata = from.symlink_metadata().expect("is there");
        move_by_copy(&from, &to, &metadata).expect("moved");
        assert!(!from.exists());
        assert_eq!(fs::read_to_string(to.join("a/b/file")).expect("text"), "text");
        assert_eq!(fs::read_link(to.join("a/link")).expect("a link"), Path::new("/etc/passwd"));

        fs::create_dir(&from).expect("a directory");
        fs::write(from.join("file"), "text").expect("a file");
        nix::unistd::mkfifo(&from.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let again = root.path().join("again");
        move_by_copy(&from, &again, &from.symlink_metadata().expect("is there")).expect_err("a pipe has no copy");
        assert!(from.join("file").exists() && !again.exists(), "all or nothing");
    }

    #[test]
    fn backups_go_when_their_time_is_over() {
        let root = tempfile::tempdir().expect("a directory");
        let [old, new] = ["session/old", "session/new"].map(|call| root.path().join(call));
        for call in [&old, &new] {
            fs::create_dir_all(call).expect("a directory");
            fs::write(call.join("file"), "").expect("a file");
        }
        let before = SystemTime::now() - KEPT - Duration::from_secs(60);
        File::open(&old).and_then(|directory| directory.set_modified(before)).expect("a time");
        forget_old_backups(root.path());
        assert!(!old.exists() && new.exists());
    }
}
