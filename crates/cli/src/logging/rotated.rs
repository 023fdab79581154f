//! A log file that is kept small: at [`LIMIT`] it becomes `name.log.1` and older ones move on, up to [`KEPT`] of them.
//!
//! A line is never split and never lost over the turn: when the turn fails, such as on a full disk, the old file goes on. Files
//! belong to their owner alone. (Crates that rotate by size panic, split lines, or make files that all can read.)

use std::{
    fs::{File, OpenOptions, remove_file, rename},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Bytes of one file.
pub(super) const LIMIT: u64 = 10 * 1024 * 1024;

/// Older files beside the one that is written.
pub(crate) const KEPT: u32 = 5;

#[derive(Debug)]
pub(super) struct RotatedFile {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl RotatedFile {
    pub(super) fn open(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = owned().append(true).create(true).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, limit })
    }

    /// The new file is there before anything is moved: what fails most likely fails first.
    fn turn(&mut self) -> io::Result<()> {
        let next = self.path.with_extension("log.next");
        let file = owned().append(true).create(true).open(&next)?;
        for age in (1..KEPT).rev() {
            moved(&aged(&self.path, age), &aged(&self.path, age + 1))?;
        }
        moved(&self.path, &aged(&self.path, 1))?;
        rename(&next, &self.path).inspect_err(|_| drop(remove_file(&next)))?;
        (self.file, self.size) = (file, 0);
        Ok(())
    }
}

impl Write for RotatedFile {
    /// One call is one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + line.len() as u64 > self.limit {
            // Tried again with the next line.
            let _ = self.turn();
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn owned() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn aged(path: &Path, age: u32) -> PathBuf {
    path.with_extension(format!("log.{age}"))
}

fn moved(from: &Path, to: &Path) -> io::Result<()> {
    match rename(from, to) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn numbers(directory: &Path, name: &str) -> Vec<u32> {
        let text = fs::read_to_string(directory.join(name)).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// P46: the newest lines are there, whole, each once and in order; the rest is gone; nobody else reads them.
    #[test]
    fn the_newest_files_are_kept_and_no_line_is_lost_between_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.log");
        for number in 1000..1100 {
            // Opened anew in between, as by a restart.
            let mut log = RotatedFile::open(path.clone(), 50).unwrap();
            writeln!(log, "{number}").unwrap();
        }
        let names = ["server.log.5", "server.log.4", "server.log.3", "server.log.2", "server.log.1", "server.log"];
        let kept: Vec<u32> = names.iter().flat_map(|name| numbers(directory.path(), name)).collect();
        assert_eq!(kept, (1040..1100).collect::<Vec<_>>());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), names.len());
        for name in names {
            let meta = fs::metadata(directory.path().join(name)).unwrap();
            assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (50, 0o600), "{name}");
        }
    }

    #[test]
    fn a_line_longer_than_a_file_stays_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.log");
        let mut log = RotatedFile::open(path.clone(), 10).unwrap();
        for line in ["short\n", "much longer than one file\n", "last\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let read = |age| fs::read_to_string(aged(&path, age)).unwrap();
        assert_eq!((read(2).as_str(), read(1).as_str()), ("short\n", "much longer than one file\n"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "last\n");
    }

    #[test]
    fn the_old_file_goes_on_when_it_cannot_turn() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.log");
        let blocked = directory.path().join("server.log.next");
        fs::create_dir(&blocked).unwrap();
        let mut log = RotatedFile::open(path, 5).unwrap();
        for number in [1000, 1001, 1002] {
            writeln!(log, "{number}").unwrap();
        }
        assert_eq!(numbers(directory.path(), "server.log"), [1000, 1001, 1002]);
        fs::remove_dir(&blocked).unwrap();
        writeln!(log, "1003").unwrap();
        assert_eq!(numbers(directory.path(), "server.log.1"), [1000, 1001, 1002]);
        assert_eq!(numbers(directory.path(), "server.log"), [1003]);
    }
}
