//! Looking at, creating, editing and removing files. All of it blocks and runs off the async workers.

mod create;
mod diff;
mod edit;
mod list;
mod nearest;
mod path;
mod probe;
mod read;
mod remove;
mod search;
mod view;
mod write;

pub(crate) use self::{
    create::create,
    edit::str_replace,
    path::{is_secret, place, question, resolve},
    probe::{probe, probed},
    remove::{Bin, forget_old_backups, remove},
    view::view,
};

use std::{io, path::Path};

use crate::error::ToolError;

/// The error for a file or directory that cannot be read.
fn unreadable(path: &Path, error: &io::Error) -> ToolError {
    if error.kind() == io::ErrorKind::NotFound {
        return ToolError::new(
            "FILE_NOT_FOUND",
            format!("There is no {}: view its directory to see what there is", path.display()),
        );
    }
    ToolError::new("READ_ERROR", format!("{} cannot be read: {error}", path.display()))
}
