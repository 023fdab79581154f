//! What a call was given: JSON, or a form with files, read as the real server reads both.

use std::collections::HashMap;

use axum::{
    body::Bytes,
    extract::{FromRequest, Multipart, Request},
    http::header::CONTENT_TYPE,
};
use serde_json::{Map, Value};

/// The parameters of a call.
#[derive(Debug, Default)]
pub(super) struct Params {
    pub(super) values: Value,
    /// Files by the name of their part.
    files: HashMap<String, Upload>,
}

#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) name: String,
    pub(super) content: Bytes,
}

impl Params {
    /// None for a body that is neither.
    pub(super) async fn read(request: Request) -> Option<Self> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("multipart/form-data") {
            return Self::form(Multipart::from_request(request, &()).await.ok()?).await;
        }
        let body = Bytes::from_request(request, &()).await.ok()?;
        let values = if body.is_empty() { Value::Object(Map::new()) } else { serde_json::from_slice(&body).ok()? };
        Some(Self { values, files: HashMap::new() })
    }

    async fn form(mut form: Multipart) -> Option<Self> {
        let (mut values, mut files) = (Map::new(), HashMap::new());
        while let Some(field) = form.next_field().await.ok()? {
            let part = field.name()?.to_owned();
            if let Some(name) = field.file_name().map(str::to_owned) {
                values.insert(part.clone(), name.clone().into());
                files.insert(part, Upload { name, content: field.bytes().await.ok()? });
            } else {
                values.insert(part, field.text().await.ok()?.into());
            }
        }
        Some(Self { values: Value::Object(values), files })
    }

    /// A value; one that is written as text in a form, or in JSON, is read.
    pub(super) fn get(&self, key: &str) -> Value {
        match self.values.get(key) {
            Some(Value::String(text)) if text.starts_with(['{', '[']) => serde_json::from_str(text).unwrap_or_default(),
            Some(value) => value.clone(),
            None => Value::Null,
        }
    }

    pub(super) fn number(&self, key: &str) -> Option<i64> {
        number(self.values.get(key)?)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.as_str()
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|value| value == true || value == "true")
    }

    /// The file under a key: its own part, or the one that `attach://` names.
    pub(super) fn file(&self, key: &str) -> Option<&Upload> {
        let named = self.text(key).and_then(|text| text.strip_prefix("attach://"));
        self.files.get(named.unwrap_or(key))
    }
}

/// A number, also as text.
pub(super) fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}
