//! What is in a directory.

use std::{fs, io, path::Path};

use super::{search::walker, unreadable};
use crate::{error::ToolError, text::MAX_LINES};

const TREE_DEPTH: usize = 3;

/// The names in a directory, sorted.
pub(super) fn entries(directory: &Path) -> Result<String, ToolError> {
    let mut names = names(directory).map_err(|error| unreadable(directory, &error))?;
    names.sort_unstable();
    let header = format!("Directory: {} ({} entries)", directory.display(), names.len());
    Ok(render(header, names.into_iter()))
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(directory)?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            Ok(match fs::read_link(entry.path()) {
                Ok(target) if kind.is_symlink() => format!("{name} -> {}", target.display()),
                _ if kind.is_dir() => format!("{name}/"),
                _ => name,
            })
        })
        .collect()
}

/// Three levels of a directory, without what .gitignore leaves out.
pub(super) fn tree(directory: &Path) -> Result<String, ToolError> {
    fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
    let lines = walker(directory).max_depth(Some(TREE_DEPTH)).build().flatten().filter(|entry| entry.depth() > 0).map(
        |entry| {
            let end = if entry.file_type().is_some_and(|kind| kind.is_dir()) { "/" } else { "" };
            format!("{}{}{end}", "  ".repeat(entry.depth() - 1), entry.file_name().to_string_lossy())
        },
    );
    Ok(render(format!("Directory: {} ({TREE_DEPTH} levels)", directory.display()), lines))
}

fn render(header: String, mut lines: impl Iterator<Item = String>) -> String {
    let mut shown = vec![header];
    shown.extend(lines.by_ref().take(MAX_LINES));
    match lines.count() {
        0 => {}
        more => shown.push(format!("[{more} more; use glob to narrow it down]")),
    }
    shown.join("\n")
}
