//! Messages in short: what is left of them in a view that has no room for all.

use std::{borrow::Cow, collections::HashMap};

use serde_json::{Value, json};
use stakpak_protocol::{Message, MessageContent, MessagePart, ToolCallId, result_text};

use super::estimate::{json_len, result_len};

/// Results and arguments up to this many bytes stay as they are: a stub would be no shorter.
const SHORT: usize = 200;

/// Names of tools by call.
pub(super) type Tools<'a> = HashMap<&'a ToolCallId, &'a str>;

/// The message with stubs for its results and long arguments.
pub(super) fn cleared<'a>(message: &'a Message, tools: &Tools<'_>) -> Cow<'a, Message> {
    map_parts(message, |part| match part {
        MessagePart::ToolResult { content, .. } if result_len(content) > SHORT as u64 => {
            let mut part = part.clone();
            if let MessagePart::ToolResult { tool_call_id, content, is_error, .. } = &mut part {
                *content = stub(tools.get(tool_call_id).copied().unwrap_or("a tool"), content, *is_error).into();
            }
            Some(part)
        }
        MessagePart::ToolCall { arguments, .. } if json_len(arguments) > SHORT as u64 => {
            Some(with_arguments(part, SHORT))
        }
        _ => None,
    })
}

/// The message with the beginning and the end of each part that is longer.
pub(super) fn cut(message: &Message, keep: usize) -> Cow<'_, Message> {
    if let MessageContent::Text(text) = &message.content {
        if text.len() <= keep {
            return Cow::Borrowed(message);
        }
        let content = MessageContent::Text(head_and_tail(text, keep, LEFT_OUT));
        return Cow::Owned(Message { content, ..message.clone() });
    }
    map_parts(message, |part| match part {
        MessagePart::Text { text, .. } if text.len() > keep => {
            Some(MessagePart::text(head_and_tail(text, keep, LEFT_OUT)))
        }
        MessagePart::ToolResult { content, .. } if result_len(content) > keep as u64 => {
            let mut part = part.clone();
            if let MessagePart::ToolResult { content, .. } = &mut part {
                *content = head_and_tail(&as_text(content), keep, LEFT_OUT).into();
            }
            Some(part)
        }
        MessagePart::ToolCall { arguments, .. } if json_len(arguments) > keep as u64 => {
            Some(with_arguments(part, keep))
        }
        MessagePart::Image { .. } => Some(MessagePart::text("[an image was left out here for want of room]")),
        _ => None,
    })
}

const LEFT_OUT: &str = "left out here for want of room";

/// The beginning and the end of a text, about so many bytes of it, and how much was left out between them.
pub(crate) fn head_and_tail(text: &str, keep: usize, note: &str) -> String {
    if text.len() <= keep {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(keep * 2 / 3);
    let tail = text.ceil_char_boundary(text.len() - keep / 3);
    format!("{}\n[… {} bytes {note} …]\n{}", &text[..head], tail - head, &text[tail..])
}

/// A result as plain text.
pub(super) fn as_text(content: &Value) -> Cow<'_, str> {
    match content {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(result_text(other, |_| "(an image)".to_owned()).unwrap_or_else(|| other.to_string())),
    }
}

/// One line: the tool, how it went, and where the whole is, if it was kept in a file.
fn stub(tool: &str, content: &Value, is_error: bool) -> String {
    let text = as_text(content);
    let outcome = if is_error { text.lines().next().unwrap_or_default() } else { "ok" };
    let outcome = &outcome[..outcome.floor_char_boundary(80)];
    let whole = artefact(&text).map(|path| format!("; all of it: {path}")).unwrap_or_default();
    format!("[result of {tool}: {outcome}; {} bytes, cleared to save room; call it again if needed{whole}]", text.len())
}

/// The file of a long output, which its result names in its first line or so.
fn artefact(text: &str) -> Option<&str> {
    let head = &text[..text.floor_char_boundary(1_000)];
    head.split_whitespace().find(|word| word.starts_with('/') && word.contains("/tool-output."))
}

fn with_arguments(part: &MessagePart, keep: usize) -> MessagePart {
    let mut part = part.clone();
    if let MessagePart::ToolCall { arguments, .. } = &mut part {
        shorten_texts(arguments, keep);
        if json_len(arguments) > 4 * keep as u64 {
            *arguments = json!({ "left_out": format!("{} bytes of arguments", json_len(arguments)) });
        }
    }
    part
}

fn shorten_texts(value: &mut Value, keep: usize) {
    match value {
        Value::String(text) if text.len() > keep => *text = head_and_tail(text, keep, LEFT_OUT),
        Value::Array(items) => items.iter_mut().for_each(|item| shorten_texts(item, keep)),
        Value::Object(fields) => fields.values_mut().for_each(|field| shorten_texts(field, keep)),
        _ => {}
    }
}

