//! The event stream, read as cheaply as it can be: the id and the name of each frame, never its data.

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use memchr::memmem;

use crate::connection::Connection;

/// What a frame says, as far as a measurement cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    RunStarted,
    TurnStarted,
    TextDelta,
    RetryAttempt,
    WaitingForToolApproval,
    ToolExecutionStarted,
    RunCompleted,
    RunError,
    GapDetected,
    Other,
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// None: a control frame.
    pub(crate) id: Option<u64>,
    pub(crate) kind: Kind,
}

/// A stream of frames; dropping it closes its connection.
#[derive(Debug)]
pub(crate) struct Events {
    body: Incoming,
    buffer: BytesMut,
    _connection: Connection,
}

impl Events {
    pub(crate) fn new(body: Incoming, connection: Connection) -> Self {
        Self { body, buffer: BytesMut::new(), _connection: connection }
    }

    /// The next frame. The end of the stream is an error: it goes on over many runs.
    pub(crate) async fn next(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.buffered() {
                return Ok(frame);
            }
            let more = self.body.frame().await.context("the stream has ended")??;
            if let Ok(data) = more.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// The next frame of this kind; the end of the run or a gap on the way is an error.
    pub(crate) async fn until(&mut self, kind: Kind) -> Result<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Ok(frame);
            }
            if matches!(frame.kind, Kind::RunCompleted | Kind::RunError | Kind::GapDetected) {
                bail!("{:?} came before {kind:?}", frame.kind);
            }
        }
    }

    /// The next frame that has come already.
    pub(crate) fn buffered(&mut self) -> Option<Frame> {
        loop {
            let end = memmem::find(&self.buffer, b"\n\n")?;
            let block = self.buffer.split_to(end + 2);
            if let Some(frame) = parse(&block) {
                return Some(frame);
            }
        }
    }
}

/// None for comments.
fn parse(block: &[u8]) -> Option<Frame> {
    let (id, rest) = match block.strip_prefix(b"id: ") {
        Some(rest) => {
            let end = memchr::memchr(b'\n', rest)?;
            let id = rest[..end].iter().fold(0, |id, digit| id * 10 + u64::from(digit & 0x0f));
            (Some(id), &rest[end + 1..])
        }
        None => (None, block),
    };
    let rest = rest.strip_prefix(b"event: ")?;
    let end = memchr::memchr(b'\n', rest)?;
    Some(Frame { id, kind: kind(&rest[..end]) })
}

fn kind(name: &[u8]) -> Kind {
    match name {
        b"run_started" => Kind::RunStarted,
        b"turn_started" => Kind::TurnStarted,
        b"text_delta" => Kind::TextDelta,
        b"retry_attempt" => Kind::RetryAttempt,
        b"waiting_for_tool_approval" => Kind::WaitingForToolApproval,
        b"tool_execution_started" => Kind::ToolExecutionStarted,
        b"run_completed" => Kind::RunCompleted,
        b"run_error" => Kind::RunError,
        b"gap_detected" => Kind::GapDetected,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_by_id_and_name_and_comments_passed_over() {
        let delta = parse(b"id: 1307\nevent: text_delta\ndata: {\"event\":\"run_error\"}\n\n");
        assert_eq!(delta, Some(Frame { id: Some(1307), kind: Kind::TextDelta }));
        let gap = parse(b"event: gap_detected\ndata: {}\n\n");
        assert_eq!(gap, Some(Frame { id: None, kind: Kind::GapDetected }));
        assert_eq!(parse(b": keepalive\n\n"), None);
    }
}
