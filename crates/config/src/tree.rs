//! The values of a file with the place of each, free of the text they were parsed from.
//!
//! Invariant: the entries of a table are in the order of the file.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A value and the byte offset at which it begins.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) offset: usize,
    pub(crate) value: Value,
}

#[derive(Clone)]
pub(crate) enum Value {
    String(String),
    /// `None` is a number that no integer type holds.
    Integer(Option<i128>),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// One key of a table.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_offset: usize,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn parse(source: &str) -> Result<Self, toml::de::Error> {
        let root = DeTable::parse(source)?;
        Ok(Self { offset: 0, value: table(root.get_ref()) })
    }

    pub(crate) fn child(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            Value::Array(items) => items.get(key.parse::<usize>().ok()?),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl Value {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

fn node(parsed: &Spanned<DeValue<'_>>) -> Node {
    let value = match parsed.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => Value::Integer(i128::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(instant) => Value::Datetime(instant.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(node).collect()),
        DeValue::Table(entries) => table(entries),
    };
    Node { offset: parsed.span().start, value }
}

fn table(parsed: &DeTable<'_>) -> Value {
    let mut entries: Vec<_> = parsed
        .iter()
        .map(|(key, value)| Entry { key: key.get_ref().to_string(), key_offset: key.span().start, node: node(value) })
        .collect();
    entries.sort_by_key(|entry| entry.key_offset);
    Value::Table(entries)
}
