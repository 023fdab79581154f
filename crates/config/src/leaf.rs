//! The values of a file one by one, for whoever shows them or hides them.
//!
//! Invariants: in the order of the file; an array is one value unless it holds tables; which values are secrets is told
//! by their keys alone, so that one of a table that nobody could read is known too.

use toml_edit::{Array, InlineTable};

use crate::{
    document::Document,
    finding::Location,
    reference::resolve_secret,
    tree::{Node, Value},
};

/// Keys that hold secrets, wherever they are.
const SECRET_KEYS: [&str; 6] = ["token", "api_key", "key", "access", "refresh", "password"];
const SECRET_ENDS: [&str; 3] = ["_token", "_secret", "_password"];
/// Tables whose values are all secrets.
const SECRET_TABLES: [&str; 2] = ["headers", "tokens"];

/// One value of a file, that is no table.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Keys from the root; entries of an array of tables by their index.
    pub path: Vec<String>,
    /// Where it begins.
    pub location: Location,
    /// As it is written, references unresolved. A secret is not masked here.
    pub value: toml_edit::Value,
}

impl Leaf {
    /// Whether its key is one of a secret.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        is_secret(&path)
    }
}

/// Whether the value at this path is a secret.
#[must_use]
pub fn is_secret(path: &[&str]) -> bool {
    let Some((key, above)) = path.split_last() else { return false };
    SECRET_KEYS.contains(key)
        || SECRET_ENDS.iter().any(|end| key.ends_with(end))
        || above.last().is_some_and(|table| SECRET_TABLES.contains(table))
}

impl Document {
    /// Its values, one by one.
    #[must_use]
    pub fn leaves(&self) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        self.collect(self.root(), &mut Vec::new(), &mut leaves);
        leaves
    }

    /// The values of all its secrets that can be resolved, also of tables that nothing reads.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let written = self.leaves().into_iter().filter(Leaf::is_secret);
        let texts = written.filter_map(|leaf| leaf.value.as_str().map(str::to_owned));
        texts.filter_map(|text| resolve_secret(&text, self.environment().lookup()).ok()).collect()
    }

    fn collect(&self, node: &Node, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
        let mut below = |key: String, node: &Node, path: &mut Vec<String>| {
            path.push(key);
            self.collect(node, path, leaves);
            path.pop();
        };
        match &node.value {
            Value::Table(entries) => entries.iter().for_each(|entry| below(entry.key.clone(), &entry.node, path)),
            Value::Array(items) if items.iter().any(|item| matches!(item.value, Value::Table(_))) => {
                (0..).zip(items).for_each(|(index, item): (usize, _)| below(index.to_string(), item, path));
            }
            value => {
                leaves.push(Leaf { path: path.clone(), location: self.place(node.offset), value: written(value) });
            }
        }
    }
}

fn written(value: &Value) -> toml_edit::Value {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Integer(number) => {
            number.and_then(|number| i64::try_from(number).ok()).map_or_else(|| "?".into(), Into::into)
        }
        Value::Float(number) => (*number).into(),
        Value::Boolean(value) => (*value).into(),
        Value::Datetime(instant) => instant.as_str().into(),
        Value::Array(items) => items.iter().map(|item| written(&item.value)).collect::<Array>().into(),
        Value::Table(entries) => {
            let entries = entries.iter().map(|entry| (entry.key.as_str(), written(&entry.node.value)));
            entries.collect::<InlineTable>().into()
        }
    }
}
