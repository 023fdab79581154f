//! What a stream said: its beginning and its end, in bounded memory, redacted.
//!
//! A secret that the cut would split is still found: a rim more than what is shown is kept on each side of it, redacted
//! with the rest, and dropped.

use std::collections::VecDeque;

use stakpak_redact::Redactor;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Shown of the beginning, and of the end.
const SHOWN: usize = 64 * 1024;
const RIM: usize = 4 * 1024;
const KEPT: usize = SHOWN + RIM;
const CHUNK: usize = 64 * 1024;

/// The bytes of a stream, as many as are kept.
#[derive(Debug, Default)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: usize,
}

/// A stream as it is stored.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) truncated: bool,
}

impl Capture {
    /// Reads to the end. An error is an end.
    pub(super) async fn drain(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut chunk = vec![0; CHUNK];
        while let Ok(count @ 1..) = stream.read(&mut chunk).await {
            self.push(&chunk[..count]);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len();
        let (first, rest) = bytes.split_at(bytes.len().min(KEPT - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let too_many = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..too_many);
    }

    /// At most twice [`SHOWN`], bytes that are not UTF-8 replaced.
    pub(super) fn into_text(mut self, redactor: &Redactor) -> Text {
        let redacted = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let redacted = redactor.redact(&text).into_owned();
            (text, redacted)
        };
        let is_whole = self.total == self.head.len() + self.tail.len();
        let tail = self.tail.make_contiguous();
        if is_whole {
            self.head.extend_from_slice(tail);
            let (_, text) = redacted(&self.head);
            return match text.len() <= 2 * SHOWN {
                true => Text { text, truncated: false },
                false => cut(&text, &text),
            };
        }
        let (head, tail) = (redacted(&self.head), redacted(tail));
        cut(without_end_rim(&head), without_start_rim(&tail))
    }
}

/// The beginning of one and the end of the other.
fn cut(head: &str, tail: &str) -> Text {
    const MARKER: &str = "\n[… the middle of the output is left out …]\n";
    let head = &head[..boundary_before(head, SHOWN)];
    let tail = &tail[boundary_after(tail, tail.len().saturating_sub(SHOWN - MARKER.len()))..];
    Text { text: format!("{head}{MARKER}{tail}"), truncated: true }
}

/// What redaction left alone at the end, up to the rim, may be the beginning of a secret.
fn without_end_rim((original, redacted): &(String, String)) -> &str {
    let same = original.bytes().rev().zip(redacted.bytes().rev()).take(RIM).take_while(|(a, b)| a == b).count();
    &redacted[..boundary_before(redacted, redacted.len() - same)]
}

/// What redaction left alone at the start, up to the rim, may be the end of a secret.
fn without_start_rim((original, redacted): &(String, String)) -> &str {
    let same = original.bytes().zip(redacted.bytes()).take(RIM).take_while(|(a, b)| a == b).count();
    &redacted[boundary_after(redacted, same)..]
}

/// The text, its middle left out if it has more characters than that.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let head: String = text.chars().take(most / 2).collect();
    let tail: String = text.chars().skip(count - most / 2).collect();
    format!("{head}\n[… {} characters left out …]\n{tail}", count - most / 2 * 2)
}

fn boundary_before(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

fn boundary_after(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2-hunter2-hunter2";

    fn capture(chunks: impl IntoIterator<Item = Vec<u8>>) -> Text {
        let mut capture = Capture::default();
        for chunk in chunks {
            capture.push(&chunk);
            assert!(capture.head.len() <= KEPT && capture.tail.len() <= KEPT);
        }
        capture.into_text(&Redactor::new([SECRET]).unwrap())
    }

    #[test]
    fn a_short_output_is_whole() {
        let text = capture([b"one\n".to_vec(), vec![0xff], b"two".to_vec()]);
        assert_eq!((text.text.as_str(), text.truncated), ("one\n\u{fffd}two", false));
    }

    #[test]
    fn a_long_output_has_its_beginning_and_its_end() {
        let lines = (0..100_000).map(|line| format!("line {line}\n").into_bytes());
        let text = capture(lines);
        assert!(text.truncated && text.text.len() <= 2 * SHOWN, "{}", text.text.len());
        assert!(text.text.len() > 2 * SHOWN - 100, "{}", text.text.len());
        assert!(text.text.starts_with("line 0\nline 1\n") && text.text.ends_with("line 99998\nline 99999\n"));
        // Each byte that is no text takes three in its stead.
        assert!(capture([vec![0xff; 2 * SHOWN]]).text.len() <= 2 * SHOWN);
        assert!(capture([vec![0xff; 9 * SHOWN]]).text.len() <= 2 * SHOWN);
    }

    /// A-P42: not even a part of a secret is left over where the output is cut.
    #[test]
    fn a_secret_on_a_cut_leaves_nothing_behind() {
        // Those before it make what is kept shorter than what is shown.
        let others = format!("{SECRET}\n").repeat(1000);
        for cut in [SHOWN, KEPT] {
            for inside in 0..=SECRET.len() {
                let rim = ".".repeat(cut - inside - others.len());
                let middle = ".".repeat(4 * SHOWN);
                let text = capture([format!("{others}{rim}{SECRET}{middle}{SECRET}{rim}{others}").into_bytes()]).text;
                assert!(!text.contains("hunter") && !text.contains(".h") && !text.contains("2."), "{cut} {inside}");
            }
        }
    }
}
