//! Writing a file whole or not at all: a temporary file beside it, on disk before it gets the name.

use std::{
    fs::{self, File, Metadata, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::Path,
};

use tempfile::NamedTempFile;

/// Makes a file that does not exist yet; [`io::ErrorKind::AlreadyExists`] if it does. The umask decides its mode.
pub(super) fn create_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = directory_of(path);
    let mut file = temporary(directory)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    sync_directory(directory)
}

/// Replaces a file's content; mode and owner stay.
pub(super) fn replace(path: &Path, text: &[u8], old: &Metadata) -> io::Result<()> {
    let directory = directory_of(path);
    let mut file = temporary(directory)?;
    file.write_all(text)?;
    let new = file.as_file().metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
    }
    // After the owner: changing that takes set-user-id bits away.
    fs::set_permissions(file.path(), old.permissions())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_directory(directory)
}

fn temporary(directory: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(".stakpak-").permissions(Permissions::from_mode(0o666)).tempfile_in(directory)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// A rename is durable once its directory is.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_came_in_between_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "theirs").expect("a file");
        let error = create_new(&path, b"ours").expect_err("is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).expect("text"), "theirs");
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
    }
}
