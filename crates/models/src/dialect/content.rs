//! Parts of messages that several protocols say alike.

use serde_json::{Value, json};
use stakpak_protocol::result_text;

/// Where an image is.
pub(super) enum Image<'a> {
    Inline { kind: &'a str, base64: &'a str },
    Url(&'a str),
}

impl<'a> Image<'a> {
    pub(super) fn of(url: &'a str) -> Self {
        match url.strip_prefix("data:").and_then(|data| data.split_once(";base64,")) {
            Some((kind, base64)) => Self::Inline { kind, base64 },
            None => Self::Url(url),
        }
    }
}

/// Providers read the arguments as an object and fail on anything else.
pub(super) fn object(arguments: &Value) -> Value {
    match arguments {
        Value::Object(_) => arguments.clone(),
        Value::Null => json!({}),
        other => json!({ "invalid_arguments": other }),
    }
}

/// What stands for an image in a result that goes to a model which takes none there.
const NO_IMAGE: &str = "<non-text tool result omitted for safety>";

/// A result as plain text, never as JSON within JSON.
pub(super) fn text_of(content: &Value) -> String {
    let with_images = || result_text(content, |_| NO_IMAGE.to_owned()).unwrap_or_else(|| content.to_string());
    content.as_str().map_or_else(with_images, str::to_owned)
}

/// A result for a provider without a flag for errors.
pub(super) fn marked_text(content: &Value, is_error: bool) -> String {
    let text = text_of(content);
    if is_error { format!("[error] {text}") } else { text }
}
