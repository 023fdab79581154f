//! Reading text files line by line with bounded memory, whatever is in them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek},
    path::Path,
};

use super::unreadable;
use crate::{error::ToolError, text::MAX_LINE_CHARS};

/// Of a line nothing beyond this is looked at: more than any cut line can need.
const MAX_LINE_BYTES: usize = 4 * (MAX_LINE_CHARS + 1);
/// Enough to know a file's type.
const FIRST_BYTES: usize = 8 * 1024;

/// A file that was opened for its text.
#[derive(Debug)]
pub(super) enum Opened {
    Text(Lines),
    /// Its type, as far as it is known, and its size.
    Binary(&'static str, u64),
}

/// The lines of a file, one after the other.
#[derive(Debug)]
pub(super) struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
    /// The rest of the last line is still to be passed over.
    inside_line: bool,
}

/// Opens a regular file. A pipe or a device would block or never end.
pub(super) fn open(path: &Path) -> Result<Opened, ToolError> {
    let metadata = path.metadata().map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(ToolError::new("READ_ERROR", format!("{} is no regular file", path.display())));
    }
    read_first(path, metadata.len()).map_err(|error| unreadable(path, &error))
}

fn read_first(path: &Path, size: u64) -> io::Result<Opened> {
    let mut file = File::open(path)?;
    let mut first = Vec::with_capacity(FIRST_BYTES);
    file.by_ref().take(FIRST_BYTES as u64).read_to_end(&mut first)?;
    if first.contains(&0) {
        let kind = infer::get(&first).map_or("application/octet-stream", |kind| kind.mime_type());
        return Ok(Opened::Binary(kind, size));
    }
    file.rewind()?;
    Ok(Opened::Text(Lines { reader: BufReader::with_capacity(64 * 1024, file), line: Vec::new(), inside_line: false }))
}

impl Lines {
    /// The next line without its end, or nothing at the end of the file. Of a line over [`MAX_LINE_BYTES`] only the start.
    pub(super) fn next(&mut self) -> io::Result<Option<String>> {
        self.finish_line()?;
        self.line.clear();
        let limit = MAX_LINE_BYTES as u64;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        self.inside_line = self.line.last() != Some(&b'\n');
        let text = String::from_utf8_lossy(&self.line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(Some(text.strip_suffix('\r').unwrap_or(text).to_owned()))
    }

    /// Passes over a line without looking at it; false at the end of the file.
    pub(super) fn skip(&mut self) -> io::Result<bool> {
        self.finish_line()?;
        Ok(self.reader.skip_until(b'\n')? > 0)
    }

    fn finish_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.inside_line) {
            self.reader.skip_until(b'\n')?;
        }
        Ok(())
    }
}
