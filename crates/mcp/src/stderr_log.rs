//! What a server writes to its stderr: into a log of its own, redacted, in two files of bounded size.

use std::{io, path::PathBuf};

use stakpak_redact::Redactor;
use tokio::{
    fs::{self, File, OpenOptions},
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
};

/// Of a file; the one before it is kept.
const MAX_FILE: u64 = 1024 * 1024;
/// A longer line is written in pieces.
const MAX_LINE: usize = 8 * 1024;

/// Drains `stderr` to its end, whether or not it can be written.
pub(crate) async fn drain(mut stderr: impl AsyncRead + Unpin, path: PathBuf, redactor: Redactor) {
    let mut log = Log { path, file: None };
    let mut line = Vec::new();
    let mut buffer = vec![0; MAX_LINE];
    loop {
        let count = match stderr.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        line.extend_from_slice(&buffer[..count]);
        let whole = line.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        if let Some(end) = whole.or_else(|| (line.len() >= MAX_LINE).then_some(line.len())) {
            log.write(&redactor, &line[..end]).await;
            line.drain(..end);
        }
    }
    if !line.is_empty() {
        log.write(&redactor, &line).await;
    }
}

struct Log {
    path: PathBuf,
    file: Option<(File, u64)>,
}

impl Log {
    async fn write(&mut self, redactor: &Redactor, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if let Err(error) = self.try_write(redactor.redact(&text).as_bytes()).await {
            tracing::debug!(%error, "a tool server's stderr cannot be kept");
            self.file = None;
        }
    }

    async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut file, written) = match self.file.take() {
            Some((file, written)) if written < MAX_FILE => (file, written),
            open => {
                if open.is_some() || fs::metadata(&self.path).await.is_ok_and(|file| file.len() >= MAX_FILE) {
                    fs::rename(&self.path, self.path.with_extension("log.1")).await?;
                }
                let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path).await?;
                let written = file.metadata().await?.len();
                (file, written)
            }
        };
        file.write_all(bytes).await?;
        file.flush().await?;
        self.file = Some((file, written + bytes.len() as u64));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// C-P62
    #[tokio::test]
    async fn a_flood_fills_two_files_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mcp-noisy.log");
        let flood = format!("{}\nthe token is hunter2-hunter2\nlast", "noise\n".repeat(1_000_000));
        let redactor = Redactor::new(["hunter2-hunter2"]).unwrap();
        drain(flood.as_bytes(), path.clone(), redactor).await;
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(kept.ends_with("the token is [REDACTED]\nlast"), "{}", &kept[kept.len() - 60..]);
        let sizes: Vec<u64> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size < MAX_FILE + 2 * MAX_LINE as u64), "{sizes:?}");
    }
}
