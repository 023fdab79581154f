//! Which files are run as checks: scripts that nobody else can have written.

use std::{fmt, fs, io, os::unix::fs::MetadataExt, path::Path};

use nix::unistd::{AccessFlags, access, geteuid};

const WRITABLE_BY_GROUP: u32 = 0o020;
const WRITABLE_BY_OTHERS: u32 = 0o002;

/// A file that may be run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    /// Others of its group can change what is run.
    pub(crate) group_writable: bool,
}

/// Why a file is not run.
#[derive(Debug)]
pub(crate) enum FileProblem {
    Unreadable(io::Error),
    NotRegular,
    NotExecutable,
    ForeignOwner(u32),
    WritableByOthers,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => f.write_str("does not exist"),
            Self::Unreadable(error) => write!(f, "cannot be looked at: {error}"),
            Self::NotRegular => f.write_str("is not a regular file"),
            Self::NotExecutable => f.write_str("is not executable; make it so with chmod +x"),
            Self::ForeignOwner(uid) => {
                write!(f, "belongs to user {uid}; it must belong to the user of this process or to root")
            }
            Self::WritableByOthers => f.write_str("can be changed by every user; take that away with chmod o-w"),
        }
    }
}

/// Looks at the file, behind links.
pub(crate) fn examine(path: &Path) -> Result<Script, FileProblem> {
    let metadata = fs::metadata(path).map_err(FileProblem::Unreadable)?;
    if !metadata.is_file() {
        return Err(FileProblem::NotRegular);
    }
    if metadata.uid() != 0 && metadata.uid() != geteuid().as_raw() {
        return Err(FileProblem::ForeignOwner(metadata.uid()));
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(FileProblem::WritableByOthers);
    }
    if access(path, AccessFlags::X_OK).is_err() {
        return Err(FileProblem::NotExecutable);
    }
    Ok(Script { group_writable: metadata.mode() & WRITABLE_BY_GROUP != 0 })
}
