//! Which file says what servers there are, and whether it may.
//!
//! A file of a working directory may come from a stranger's repository, and it names programs to start: it counts only
//! when its very bytes were trusted.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use stakpak_config::{FileError, write_private};

use crate::{
    names::hex,
    settings::{ServerTable, SettingsError, parse},
};

const TRUSTED: &str = "mcp-trusted.json";
const NAMES: [&str; 2] = ["mcp.toml", "mcp.json"];

/// A file that says what servers there are.
#[derive(Debug)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// The servers in it, as they are written.
    pub servers: BTreeMap<String, ServerTable>,
    hash: String,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The file that counts.
    pub file: Option<File>,
    /// A file of the working directory that would count, were it trusted.
    pub untrusted: Option<File>,
}

/// Why a file does not count.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It says nothing that can be used.
    #[error("{}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: SettingsError,
    },
}

/// `./mcp.*`, `./.stakpak/mcp.*`, then `mcp.*` of the state directory; the first that is there, and is trusted if it is of the
/// working directory.
///
/// # Errors
/// The first file that is there cannot be used.
pub fn find(workdir: &Path, home: &Path) -> Result<Found, PlaceError> {
    let mut found = Found::default();
    for directory in [workdir.to_owned(), workdir.join(".stakpak"), home.to_owned()] {
        let Some(file) = first_in(&directory)? else { continue };
        let is_ours = same(&directory, home);
        if is_ours || trusted(home).get(&key(&file.path)) == Some(&file.hash) {
            found.file = Some(file);
            return Ok(found);
        }
        found.untrusted.get_or_insert(file);
    }
    Ok(found)
}

/// Trusts the file as it is now.
///
/// # Errors
/// It cannot be remembered.
pub fn trust(file: &File, home: &Path) -> Result<(), FileError> {
    let mut all = trusted(home);
    all.insert(key(&file.path), file.hash.clone());
    let bytes = serde_json::to_vec_pretty(&all).unwrap_or_default();
    write_private(&state(home).join(TRUSTED), &bytes)
}

fn state(home: &Path) -> PathBuf {
    home.join("autopilot")
}

fn trusted(home: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(state(home).join(TRUSTED)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn first_in(directory: &Path) -> Result<Option<File>, PlaceError> {
    for name in NAMES {
        let path = directory.join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(source) => return Err(PlaceError::Read { path, source }),
        };
        let hash = hex(&Sha256::digest(&text));
        let servers =
            parse(&text, name.ends_with("json")).map_err(|source| PlaceError::Parse { path: path.clone(), source })?;
        return Ok(Some(File { path, servers, hash }));
    }
    Ok(None)
}

fn key(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

fn same(a: &Path, b: &Path) -> bool {
    key(a) == key(b)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    const GIT: &str = "[mcpServers.git]\ncommand = \"git-mcp\"\n";

    fn directories() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (work, home) = (root.path().join("work"), root.path().join("home"));
        fs::create_dir_all(work.join(".stakpak")).unwrap();
        fs::create_dir_all(home.join("autopilot")).unwrap();
        (root, work, home)
    }

    fn counting(found: &Found) -> Vec<&str> {
        found.file.iter().flat_map(|file| file.servers.keys().map(String::as_str)).collect()
    }

    /// C-P61
    #[test]
    fn a_file_of_a_working_directory_counts_only_as_it_was_trusted() {
        let (_root, work, home) = directories();
        fs::write(home.join("mcp.json"), r#"{"mcpServers": {"docs": {"url": "https://docs"}}}"#).unwrap();
        fs::write(work.join("mcp.toml"), GIT).unwrap();
        let found = find(&work, &home).unwrap();
        assert_eq!(counting(&found), ["docs"]);
        let untrusted = found.untrusted.unwrap();
        assert_eq!(untrusted.path, work.join("mcp.toml"));

        trust(&untrusted, &home).unwrap();
        let found = find(&work, &home).unwrap();
        assert_eq!((counting(&found), found.untrusted.is_none()), (vec!["git"], true));

        fs::write(work.join("mcp.toml"), GIT.replace("git-mcp", "evil")).unwrap();
        let found = find(&work, &home).unwrap();
        assert_eq!((counting(&found), found.untrusted.is_some()), (vec!["docs"], true));
    }

    #[test]
    fn the_nearest_file_counts_and_one_of_the_state_directory_needs_no_trust() {
        let (_root, work, home) = directories();
        assert!(find(&work, &home).unwrap().file.is_none());
        fs::write(work.join(".stakpak/mcp.toml"), GIT).unwrap();
        assert!(find(&work, &home).unwrap().file.is_none());
        assert_eq!(counting(&find(&work, &work.join(".stakpak")).unwrap()), ["git"]);
        fs::write(work.join("mcp.toml"), "[mcpServers").unwrap();
        assert!(matches!(find(&work, &home), Err(PlaceError::Parse { .. })));
    }
}
