//! `create`: a new file, never over an old one.

use std::{fs, io, path::Path};

use super::write;
use crate::{arguments::Create, error::ToolError, text::count_lines};

pub(crate) fn create(arguments: &Create, path: &Path) -> Result<String, ToolError> {
    // `symlink_metadata`: a link that leads nowhere is there, too.
    if path.symlink_metadata().is_ok() {
        return Err(exists(path));
    }
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => ToolError::new("WRITE_ERROR", format!("{} was not created: {error}", path.display())),
    };
    if arguments.path.ends_with('/') {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .map_err(|error| ToolError::new("WRITE_ERROR", format!("{} cannot be made: {error}", parent.display())))?;
    }
    write::create_new(path, arguments.file_text.as_bytes()).map_err(failed)?;
    let (lines, bytes) = (count_lines(&arguments.file_text), arguments.file_text.len());
    Ok(format!("Created {} ({lines} lines, {bytes} bytes)", path.display()))
}

fn exists(path: &Path) -> ToolError {
    ToolError::new(
        "FILE_EXISTS",
        format!("{} is already there: change it with str_replace, or choose another name", path.display()),
    )
}
