//! What a call changes, as fingerprints of its file: before, and as it will be.
//!
//! A file is as it was, as it will be, or something else: nothing in between, because writes and removals go in one step.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};
use stakpak_agent_core::{Probe, Probed};

use super::{
    edit,
    remove::{Bin, GONE, backup_of, identity, removed, target},
};
use crate::arguments::Arguments;

/// Looks at what the call will change.
pub(crate) fn probe(arguments: &Arguments, path: &Path) -> io::Result<Option<Probe>> {
    let before = fingerprint(arguments, path)?;
    let after = match arguments {
        Arguments::Create(create) if before == GONE => Some(hash(create.file_text.as_bytes())),
        Arguments::StrReplace(change) => edit::plan(change, path).ok().map(|plan| hash(plan.changed.as_bytes())),
        Arguments::Remove(_) => Some(GONE.to_owned()),
        Arguments::Create(_) => None,
        _ => return Ok(None),
    };
    // A call that will be refused changes nothing.
    Ok(Some(Probe { after: after.unwrap_or_else(|| before.clone()), before }))
}

/// How far a call got.
pub(crate) fn probed(arguments: &Arguments, path: &Path, bin: &Bin, probe: &Probe) -> Probed {
    match fingerprint(arguments, path) {
        Ok(now) if now == probe.before => Probed::Untouched,
        Ok(now) if now == probe.after => Probed::Done(done(arguments, path, bin)),
        _ => Probed::Unknown,
    }
}

fn fingerprint(arguments: &Arguments, path: &Path) -> io::Result<String> {
    match arguments {
        Arguments::Remove(_) => identity(&target(path)),
        _ => content(path),
    }
}

fn done(arguments: &Arguments, path: &Path, bin: &Bin) -> String {
    let seen = "the server was restarted meanwhile; the file is as this call leaves it";
    match arguments {
        Arguments::Create(_) => format!("Created {} ({seen})", path.display()),
        Arguments::StrReplace(_) => format!("Changed {} ({seen})", path.display()),
        _ => {
            let target = target(path);
            removed(&target, &backup_of(&target, bin))
        }
    }
}

fn content(path: &Path) -> io::Result<String> {
    match path.metadata() {
        // A link that leads nowhere is there, too.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {
            return Ok(GONE.to_owned());
        }
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_file() => return Ok("no file".to_owned()),
        Ok(_) => {}
    }
    let (mut file, mut digest, mut chunk) = (File::open(path)?, Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(&digest.finalize())),
            size => digest.update(&chunk[..size]),
        }
    }
}

fn hash(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}
