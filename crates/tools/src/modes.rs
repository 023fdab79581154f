//! `grep` and `glob` are modes of `view`; a call under these names means that.

use serde_json::{Map, Value};
use stakpak_agent_core::ToolCall;

use crate::catalogue::{VIEW, bare};

/// What models call the fields of such tools, and what they are in a call of `view`.
const OF_GREP: [(&str, &[&str]); 3] = [
    ("path", &["path", "directory"]),
    ("grep", &["grep", "pattern", "regex", "query"]),
    ("glob", &["glob", "include"]),
];
const OF_GLOB: [(&str, &[&str]); 2] = [("path", &["path", "directory"]), ("glob", &["glob", "pattern"])];

/// The call of `view` that this one means; itself where it means no other, or does not say what to look for.
pub(crate) fn meant(call: ToolCall) -> ToolCall {
    let (fields, sought): (&[_], _) = match bare(&call.name) {
        "grep" => (&OF_GREP, "grep"),
        "glob" => (&OF_GLOB, "glob"),
        _ => return call,
    };
    let Value::Object(given) = &call.arguments else { return call };
    let field = |(field, names): &(&str, &[&str])| {
        let value = names.iter().find_map(|name| given.get(*name)).filter(|value| !value.is_null());
        value.map(|value| ((*field).to_owned(), value.clone()))
    };
    let mut arguments: Map<String, Value> = fields.iter().filter_map(field).collect();
    if !arguments.contains_key(sought) {
        return call;
    }
    arguments.entry("path").or_insert_with(|| ".".into());
    ToolCall { name: VIEW.to_owned(), arguments: Value::Object(arguments), ..call }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(name: &str, arguments: Value) -> (String, Value) {
        let call = meant(ToolCall { id: "call_1".into(), name: name.to_owned(), arguments, metadata: None });
        (call.name, call.arguments)
    }

    #[test]
    fn a_search_under_another_name_is_a_view() {
        for (name, arguments, expected) in [
            ("stakpak__grep", json!({"pattern": "a.b", "path": "src"}), json!({"path": "src", "grep": "a.b"})),
            ("grep", json!({"pattern": "x", "include": "*.rs"}), json!({"path": ".", "grep": "x", "glob": "*.rs"})),
            ("stakpak__glob", json!({"pattern": "**/*.rs", "path": null}), json!({"path": ".", "glob": "**/*.rs"})),
        ] {
            assert_eq!(told(name, arguments), (VIEW.to_owned(), expected));
        }
    }

    #[test]
    fn what_means_no_search_stays() {
        for (name, arguments) in [
            ("stakpak__grep", json!({"path": "x"})),
            ("stakpak__glob", json!("*.rs")),
            ("other__grep", json!({"pattern": "x"})),
            ("stakpak__run_command", json!({"command": "grep x"})),
        ] {
            assert_eq!(told(name, arguments.clone()), (name.to_owned(), arguments));
        }
    }
}
