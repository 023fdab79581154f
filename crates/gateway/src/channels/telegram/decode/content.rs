//! What is in a message beside its own text: files, and what it answers.

use super::super::wire::{File, Media, Quote, ReplyTo};
use crate::MediaAttachment;

/// Characters of an answered message.
const LONGEST_QUOTE: usize = 1_000;

/// Of a photo the largest size only.
pub(super) fn attachments(media: &Media) -> Vec<MediaAttachment> {
    let photo = media.photo.iter().max_by_key(|size| size.width * size.height);
    let files = [
        (photo, "photo.jpg", Some("image/jpeg")),
        (media.document.as_ref(), "document", None),
        (media.voice.as_ref(), "voice.ogg", Some("audio/ogg")),
        (media.audio.as_ref(), "audio.mp3", Some("audio/mpeg")),
        (media.video.as_ref(), "video.mp4", Some("video/mp4")),
        (media.video_note.as_ref(), "video-note.mp4", Some("video/mp4")),
    ];
    files.into_iter().filter_map(|(file, name, mime)| Some(attachment(file?, name, mime))).collect()
}

fn attachment(file: &File, name: &str, mime: Option<&str>) -> MediaAttachment {
    MediaAttachment {
        id: file.file_id.clone(),
        name: file.file_name.clone().unwrap_or_else(|| name.to_owned()),
        mime_type: file.mime_type.clone().or_else(|| mime.map(str::to_owned)),
        size: file.file_size,
    }
}

/// The text below what it answers. A command stays one.
pub(super) fn quoted(text: String, quote: Option<&Quote>, replied: &ReplyTo) -> String {
    let whole = || replied.text.as_deref().or(replied.caption.as_deref());
    let Some(quote) = quote.map(|quote| quote.text.as_str()).or_else(whole) else { return text };
    if quote.trim().is_empty() || text.trim_start().starts_with(['/', '!']) {
        return text;
    }
    let mut kept: String = quote.chars().take(LONGEST_QUOTE).collect();
    if kept.len() < quote.len() {
        kept.push('…');
    }
    let lines: Vec<String> = kept.lines().map(|line| format!("> {line}")).collect();
    format!("{}\n\n{text}", lines.join("\n"))
}
