//! Files that came with a message: fetched before the server hears of the message, kept beside the store, then put into it.
//!
//! What became of each file is stored with the request, so that a repeated request is the same. A file that cannot be had
//! does not keep the text from running: the model is told.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use stakpak_client::{Message, protocol::MessagePart};

use super::Conversations;
use crate::{MediaAttachment, store::Batch};

/// Files of one message at most.
const MOST_FILES: usize = 10;
/// A text of at most this size is put into the message.
const LARGEST_TEXT: usize = 256 * 1024;
/// An image of at most this size is shown to the model.
const LARGEST_IMAGE: usize = 5 * 1024 * 1024;

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptFile {
    name: String,
    /// Where it is; none if it could not be had.
    path: Option<PathBuf>,
    /// Why not.
    error: Option<String>,
}

impl Conversations {
    /// Fetches the files of a message, one after the other.
    pub(super) async fn fetch_files(&self, batch: &Batch) -> Vec<KeptFile> {
        let mut kept = Vec::new();
        for (index, file) in batch.payload.attachments.iter().enumerate() {
            let name = safe_name(&file.name);
            let outcome = if index < MOST_FILES {
                self.fetch_file(batch, file, &format!("{index}-{name}")).await
            } else {
                Err(format!("a message takes {MOST_FILES} files"))
            };
            let (path, error) = match outcome {
                Ok(path) => (Some(path), None),
                Err(error) => (None, Some(self.redactor.redact(&error).into_owned())),
            };
            kept.push(KeptFile { name, path, error });
        }
        kept
    }

    async fn fetch_file(&self, batch: &Batch, file: &MediaAttachment, name: &str) -> Result<PathBuf, String> {
        let limit = self.max_attachment;
        if file.size.is_some_and(|size| size > limit) {
            return Err(format!("larger than {} MiB", limit / 1024 / 1024));
        }
        let channel = self.deliveries.worker().channel(batch.address.channel.as_str()).ok_or("its channel is gone")?;
        let content = channel.fetch(file, limit).await.map_err(|error| error.to_string())?;
        let path = self.attachments.join(&batch.id).join(name);
        let written = path.clone();
        let write = tokio::task::spawn_blocking(move || write_private(&written, &content));
        write.await.map_err(|error| error.to_string())?.map_err(|error| format!("it could not be stored: {error}"))?;
        Ok(path)
    }
}

/// The message with its files: images as images, short texts as text, others by their path.
pub(super) async fn message(text: &str, files: &[KeptFile]) -> Message {
    if files.is_empty() {
        return Message::user(text.to_owned());
    }
    let mut parts = vec![part(text.to_owned())];
    for file in files {
        let content = match &file.path {
            Some(path) => tokio::fs::read(path).await.ok(),
            None => None,
        };
        parts.push(describe(file, content));
    }
    Message::user_parts(parts)
}

fn describe(file: &KeptFile, content: Option<Vec<u8>>) -> MessagePart {
    let KeptFile { name, path, error } = file;
    let (Some(content), Some(path)) = (content, path) else {
        let reason = error.as_deref().unwrap_or("it is no longer there");
        return part(format!("[File {name} could not be read: {reason}.]"));
    };
    if let Some(kind) = image_kind(&content).filter(|_| content.len() <= LARGEST_IMAGE) {
        let url = format!("data:image/{kind};base64,{}", BASE64_STANDARD.encode(&content));
        return MessagePart::Image { url, detail: None, provider_options: None };
    }
    match String::from_utf8(content) {
        Ok(text) if text.len() <= LARGEST_TEXT => {
            let fence = "`".repeat(longest_run(&text).max(2) + 1);
            part(format!("[File {name}]\n{fence}\n{text}\n{fence}"))
        }
        Ok(text) => part(format!("[File {name}, {} bytes, is at {}]", text.len(), path.display())),
        Err(error) => part(format!("[File {name}, {} bytes, is at {}]", error.as_bytes().len(), path.display())),
    }
}

fn part(text: String) -> MessagePart {
    MessagePart::Text { text, provider_options: None }
}

/// By its first bytes; what the sender calls it means nothing.
fn image_kind(content: &[u8]) -> Option<&'static str> {
    match content {
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [0xff, 0xd8, 0xff, ..] => Some("jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        _ => None,
    }
}

fn longest_run(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or(0)
}

/// A name that stays in its directory and shows what it is.
pub(crate) fn safe_name(name: &str) -> String {
    let keep = |character: char| character.is_alphanumeric() || matches!(character, '.' | '-' | '_' | ' ');
    let name: String = name.chars().map(|character| if keep(character) { character } else { '_' }).take(100).collect();
    let name = name.trim_matches(['.', ' ']);
    if name.is_empty() { "file".to_owned() } else { name.to_owned() }
}

fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str) -> KeptFile {
        KeptFile { name: name.to_owned(), path: Some(PathBuf::from("/somewhere/x")), error: None }
    }

    fn said(part: &MessagePart) -> &str {
        match part {
            MessagePart::Text { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_cannot_leave_its_directory() {
        assert_eq!(safe_name("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(safe_name(".."), "file");
        assert_eq!(safe_name("a\u{202e}b.txt"), "a_b.txt");
    }

    #[test]
    fn a_file_is_what_its_bytes_say() {
        let image = describe(&kept("notes.txt"), Some(b"\x89PNG\r\n".to_vec()));
        assert!(matches!(image, MessagePart::Image { url, .. } if url.starts_with("data:image/png;base64,")));
        let text = describe(&kept("a.png"), Some(b"plain".to_vec()));
        assert_eq!(said(&text), "[File a.png]\n```\nplain\n```");
        let binary = describe(&kept("a.txt"), Some(vec![0xfe, 0xff]));
        assert_eq!(said(&binary), "[File a.txt, 2 bytes, is at /somewhere/x]");
    }

    #[test]
    fn a_text_cannot_close_its_own_fence() {
        let text = describe(&kept("a"), Some(b"```\nrm -rf\n````".to_vec()));
        assert!(said(&text).starts_with("[File a]\n`````\n"));
    }

    #[test]
    fn a_file_that_is_missing_is_told() {
        let lost = KeptFile { name: "a".into(), path: None, error: Some("larger than 20 MiB".into()) };
        assert_eq!(said(&describe(&lost, None)), "[File a could not be read: larger than 20 MiB.]");
    }
}
