//! What is added to a log, also when its file is turned.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use super::{entry::Entry, files};
use crate::{args::Component, home::Home};

pub(super) struct Tail {
    part: Component,
    path: PathBuf,
    file: Option<File>,
    /// The begin of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Tail {
    /// What is there by now is not shown.
    pub(super) fn at_end(home: &Home, part: Component) -> io::Result<Self> {
        let path = files::current(home, part);
        let mut file = opened(&path)?;
        if let Some(file) = &mut file {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Self { part, path, file, rest: Vec::new() })
    }

    pub(super) fn more(&mut self) -> io::Result<Vec<Entry>> {
        let mut bytes = std::mem::take(&mut self.rest);
        let there = opened(&self.path)?;
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut bytes)?;
        }
        let is_other = match (&self.file, &there) {
            (Some(file), Some(there)) => file.metadata()?.ino() != there.metadata()?.ino(),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if is_other {
            self.file = there;
            if let Some(file) = &mut self.file {
                file.read_to_end(&mut bytes)?;
            }
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.rest = bytes.split_off(whole);
        let mut entries: Vec<Entry> = Vec::new();
        for line in String::from_utf8_lossy(&bytes).lines() {
            match (Entry::begin(self.part, line), entries.last_mut()) {
                (Some(entry), _) => entries.push(entry),
                (None, Some(entry)) => entry.add(line),
                (None, None) => {}
            }
        }
        Ok(entries)
    }
}

fn opened(path: &PathBuf) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
