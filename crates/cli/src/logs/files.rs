//! The entries of one part, oldest first, through all its files.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind, Read},
    path::PathBuf,
};

use super::entry::Entry;
use crate::{args::Component, home::Home, logging::KEPT_FILES};

pub(super) struct Reader {
    part: Component,
    lines: Box<dyn BufRead>,
    next: Option<Entry>,
}

impl Reader {
    pub(super) fn open(home: &Home, part: Component) -> io::Result<Self> {
        let current = current(home, part);
        let older = (1..=KEPT_FILES).rev().map(|age| current.with_extension(format!("log.{age}")));
        let mut all: Box<dyn Read> = Box::new(io::empty());
        for path in older.chain([current.clone()]) {
            match File::open(path) {
                Ok(file) => all = Box::new(all.chain(file)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { part, lines: Box::new(BufReader::new(all)), next: None })
    }
}

pub(super) fn current(home: &Home, part: Component) -> PathBuf {
    home.logs().join(format!("{}.log", part.name()))
}

impl Iterator for Reader {
    type Item = Entry;

    /// What cannot be read ends it: a log on a broken disk is shown as far as it goes.
    fn next(&mut self) -> Option<Entry> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches(['\n', '\r']);
                match Entry::begin(self.part, text) {
                    Some(entry) => {
                        if let Some(complete) = self.next.replace(entry) {
                            return Some(complete);
                        }
                    }
                    // What comes before the first entry belongs to one that is gone.
                    None => self.next.iter_mut().for_each(|entry| entry.add(text)),
                }
            } else {
                return self.next.take();
            }
        }
    }
}
