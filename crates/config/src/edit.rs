//! Changing a file that people write too.
//!
//! Invariants: a file that does not parse is not touched; comments, order and spacing outside the edited keys
//! survive byte for byte; edits made here exclude each other across processes; an edit by somebody else in
//! between is seen and the change applied again on top of it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use toml_edit::{DocumentMut, Item, TableLike, Value};

use crate::{
    document::{file_name, text},
    file::{self, FileError},
    finding::Finding,
};

/// Each attempt loses only against a write of somebody else within the milliseconds of a fsync.
const MAX_ATTEMPTS: usize = 20;

/// Why a file was not edited. It is then as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError<E: std::error::Error + 'static> {
    /// The file does not parse (`E001`).
    #[error("a file that does not parse is not edited")]
    Unparsable(#[source] Finding),
    /// The change itself failed.
    #[error("the change was refused")]
    Refused(#[source] E),
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody else keeps writing the file.
    #[error("the file changed again and again while it was being edited")]
    Busy,
}

/// Applies `change` to a TOML file (0600; an absent one counts as empty) and writes it in one step. `change`
/// runs again when somebody else wrote the file meanwhile.
///
/// Blocks while another edit of the file is under way.
///
/// # Errors
/// The file is as it was.
pub fn edit<T, E: std::error::Error + 'static>(
    path: &Path,
    mut change: impl FnMut(&mut DocumentMut) -> Result<T, E>,
) -> Result<T, EditError<E>> {
    rewrite(path, |name, source| {
        let mut document = parse(name, source).map_err(EditError::Unparsable)?;
        let outcome = change(&mut document).map_err(EditError::Refused)?;
        Ok((render(&document, source), outcome))
    })
}

/// As [`edit`], for a file of another format: `change` gets its text and gives the new one.
///
/// # Errors
/// The file is as it was.
pub fn edit_text<T, E: std::error::Error + 'static>(
    path: &Path,
    mut change: impl FnMut(&str) -> Result<(String, T), E>,
) -> Result<T, EditError<E>> {
    rewrite(path, |_, source| change(source).map_err(EditError::Refused))
}

fn rewrite<T, E: std::error::Error + 'static>(
    path: &Path,
    mut change: impl FnMut(&str, &str) -> Result<(String, T), EditError<E>>,
) -> Result<T, EditError<E>> {
    let target = file::target(path)?;
    let _lock = lock(&target)?;
    for _ in 0..MAX_ATTEMPTS {
        let before = read(&target)?;
        let name = file_name(&target);
        let source = text(&name, before.clone().unwrap_or_default()).map_err(EditError::Unparsable)?;
        let (after, outcome) = change(&name, &source)?;
        if source == after {
            return Ok(outcome);
        }
        let staged = file::stage(&target, after.as_bytes())?;
        if read(&target)? == before {
            file::replace(staged, &target)?;
            return Ok(outcome);
        }
    }
    Err(EditError::Busy)
}

/// Sets a key to a value. A comment behind the old value stays, which plain assignment would drop.
pub fn set(table: &mut dyn TableLike, key: &str, value: impl Into<Value>) {
    let mut value = value.into();
    match table.get_mut(key) {
        Some(item) => {
            if let Some(old) = item.as_value() {
                *value.decor_mut() = old.decor().clone();
            }
            *item = Item::Value(value);
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// A lock file of its own: the edited file is replaced and cannot carry the lock. It stays, because removing
/// it would let two holders lock two files of the same name.
fn lock(target: &Path) -> Result<File, FileError> {
    let path = target.with_file_name(format!(".{}.lock", file_name(target)));
    let open = || {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        file.lock()?;
        Ok(file)
    };
    open().map_err(FileError::doing("lock", &path))
}

fn read(target: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(target) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::doing("read", target)(error)),
    }
}

fn parse(name: &str, source: &str) -> Result<DocumentMut, Finding> {
    source.parse().map_err(|error: toml_edit::TomlError| Finding::syntax(name, source, error.span(), error.message()))
}

/// `toml_edit` drops a byte order mark and ends every line with a bare newline; this gives back what `source`
/// has. A file that mixes line ends comes out with bare newlines.
fn render(document: &DocumentMut, source: &str) -> String {
    let mut rendered = document.to_string();
    let all_crlf = source.contains("\r\n") && source.matches('\n').count() == source.matches("\r\n").count();
    if all_crlf {
        rendered = rendered.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    if source.starts_with('\u{feff}') && !rendered.starts_with('\u{feff}') {
        rendered.insert(0, '\u{feff}');
    }
    rendered
}
