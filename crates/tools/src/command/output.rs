//! The one way of a command's output: bytes, text, cleaned, redacted, then to memory, spool and progress.
//!
//! Nothing behind the redactor ever sees what was before it.

use std::{io, time::Duration};

use stakpak_agent_core::Secrets;
use stakpak_protocol::SessionId;
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    decoder::Decoder,
    kept::{Kept, Overflow},
    pieces::Pieces,
    spool::Spool,
};
use crate::{secrets::VaultSecrets, text};

const CHUNK: usize = 64 * 1024;
/// Four pieces of progress a second.
const PROGRESS_PAUSE: Duration = Duration::from_millis(250);
const PROGRESS_BYTES: usize = 4 * 1024;
/// After the end of the processes a pipe holds no more than its buffer, which is 1 MiB at most (`pipe(7)`).
const LAST_CHUNKS: usize = 16;

/// Output of one command.
#[derive(Debug)]
pub(crate) struct Output {
    decoder: Decoder,
    pieces: Pieces,
    secrets: VaultSecrets,
    session: SessionId,
    kept: Kept,
    spool: Spool,
    progress: Progress,
}

impl Output {
    pub(crate) fn new(secrets: VaultSecrets, session: SessionId, spool: Spool, progress: mpsc::Sender<String>) -> Self {
        Self {
            decoder: Decoder::default(),
            pieces: Pieces::default(),
            secrets,
            session,
            kept: Kept::default(),
            spool,
            progress: Progress { sender: progress, new: String::new(), next: Instant::now() },
        }
    }

    /// Reads until every writer has closed the pipe (then `eof` fires), or `stop` fires, which loses nothing that is in the
    /// pipe by then. Gives the text for the result; empty if there was no output.
    pub(crate) async fn drain(
        mut self,
        mut pipe: Receiver,
        eof: &CancellationToken,
        stop: &CancellationToken,
    ) -> String {
        let mut chunk = vec![0; CHUNK];
        loop {
            tokio::select! {
                read = pipe.read(&mut chunk) => match read {
                    Ok(0) => break,
                    Ok(size) => self.take(&chunk[..size]).await,
                    Err(error) => {
                        tracing::warn!(%error, "cannot read a command's output");
                        break;
                    }
                },
                () = sleep_until(self.progress.next), if self.progress.is_owed() => self.progress.send(),
                () = stop.cancelled() => {
                    self.take_what_is_there(&pipe, &mut chunk).await;
                    break;
                }
            }
        }
        eof.cancel();
        self.finish().await
    }

    async fn take_what_is_there(&mut self, pipe: &Receiver, chunk: &mut [u8]) {
        for _ in 0..LAST_CHUNKS {
            match pipe.try_read(chunk) {
                Ok(0) => return,
                Ok(size) => self.take(&chunk[..size]).await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    async fn take(&mut self, bytes: &[u8]) {
        let text = self.decoder.push(bytes);
        if let Some(piece) = self.pieces.push(&text) {
            self.keep(&piece).await;
        }
    }

    async fn keep(&mut self, piece: &str) {
        let printed = text::as_printed(piece);
        let redacted = self.secrets.hide(self.session, printed).await;
        if redacted.is_empty() {
            return;
        }
        self.progress.push(&redacted);
        let is_open = self.spool.is_open();
        match self.kept.push(&redacted) {
            Overflow::No if !is_open => {}
            Overflow::Now(whole) if !is_open => self.spool.append(&whole).await,
            _ => self.spool.append(&redacted).await,
        }
    }

    async fn finish(mut self) -> String {
        let last = self.decoder.finish();
        for piece in [self.pieces.push(last), self.pieces.finish()].into_iter().flatten() {
            self.keep(&piece).await;
        }
        if self.progress.next <= Instant::now() {
            self.progress.send();
        }
        let whereabouts = self.spool.finish().await;
        self.kept.render(&whereabouts)
    }
}

/// New output for those who watch. What comes faster than it may be sent is skipped, oldest first.
#[derive(Debug)]
struct Progress {
    sender: mpsc::Sender<String>,
    new: String,
    next: Instant,
}

impl Progress {
    fn push(&mut self, text: &str) {
        self.new.push_str(text);
        if self.new.len() > PROGRESS_BYTES {
            let from = self.new.ceil_char_boundary(self.new.len() - PROGRESS_BYTES);
            self.new.drain(..from);
        }
    }

    fn is_owed(&self) -> bool {
        !self.new.is_empty()
    }

    fn send(&mut self) {
        if self.is_owed() {
            // A full channel drops progress, never the result.
            self.sender.try_send(std::mem::take(&mut self.new)).ok();
            self.next = Instant::now() + PROGRESS_PAUSE;
        }
    }
}
