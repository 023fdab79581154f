//! The bytes of an event stream, as frames (HTML, "Server-sent events", parsing an event stream).
//!
//! Which frames there are does not depend on how the bytes come; a frame whose empty line did not come is none; the time is
//! linear in the bytes. What is not UTF-8 was damaged on its way: it ends the stream, to be asked for again.

use std::ops::Range;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The last one given, maybe by an earlier frame.
    pub(crate) id: String,
    /// `message` where there is none.
    pub(crate) event: String,
    pub(crate) data: String,
}

/// The bytes are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

/// Bytes on their way to frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// What stands before it is in `next`.
    read: usize,
    /// No line ends between `read` and here.
    searched: usize,
    has_begun: bool,
    /// The last line ended with a carriage return, to which a line feed may belong.
    is_after_return: bool,
    /// Its fields so far; each line of its data ends with a line feed.
    next: Frame,
}

impl Frames {
    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.searched -= self.read;
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame that is whole.
    pub(crate) fn next(&mut self) -> Option<Result<Frame, Damaged>> {
        while let Some(line) = self.line() {
            let Ok(line) = std::str::from_utf8(&self.bytes[line]) else { return Some(Err(Damaged)) };
            let line = if self.has_begun { line } else { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) };
            self.has_begun = true;
            if !line.is_empty() {
                self.next.field(line);
            } else if let Some(frame) = self.next.end() {
                return Some(Ok(frame));
            }
        }
        None
    }

    /// Where the next line is, without its end.
    fn line(&mut self) -> Option<Range<usize>> {
        if self.is_after_return && self.read < self.bytes.len() {
            self.is_after_return = false;
            self.read += usize::from(self.bytes[self.read] == b'\n');
            self.searched = self.read;
        }
        let rest = &self.bytes[self.searched..];
        let Some(length) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.searched = self.bytes.len();
            return None;
        };
        let line = self.read..self.searched + length;
        self.is_after_return = rest[length] == b'\r';
        self.read = line.end + 1;
        self.searched = self.read;
        Some(line)
    }
}

impl Frame {
    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            _ => {}
        }
    }

    /// All of it, if there is data; its id stays for those that follow.
    fn end(&mut self) -> Option<Frame> {
        let Frame { id, event, mut data } = std::mem::take(self);
        self.id.clone_from(&id);
        data.pop()?;
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(Frame { id, event, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: &str, event: &str, data: &str) -> Frame {
        Frame { id: id.to_owned(), event: event.to_owned(), data: data.to_owned() }
    }

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<Frame, Damaged>> {
        let mut frames = Frames::default();
        let mut read = Vec::new();
        for piece in pieces {
            frames.push(piece);
            read.extend(std::iter::from_fn(|| frames.next()));
        }
        read
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let stream = "\u{feff}id: 1\n: keep-alive\nevent: a\ndata: ü\ndata:  b\n\nretry: 5\nunknown\ndata\n\n\
                      event: none\n\nid\r\ndata: x\r\n\r\nid: 2\0\rdata: y\r\r\nid: 3\ndata: torn\n";
        let expected = [frame("1", "a", "ü\n b"), frame("1", "message", ""), frame("", "message", "x")];
        let expected: Vec<_> = expected.into_iter().chain([frame("", "message", "y")]).map(Ok).collect();
        let stream = stream.as_bytes();
        assert_eq!(read([stream]), expected);
        for size in 1..stream.len() {
            assert_eq!(read(stream.chunks(size)), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_came_before_the_damage_is_read() {
        assert_eq!(
            read([&b"data: a\n\ndata: \xff\n\ndata: b\n\n"[..]])[..2],
            [Ok(frame("", "message", "a")), Err(Damaged)]
        );
        assert_eq!(read([&b"data: a\n\ndata: \xc3"[..]]), [Ok(frame("", "message", "a"))], "the rest may follow");
    }
}
