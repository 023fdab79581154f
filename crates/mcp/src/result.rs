//! A server's result as text for the model.

use std::sync::LazyLock;

use regex::Regex;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

/// ECMA-48: a CSI sequence; a control string, if its end is on the same line; any other escape sequence.
static ESCAPE_SEQUENCE: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant pattern")]
    Regex::new(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])").expect("is valid")
});

/// All text joined by newlines; without any, the structured content as JSON. What is no text is named.
pub(crate) fn text(result: CallToolResult) -> String {
    let has_text = result.content.iter().any(|block| matches!(block, ContentBlock::Text(_)));
    let mut parts: Vec<String> = result.content.into_iter().filter_map(part).collect();
    if let Some(structured) = result.structured_content.filter(|_| !has_text) {
        parts.insert(0, structured.to_string());
    }
    parts.join("\n")
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

    use serde_json::{Value, json};

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
                json!({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]}),
                "[image image/png, 3 bytes, not shown]",
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
            assert_eq!(text(parsed), shown);
        }
    }

    #[test]
    fn control_characters_are_removed_and_nothing_is_said() {
        assert_eq!(clean("\x1b[31mred\x1b[0m\u{7}\tx"), "red\tx");
        assert_eq!(clean(" \x1b[0m\n"), "<empty tool result>");
    }
}
