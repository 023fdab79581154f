//! The lines of a Markdown text, and which of them are in a code fence.

use super::cut::units;

/// What a line is to a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In none.
    Outside,
    /// Opens the fence of this number.
    Opens(usize),
    /// In it.
    Inside(usize),
    /// Closes it.
    Closes(usize),
}

/// A line with its newline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// First byte.
    pub(super) start: usize,
    /// Byte after the newline.
    pub(super) end: usize,
    pub(super) place: Place,
    pub(super) blank: bool,
}

/// How a fence is closed at a cut and opened again behind it.
#[derive(Debug, Clone)]
pub(super) struct Fence<'a> {
    /// The line that opened it, with the info string.
    pub(super) open: &'a str,
    /// A line that closes it.
    pub(super) close: &'a str,
}

impl Fence<'_> {
    /// What the closing line takes, with the newline before it.
    pub(super) fn close_units(&self) -> usize {
        1 + units(self.close)
    }

    /// What the opening line takes, with its newline.
    pub(super) fn open_units(&self) -> usize {
        units(self.open) + 1
    }
}

/// Room that a fence must leave for its content; with less of it, it is plain text.
const CONTENT_ROOM: usize = 16;

/// Lines of a text and its fences. A fence whose own lines leave no room within `limit` counts as plain text.
pub(super) fn scan(text: &str, limit: usize) -> (Vec<Line>, Vec<Fence<'_>>) {
    let (mut lines, mut fences) = (Vec::new(), Vec::<Fence<'_>>::new());
    let mut open = false;
    let mut start = 0;
    for full in text.split_inclusive('\n') {
        let line = full.trim_end_matches(['\n', '\r']);
        let number = fences.len();
        let place = match fences.last() {
            Some(fence) if open && closes(line, fence.close) && fence.open_units() + units(line) <= limit => {
                open = false;
                Place::Closes(number - 1)
            }
            Some(_) if open => Place::Inside(number - 1),
            _ => match opens(line).filter(|fence| fence.open_units() + fence.close_units() + CONTENT_ROOM <= limit) {
                Some(fence) => {
                    fences.push(fence);
                    open = true;
                    Place::Opens(number)
                }
                None => Place::Outside,
            },
        };
        lines.push(Line { start, end: start + full.len(), place, blank: line.trim().is_empty() });
        start += full.len();
    }
    (lines, fences)
}

fn opens(line: &str) -> Option<Fence<'_>> {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let rest = &line[indent..];
    let mark = rest.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let length = rest.len() - rest.trim_start_matches(mark).len();
    // The info string of a backtick fence has no backtick: otherwise it is code within a line.
    let valid = length >= 3 && (mark == '~' || !rest[length..].contains('`'));
    valid.then(|| Fence { open: line, close: &line[..indent + length] })
}

fn closes(line: &str, close: &str) -> bool {
    let close = close.trim_start_matches(' ');
    let line = line.trim();
    line.len() >= close.len() && line.chars().all(|character| close.starts_with(character))
}
