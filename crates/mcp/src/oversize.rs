//! An answer that is too long for one message is answered here.
//!
//! The transport drops a line beyond its limit, and its request would wait for its time limit. Behind such a line goes an
//! error answer for the same request. Nothing is held but the two ends of a line.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use regex::bytes::Regex;
use rmcp::transport::async_rw::DEFAULT_MAX_LINE_LENGTH;
use tokio::io::{AsyncRead, ReadBuf};

/// First word of the message of the error that stands for a result.
pub(crate) const TOO_LARGE: &str = "RESULT_TOO_LARGE";
/// Of each end of a line: an id stands there, whichever way a server writes its answers.
const END: usize = 96;

/// Passes bytes on, line by line.
#[derive(Debug)]
pub(crate) struct Answered<R> {
    inner: R,
    length: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Bytes to be read before more of `inner`.
    pending: VecDeque<u8>,
    buffer: Box<[u8]>,
}

impl<R> Answered<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            length: 0,
            head: Vec::with_capacity(END),
            tail: VecDeque::with_capacity(END),
            pending: VecDeque::new(),
            buffer: vec![0; 16 * 1024].into(),
        }
    }

    /// Takes bytes over, up to and with the end of a line.
    fn note(&mut self, piece: &[u8]) {
        self.length += piece.len();
        let line = piece.strip_suffix(b"\n").unwrap_or(piece);
        self.head.extend(line.iter().take(END - self.head.len()));
        let last = &line[line.len().saturating_sub(END)..];
        self.tail.extend(last);
        self.tail.drain(..self.tail.len().saturating_sub(END));
        if line.len() == piece.len() {
            return;
        }
        if self.length > DEFAULT_MAX_LINE_LENGTH
            && let Some(id) = id_of(&self.head, self.tail.make_contiguous())
        {
            let length = self.length;
            let message = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"{TOO_LARGE}: the server's answer has {length} bytes, the limit is {DEFAULT_MAX_LINE_LENGTH}; ask it for less"}}}}"#
            );
            self.pending.extend(message.bytes().chain([b'\n']));
        }
        self.length = 0;
        self.head.clear();
        self.tail.clear();
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Answered<R> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.pending.is_empty() {
            let mut buffer = std::mem::take(&mut this.buffer);
            let mut read = ReadBuf::new(&mut buffer);
            let polled = Pin::new(&mut this.inner).poll_read(context, &mut read);
            if matches!(polled, Poll::Ready(Ok(()))) {
                for piece in read.filled().split_inclusive(|byte| *byte == b'\n') {
                    this.pending.extend(piece);
                    this.note(piece);
                }
            }
            this.buffer = buffer;
            if !matches!(polled, Poll::Ready(Ok(()))) {
                return polled;
            }
        }
        let (front, _) = this.pending.as_slices();
        let count = front.len().min(into.remaining());
        into.put_slice(&front[..count]);
        this.pending.drain(..count);
        Poll::Ready(Ok(()))
    }
}

/// The id of an answer: servers write it first or last, never between.
fn id_of<'a>(head: &'a [u8], tail: &'a [u8]) -> Option<&'a str> {
    #[expect(clippy::expect_used, reason = "constant patterns")]
    static FIRST: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"^\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d+)\s*,"#).expect("is valid")
    });
    #[expect(clippy::expect_used, reason = "constant patterns")]
    static LAST: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#",\s*"id"\s*:\s*(\d+)\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$"#).expect("is valid")
    });
    let found = FIRST.captures(head).or_else(|| LAST.captures(tail))?;
    std::str::from_utf8(found.get(1)?.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn an_answers_id_is_found_wherever_it_is_written() {
        for (line, id) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"id":8}}"#, Some("7")),
            (r#"{"id": 7, "result":{}, "jsonrpc":"2.0"}"#, Some("7")),
            (r#"{"result":{"id":8},"jsonrpc":"2.0","id":7}"#, Some("7")),
            (r#"{"result":{"id":8},"id":7,"jsonrpc":"2.0"}"#, Some("7")),
            (r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"id":8}}"#, None),
        ] {
            assert_eq!(id_of(line.as_bytes(), line.as_bytes()), id, "{line}");
        }
    }

    /// C-P62
    #[tokio::test]
    async fn behind_a_line_that_is_too_long_goes_an_error_answer() {
        let long = format!(r#"{{"result":"{}","jsonrpc":"2.0","id":3}}"#, "x".repeat(DEFAULT_MAX_LINE_LENGTH));
        let lines = format!("{{\"a\":1}}\n{long}\n{{\"b\":2}}\n");
        let mut passed = String::new();
        Answered::new(lines.as_bytes()).read_to_string(&mut passed).await.unwrap();
        let added = passed.lines().nth(2).unwrap();
        assert!(added.starts_with(r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32000,"message":"RESULT_TOO_LARGE"#));
        assert_eq!(passed.replace(&format!("{added}\n"), ""), lines);
    }
}