/// The message with some parts replaced.
fn map_parts(message: &Message, replaced: impl Fn(&MessagePart) -> Option<MessagePart>) -> Cow<'_, Message> {
    let new: Vec<Option<MessagePart>> = message.parts().iter().map(replaced).collect();
    if new.iter().all(Option::is_none) {
        return Cow::Borrowed(message);
    }
    let parts = new.into_iter().zip(message.parts()).map(|(new, old)| new.unwrap_or_else(|| old.clone()));
    Cow::Owned(Message { content: MessageContent::Parts(parts.collect()), ..message.clone() })
}

#[cfg(test)]
mod tests {
    use stakpak_protocol::Role;

    use super::*;

    fn result(content: Value, is_error: bool) -> Message {
        let part = MessagePart::ToolResult { tool_call_id: "c".into(), content, is_error, provider_options: None };
        Message::new(Role::Tool, MessageContent::Parts(vec![part]))
    }

    fn text_of(message: &Message) -> String {
        match message.parts() {
            [MessagePart::ToolResult { content, .. }] => as_text(content).into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stub_names_tool_outcome_and_artefact() {
        let id = ToolCallId::from("c");
        let tools = Tools::from([(&id, "stakpak__run_command")]);
        let long = format!("All of it: /state/s/tool-output.x.txt (use view)\n{}", "x".repeat(1_000));
        let stubbed = cleared(&result(long.into(), false), &tools).into_owned();
        assert_eq!(
            text_of(&stubbed),
            "[result of stakpak__run_command: ok; 1049 bytes, cleared to save room; call it again if needed; all of it: \
             /state/s/tool-output.x.txt]"
        );
        let failed = format!("NOT_FOUND\n{}", "x".repeat(1_000));
        let stubbed = cleared(&result(failed.into(), true), &tools).into_owned();
        assert!(text_of(&stubbed).starts_with("[result of stakpak__run_command: NOT_FOUND; 1010 bytes"));
        assert!(matches!(stubbed.parts(), [MessagePart::ToolResult { is_error: true, .. }]));
        assert!(matches!(cleared(&result("short".into(), false), &tools), Cow::Borrowed(_)));
    }

    /// C-P19: arguments stay an object, whatever is left of them.
    #[test]
    fn long_arguments_stay_an_object() {
        let call = |arguments: Value| {
            Message::assistant(vec![MessagePart::ToolCall {
                id: "c".into(),
                name: "stakpak__create".into(),
                arguments,
                metadata: Some(json!("kept")),
                provider_options: None,
            }])
        };
        let arguments = |message: &Message| match message.parts() {
            [MessagePart::ToolCall { arguments, metadata: Some(_), .. }] => arguments.clone(),
            other => panic!("{other:?}"),
        };
        let long = call(json!({ "path": "/a", "file_text": "ä".repeat(500_000) }));
        for short in [cleared(&long, &Tools::new()), cut(&long, 300)] {
            let arguments = arguments(&short);
            assert_eq!(arguments["path"], "/a");
            assert!(json_len(&arguments) < 600, "{arguments}");
        }
        let wide = call(json!((0..100_000).map(|n| n.to_string()).collect::<Vec<_>>()));
        assert!(arguments(&cut(&wide, 300)).is_object());
    }

    /// An image in a result costs what an image costs, and goes with the rest of the result.
    #[test]
    fn images_in_results_are_small_and_go_first() {
        let url = format!("data:image/png;base64,{}", "A".repeat(4_000_000));
        let content = json!([{ "type": "text", "text": "a chart" }, { "type": "image", "url": url }]);
        let message = result(content, false);
        assert_eq!(super::super::estimate::estimate(&message), 8 + 3 + 2_002);
        let id = ToolCallId::from("c");
        let stubbed = cleared(&message, &Tools::from([(&id, "web__draw")])).into_owned();
        assert!(text_of(&stubbed).starts_with("[result of web__draw: ok; "), "{}", text_of(&stubbed));
        assert_eq!(text_of(&cut(&message, 300)), "a chart\n(an image)");
    }

    #[test]
    fn texts_keep_their_ends() {
        assert_eq!(head_and_tail("short", 5, "gone"), "short");
        assert_eq!(head_and_tail("abcdefghijkl", 6, "gone"), "abcd\n[… 6 bytes gone …]\nkl");
        let cut = cut(&Message::user("ü".repeat(1_000)), 30).into_owned();
        assert!(cut.text().len() < 100, "{}", cut.text());
    }
}
