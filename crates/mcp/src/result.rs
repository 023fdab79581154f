//! A server's result as text and images for the model.

use std::sync::LazyLock;

use regex::Regex;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::{Value, json};

/// ECMA-48: a CSI sequence; a control string, if its end is on the same line; any other escape sequence.
static ESCAPE_SEQUENCE: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant pattern")]
    Regex::new(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])").expect("is valid")
});

/// Kinds of images that models take.
const IMAGES: [&str; 4] = ["image/gif", "image/jpeg", "image/png", "image/webp"];
/// Of one result, as base64; providers refuse larger ones.
const MAX_IMAGE_BYTES: usize = 4 * 1024 * 1024;
const MAX_IMAGES: usize = 8;

/// What a server answered: text that is neither redacted nor cut, and images as data URLs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) images: Vec<String>,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self { text, images: Vec::new() }
    }
}

/// All text joined by newlines; without any, the structured content as JSON. What is neither text nor an image that can be
/// shown is named.
pub(crate) fn answer(result: CallToolResult) -> Answer {
    let has_text = result.content.iter().any(|block| matches!(block, ContentBlock::Text(_)));
    let mut answer = Answer::default();
    let mut parts = Vec::new();
    let mut left = MAX_IMAGE_BYTES;
    for block in result.content {
        if let ContentBlock::Image(image) = &block
            && answer.images.len() < MAX_IMAGES
            && image.data.len() <= left
            && is_image(&image.mime_type, &image.data)
        {
            left -= image.data.len();
            answer.images.push(format!("data:{};base64,{}", image.mime_type, image.data));
            continue;
        }
        parts.extend(part(block));
    }
    if let Some(structured) = result.structured_content.filter(|_| !has_text) {
        parts.insert(0, structured.to_string());
    }
    answer.text = parts.join("\n");
    answer
}

fn is_image(kind: &str, base64: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    IMAGES.contains(&kind) && !base64.is_empty() && base64.bytes().all(is_base64)
}

/// A result as the history holds it where it has images.
pub(crate) fn with_images(text: Option<&str>, images: &[String]) -> Value {
    let text = text.map(|text| json!({ "type": "text", "text": text }));
    text.into_iter().chain(images.iter().map(|url| json!({ "type": "image", "url": url }))).collect()
}

fn part(block: ContentBlock) -> Option<String> {
    let part = match block {
        ContentBlock::Text(text) => text.text,
        ContentBlock::Image(image) => named("image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => named("audio", &audio.mime_type, &audio.data),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("[resource {uri}]\n{text}"),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                format!("{} {uri}", named("resource", mime_type.as_deref().unwrap_or("of unknown type"), &blob))
            }
            _ => return None,
        },
        ContentBlock::ResourceLink(link) => format!("[resource {}] {}", link.uri, link.name),
        _ => return None,
    };
    Some(part)
}

fn named(kind: &str, mime_type: &str, base64: &str) -> String {
    format!("[{kind} {mime_type}, {} bytes, not shown]", base64.trim_end_matches('=').len() * 3 / 4)
}

/// Removes escape sequences and control characters; what is left of nothing is said.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = ESCAPE_SEQUENCE.replace_all(text, "").into_owned();
    clean.retain(|c| !c.is_control() || matches!(c, '\n' | '\t' | '\r'));
    if clean.trim().is_empty() { "<empty tool result>".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_no_text_is_named() {
        for (result, shown) in [
            (
                json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "structuredContent": {"c": 1}}),
                "a\nb",
            ),
            (json!({"content": [], "structuredContent": {"c": [1, 2]}}), r#"{"c":[1,2]}"#),
            (json!({"content": []}), ""),
            (
                json!({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/tiff"}]}),
                "[image image/tiff, 3 bytes, not shown]",
            ),
            (
                json!({"content": [{"type": "resource", "resource": {"uri": "file:///x", "text": "body"}}]}),
                "[resource file:///x]\nbody",
            ),
            (
                json!({"content": [{"type": "resource_link", "uri": "file:///x", "name": "x"}]}),
                "[resource file:///x] x",
            ),
        ] {
            let parsed: CallToolResult =
                serde_json::from_value::<Value>(result).and_then(serde_json::from_value).unwrap();
            assert_eq!(answer(parsed), Answer::from(shown.to_owned()));
        }
    }

    #[test]
    fn images_are_kept_as_far_as_there_is_room() {
        let image = |data: &str| json!({"type": "image", "data": data, "mimeType": "image/png"});
        let of = |blocks: Vec<Value>| answer(serde_json::from_value(json!({ "content": blocks })).unwrap());
        let two = of(vec![json!({"type": "text", "text": "a"}), image("AAAA"), image("no base64!")]);
        assert_eq!(two.images, ["data:image/png;base64,AAAA"]);
        assert_eq!(two.text, "a\n[image image/png, 7 bytes, not shown]");
        let large = "A".repeat(MAX_IMAGE_BYTES);
        let full = of(vec![image(&large), image("AAAA")]);
        assert_eq!((full.images.len(), full.text.as_str()), (1, "[image image/png, 3 bytes, not shown]"));
        assert_eq!(of(vec![image("AAAA"); MAX_IMAGES + 1]).images.len(), MAX_IMAGES);
        assert_eq!(
            with_images(Some("a"), &two.images),
            json!([{"type": "text", "text": "a"}, {"type": "image", "url": "data:image/png;base64,AAAA"}])
        );
    }

    #[test]
    fn control_characters_are_removed_and_nothing_is_said() {
        assert_eq!(clean("\x1b[31mred\x1b[0m\u{7}\tx"), "red\tx");
        assert_eq!(clean(" \x1b[0m\n"), "<empty tool result>");
    }
}
