//! Which fields of a body the server knows. The others are accepted, and named to the client in a header.
//!
//! What is known is what the OpenAPI document says of the body's type, so that neither can promise more than the other.
//! An array in the place of an object is no body: serde alone would read its elements as fields, in order.

use std::sync::{Arc, LazyLock, OnceLock};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use serde_json::{Map, Value};

const HEADER: HeaderName = HeaderName::from_static("x-ignored-fields");

/// Bytes of paths in the header; `...` stands for the rest.
const MAX_HEADER: usize = 2_048;

static SCHEMAS: LazyLock<Value> = LazyLock::new(|| {
    let mut document = serde_json::to_value(crate::openapi()).unwrap_or_default();
    document["components"]["schemas"].take()
});

/// Where the extractor of the body leaves the paths it ignored, for [`name_ignored`] to send.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignored(Arc<OnceLock<Vec<String>>>);

impl Ignored {
    pub(crate) fn tell(&self, paths: Vec<String>) {
        let _ = self.0.set(paths);
    }
}

/// Names the ignored fields of the body in `x-ignored-fields`, on errors too.
pub(crate) async fn name_ignored(mut request: Request, next: Next) -> Response {
    let ignored = Ignored::default();
    request.extensions_mut().insert(ignored.clone());
    let mut response = next.run(request).await;
    if let Some(paths) = ignored.0.get().filter(|paths| !paths.is_empty())
        && let Ok(value) = HeaderValue::from_str(&listed(paths))
    {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

fn listed(paths: &[String]) -> String {
    let mut list = String::new();
    for path in paths {
        if list.len() + path.len() > MAX_HEADER {
            list.push_str("...");
            return list;
        }
        list.push_str(path);
        list.push(',');
    }
    list.pop();
    list
}

/// The paths in `body` that a type of this name does not have.
///
/// # Errors
/// The path of an array where an object belongs; empty for the body itself.
pub(crate) fn unknown(type_name: &str, body: &Value) -> Result<Vec<String>, String> {
    let mut unknown = Vec::new();
    let schemas = SCHEMAS.get(type_name).into_iter().collect();
    walk(body, schemas, "", &mut unknown)?;
    Ok(unknown)
}

/// `schemas` are those that may describe `value`; at least one does, for the body was read already.
fn walk(value: &Value, schemas: Vec<&Value>, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    let mut shapes = Vec::new();
    for schema in schemas {
        expand(schema, &mut shapes);
    }
    if shapes.iter().any(|shape| !shape.contains_key("type")) {
        return Ok(()); // Any JSON.
    }
    match value {
        Value::Object(fields) => {
            shapes.retain(|shape| is_tagged_alike(shape, fields));
            for (name, value) in fields {
                let path = join(path, name);
                let known: Vec<_> = shapes.iter().filter_map(|shape| field(shape, name)).collect();
                if known.is_empty() { unknown.push(path) } else { walk(value, known, &path, unknown)? }
            }
        }
        Value::Array(items) => {
            let known: Vec<_> = shapes.iter().filter_map(|shape| shape.get("items")).collect();
            if known.is_empty() {
                return Err(path.to_owned());
            }
            for (index, item) in items.iter().enumerate() {
                walk(item, known.clone(), &join(path, &index.to_string()), unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// A schema without references and alternatives.
type Shape = Map<String, Value>;

fn expand<'a>(schema: &'a Value, shapes: &mut Vec<&'a Shape>) {
    let Some(shape) = schema.as_object() else { return };
    if let Some(name) = shape.get("$ref").and_then(Value::as_str) {
        let name = name.rsplit('/').next().unwrap_or_default();
        return SCHEMAS.get(name).into_iter().for_each(|schema| expand(schema, shapes));
    }
    let parts: Vec<_> =
        ["oneOf", "allOf", "anyOf"].iter().filter_map(|kind| shape.get(*kind)?.as_array()).flatten().collect();
    if parts.is_empty() {
        shapes.push(shape);
    }
    for part in parts {
        expand(part, shapes);
    }
}

/// Of the alternatives that are told apart by `type`, the one that is meant.
fn is_tagged_alike(shape: &Shape, fields: &Map<String, Value>) -> bool {
    let tags = field(shape, "type").and_then(|tag| tag.get("enum")?.as_array());
    tags.is_none_or(|tags| fields.get("type").is_some_and(|tag| tags.contains(tag)))
}

fn field<'a>(shape: &'a Shape, name: &str) -> Option<&'a Value> {
    let named = shape.get("properties").and_then(|fields| fields.get(name));
    named.or_else(|| shape.get("additionalProperties"))
}

/// The path as a header can carry it: what is not plain ASCII, and the comma, as `\uXXXX`.
fn join(path: &str, name: &str) -> String {
    let mut joined = path.to_owned();
    if !path.is_empty() {
        joined.push('.');
    }
    for character in name.chars() {
        if character.is_ascii_graphic() && character != ',' {
            joined.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                joined.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{listed, unknown};

    fn told(type_name: &str, body: &Value) -> Result<String, String> {
        unknown(type_name, body).map(|paths| listed(&paths))
    }

    #[test]
    fn every_level_of_a_message_is_looked_at() {
        let body = json!({
            "context": [{"name": "n", "content": "c", "kind": 1}, {"name": "n", "content": "c", "priority": null}],
            "extra": null,
            "message": {
                "content": [
                    {"type": "text", "text": "t", "foo": 1},
                    {"type": "image", "url": "u", "detail": null, "text": "t"},
                    {"type": "tool_call", "id": "i", "name": "n", "arguments": {"any": [1]}, "metadata": {"any": 1}},
                    {"type": "tool_result", "tool_call_id": "i", "content": {"any": 1}, "is_error": false},
                ],
                "provider_options": {"anthropic": {"cache_control": {"type": "ephemeral", "x": 1}}, "openai": {}},
                "role": "user",
            },
            "model": null,
            "overrides": {"auto_approve": ["a"], "foo": 1, "limits": {"tokens": 1, "turns": 2}, "max_turns": null},
            "type": "message",
        });
        let mut paths = unknown("PostMessageRequest", &body).unwrap();
        paths.sort_unstable();
        let wanted = [
            "context.0.kind",
            "extra",
            "message.content.0.foo",
            "message.content.1.text",
            "message.provider_options.anthropic.cache_control.x",
            "message.provider_options.openai",
            "overrides.foo",
            "overrides.limits.turns",
        ];
        assert_eq!(paths, wanted);
    }

    #[test]
    fn flattened_fields_and_maps_are_known() {
        let decision = json!({"action": "accept", "by": null, "foo": 1, "run_id": "r"});
        assert_eq!(told("DecisionRequest", &decision), Ok("foo".to_owned()));
        let decisions = json!({"decisions": {"call_1": {"action": "accept", "foo": 1}}, "run_id": "r"});
        assert_eq!(told("DecisionsRequest", &decisions), Ok("decisions.call_1.foo".to_owned()));
    }

    #[test]
    fn an_array_is_no_object() {
        assert_eq!(told("CreateSessionRequest", &json!(["t"])), Err(String::new()));
        let message = json!({"message": ["user", "text"]});
        assert_eq!(told("PostMessageRequest", &message), Err("message".to_owned()));
        let part = json!({"message": {"content": [["text", "t"]], "role": "user"}});
        assert_eq!(told("PostMessageRequest", &part), Err("message.content.0".to_owned()));
    }

    #[test]
    fn names_are_escaped_and_the_list_is_bounded() {
        assert_eq!(told("CancelRequest", &json!({"a,b é\n": 1})), Ok("a\\u002cb\\u0020\\u00e9\\u000a".to_owned()));
        let many: serde_json::Map<_, _> = (0..1_000).map(|n| (format!("field_{n:04}"), json!(1))).collect();
        let list = told("CancelRequest", &Value::Object(many)).unwrap();
        assert!(list.len() < 2_100 && list.ends_with(",..."), "{list}");
    }
}
