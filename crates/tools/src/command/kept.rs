//! What is kept of an output in memory: all of it while it is small, then its head and its tail.

use crate::text::{self, MAX_BYTES, MAX_LINES};

const HEAD_LINES: usize = 50;
const HEAD_BYTES: usize = 16 * 1024;
const TAIL_LINES: usize = 250;
const TAIL_BYTES: usize = 48 * 1024;

/// Holds at most [`MAX_BYTES`] and twice the tail, whatever is pushed.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes: u64,
    newlines: u64,
    ends_with_newline: bool,
    text: Text,
}

#[derive(Debug)]
enum Text {
    Whole(String),
    Ends { head: String, tail: String },
}

/// What [`Kept::push`] changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// It still fits.
    No,
    /// It has become too long: everything so far.
    Now(String),
    /// It was too long before.
    Before,
}

impl Default for Kept {
    fn default() -> Self {
        Self { bytes: 0, newlines: 0, ends_with_newline: true, text: Text::Whole(String::new()) }
    }
}

impl Kept {
    pub(crate) fn push(&mut self, piece: &str) -> Overflow {
        self.bytes += piece.len() as u64;
        self.newlines += piece.matches('\n').count() as u64;
        self.ends_with_newline = piece.ends_with('\n');
        let too_long = self.bytes > MAX_BYTES as u64 || self.lines() > MAX_LINES as u64;
        match &mut self.text {
            Text::Whole(whole) => {
                whole.push_str(piece);
                if !too_long {
                    return Overflow::No;
                }
                let whole = std::mem::take(whole);
                let head = text::head(&whole, HEAD_LINES, HEAD_BYTES);
                let tail = text::tail(&whole[head.len()..], TAIL_LINES, TAIL_BYTES).to_owned();
                self.text = Text::Ends { head: head.to_owned(), tail };
                Overflow::Now(whole)
            }
            Text::Ends { tail, .. } => {
                tail.push_str(piece);
                if tail.len() > 2 * TAIL_BYTES {
                    *tail = text::tail(tail, TAIL_LINES, TAIL_BYTES).to_owned();
                }
                Overflow::Before
            }
        }
    }

    fn lines(&self) -> u64 {
        self.newlines + u64::from(!self.ends_with_newline)
    }

    /// The text for the result; `whereabouts` says where the whole of a long one is.
    pub(crate) fn render(&self, whereabouts: &str) -> String {
        match &self.text {
            Text::Whole(whole) => whole.clone(),
            Text::Ends { head, tail } => {
                let tail = text::tail(tail, TAIL_LINES, TAIL_BYTES);
                let (lines, bytes) = (self.lines(), self.bytes);
                let (first, last) = (text::count_lines(head), text::count_lines(tail));
                let left_out = bytes.saturating_sub((head.len() + tail.len()) as u64);
                let gap = if head.ends_with('\n') { "" } else { "\n" };
                format!(
                    "[{lines} lines, {bytes} bytes of output: the first {first} and the last {last} lines follow. {whereabouts}]\n\
                     {head}{gap}[... {left_out} bytes left out ...]\n{tail}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(lines: usize) -> String {
        (1..=lines).fold(String::new(), |text, line| format!("{text}{line}\n"))
    }

    #[test]
    fn up_to_the_cap_nothing_is_changed() {
        let text = numbered(MAX_LINES);
        let mut kept = Kept::default();
        assert_eq!(kept.push(&text), Overflow::No);
        assert_eq!(kept.render("."), text);
        let long = "x".repeat(MAX_BYTES);
        let mut kept = Kept::default();
        assert_eq!(kept.push(&long), Overflow::No);
        assert_eq!(kept.render("."), long);
    }

    #[test]
    fn beyond_it_head_and_tail_remain_with_true_counts() {
        let mut kept = Kept::default();
        assert_eq!(kept.push(&numbered(300)), Overflow::No);
        assert_eq!(kept.push("301"), Overflow::Now(format!("{}301", numbered(300))));
        assert_eq!(kept.push("\n"), Overflow::Before);
        let text = kept.render("All of it is there.");
        let mut lines = text.lines();
        let size = numbered(301).len();
        assert_eq!(
            lines.next(),
            Some(format!("[301 lines, {size} bytes of output: the first 50 and the last 250 lines follow. All of it is there.]").as_str())
        );
        assert_eq!(lines.nth(49), Some("50"));
        assert_eq!(lines.next(), Some("[... 3 bytes left out ...]"));
        assert_eq!(lines.next(), Some("52"));
        assert_eq!(lines.last(), Some("301"));
    }

    #[test]
    fn memory_does_not_grow_with_the_output() {
        let mut kept = Kept::default();
        for _ in 0..1000 {
            kept.push(&"y\n".repeat(4096));
        }
        let Text::Ends { head, tail } = &kept.text else { panic!("must have overflowed") };
        assert!(head.len() <= HEAD_BYTES && tail.len() <= 2 * TAIL_BYTES, "{} {}", head.len(), tail.len());
        assert_eq!((kept.lines(), kept.bytes), (4_096_000, 8_192_000));
        assert!(kept.render(".").len() < MAX_BYTES + 1024);
    }
}
