//! Values as they are shown: a secret never is.

use serde_json::{Map, Value as Json, json};
use stakpak_config::{Leaf, toml_edit::Value};
use stakpak_redact::Redactor;

/// What stands for a secret.
const MASK: &str = "***";

/// A value, where it comes from, and no secret.
pub(super) struct Shown {
    pub(super) key: String,
    value: Value,
    /// `config.toml:3`, a variable, or `built in`.
    pub(super) origin: String,
}

impl Shown {
    /// A value that is written in `file`; a reference to a secret is shown, the secret is not.
    pub(super) fn written(file: &str, leaf: &Leaf, redactor: &Redactor) -> Self {
        let is_shown = !leaf.is_secret() || leaf.value.as_str().is_some_and(is_reference);
        let value = if is_shown { redacted(&leaf.value, redactor) } else { MASK.into() };
        Self { key: leaf.path.join("."), value, origin: format!("{file}:{}", leaf.location.line) }
    }

    pub(super) fn hidden(key: String, origin: impl Into<String>) -> Self {
        Self { key, value: MASK.into(), origin: origin.into() }
    }

    pub(super) fn new(key: String, value: Value, origin: impl Into<String>) -> Self {
        Self { key, value, origin: origin.into() }
    }

    /// As TOML.
    pub(super) fn toml(&self) -> String {
        let mut value = self.value.clone();
        value.decor_mut().clear();
        value.to_string()
    }

    /// For scripts: a text without its quotes.
    pub(super) fn plain(&self) -> String {
        self.value.as_str().map_or_else(|| self.toml(), str::to_owned)
    }

    pub(super) fn json(&self) -> Json {
        json!({ "key": self.key, "origin": self.origin, "value": as_json(&self.value) })
    }
}

/// Whether the text is a reference and nothing else, so that it holds nothing of the secret.
fn is_reference(text: &str) -> bool {
    let of_name = |name: &str| name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    text.starts_with("file:")
        || text.strip_prefix("env:").is_some_and(of_name)
        || inner.is_some_and(|inner| inner.starts_with("file:") || of_name(inner))
}

/// A secret that stands where none is expected is hidden too.
fn redacted(value: &Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => redactor.redact(text.value()).as_ref().into(),
        Value::Array(items) => items.iter().map(|item| redacted(item, redactor)).collect(),
        other => other.clone(),
    }
}

pub(super) fn as_json(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::from(text.value().as_str()),
        Value::Integer(number) => Json::from(*number.value()),
        Value::Float(number) => Json::from(*number.value()),
        Value::Boolean(value) => Json::from(*value.value()),
        Value::Datetime(instant) => Json::from(instant.value().to_string()),
        Value::Array(items) => items.iter().map(as_json).collect(),
        Value::InlineTable(entries) => {
            Json::from(entries.iter().map(|(key, value)| (key.to_owned(), as_json(value))).collect::<Map<_, _>>())
        }
    }
}
