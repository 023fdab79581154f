//! From a parsed value to a type: resolves references on the way, says where an error is, and collects
//! the keys that the type does not know.
//!
//! Invariants: an error carries the place of the innermost value (of the table, when a key is missing);
//! only strings that the type asks for are resolved, so a reference in an unknown key cannot fail; the
//! value of a secret is in no message.
//!
//! `#[serde(flatten)]`, untagged and internally tagged types buffer their content: below them unknown keys go
//! unnoticed and whole-value references of a [`crate::Secret`] are refused.

use std::{cell::RefCell, fmt};

use crate::{
    duration::DURATION,
    reference::{Environment, ReferenceError, resolve, resolve_secret},
    secret::SECRET,
    tree::{Entry, Node, Value},
};
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    value::{MapAccessDeserializer, SeqDeserializer},
};

/// What kind of error a value has; the reader of a table gives each its code.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Invalid,
    Missing,
    Reference,
    Variant,
    Duration,
}

/// Why a value is not of the type asked for.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) path: String,
    pub(crate) offset: Option<usize>,
    missing: Option<&'static str>,
}

impl Problem {
    fn new(kind: Kind, message: String) -> Self {
        Self { kind, message, path: String::new(), offset: None, missing: None }
    }

    fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    fn at(mut self, offset: usize, path: &str) -> Self {
        if self.offset.is_none() {
            self.offset = Some(offset);
            self.path = match self.missing {
                Some(key) => join(path, key),
                None => path.to_owned(),
            };
        }
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Kind::Invalid, message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        let mut problem = Self::new(Kind::Missing, "required key is missing".to_owned());
        problem.missing = Some(field);
        problem
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let allowed = expected.join(", ");
        Self::new(Kind::Variant, format!("unknown value {variant:?}, expected one of {allowed}"))
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Kind::Invalid, format!("expected {expected}, found {found}"))
    }
}

impl From<ReferenceError> for Problem {
    fn from(error: ReferenceError) -> Self {
        let message = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self::new(Kind::Reference, message)
    }
}

/// A key that the type asked for does not have.
#[derive(Debug)]
pub(crate) struct UnknownKey {
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) offset: usize,
    pub(crate) known: &'static [&'static str],
}

/// What is the same for all values of one reading.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) environment: Environment,
    pub(crate) unknown: RefCell<Vec<UnknownKey>>,
}

/// One value with its key path.
pub(crate) struct Reader<'a> {
    reading: &'a Reading,
    node: &'a Node,
    path: String,
    /// The entry of the value and the keys its table may have, where a type says so.
    entry: Option<(&'a Entry, &'static [&'static str])>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(reading: &'a Reading, node: &'a Node, path: String) -> Self {
        Self { reading, node, path, entry: None }
    }

    /// Runs `read` and gives the place of this value to an error that has none yet.
    fn located<T>(self, read: impl FnOnce(&Self) -> Result<T, Problem>) -> Result<T, Problem> {
        read(&self).map_err(|problem| problem.at(self.node.offset, &self.path))
    }

    fn table(&self, known: Option<&'static [&'static str]>) -> Result<Table<'a>, Problem> {
        match &self.node.value {
            Value::Table(entries) => Ok(Table {
                reading: self.reading,
                entries: entries.iter(),
                current: None,
                path: self.path.clone(),
                known,
            }),
            other => Err(not_a("a table", other)),
        }
    }

    fn string(&self, text: &str) -> Result<String, Problem> {
        Ok(resolve(text, self.reading.environment.lookup())?)
    }

    fn any<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Problem> {
        match &self.node.value {
            Value::String(text) => visitor.visit_string(self.string(text)?),
            Value::Integer(number) => visit_integer(*number, visitor),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Datetime(instant) => visitor.visit_str(instant),
            Value::Array(items) => visitor.visit_seq(Array {
                reading: self.reading,
                items: items.iter().enumerate(),
                path: self.path.clone(),
            }),
            Value::Table(_) => visitor.visit_map(self.table(None)?),
        }
    }

    fn secret<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Problem> {
        let Value::String(written) = &self.node.value else {
            return Err(not_a("a string", &self.node.value));
        };
        let value = resolve_secret(written, self.reading.environment.lookup())?;
        visitor.visit_seq(SeqDeserializer::new([written.clone(), value].into_iter()))
    }

    fn ignored(&self) {
        let Some((entry, known)) = self.entry else { return };
        if !known.contains(&entry.key.as_str()) {
            self.reading.unknown.borrow_mut().push(UnknownKey {
                path: self.path.clone(),
                key: entry.key.clone(),
                offset: entry.key_offset,
                known,
            });
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.located(|reader| reader.any(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        // An error that comes after the value was read, as from `try_from`, belongs to the value all the same.
        let (offset, path) = (self.node.offset, self.path.clone());
        visitor.visit_some(self).map_err(|problem| problem.at(offset, &path))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Problem> {
        match name {
            SECRET => self.located(|reader| reader.secret(visitor)),
            DURATION => visitor.visit_newtype_struct(self).map_err(|problem| match problem.kind {
                Kind::Invalid => problem.of_kind(Kind::Duration),
                _ => problem,
            }),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.located(|reader| visitor.visit_map(reader.table(Some(fields))?))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.located(|reader| match &reader.node.value {
            Value::String(text) => visitor.visit_enum(reader.string(text)?.into_deserializer()),
            Value::Table(_) => visitor.visit_enum(MapAccessDeserializer::new(reader.table(None)?)),
            other => Err(not_a("a string", other)),
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.ignored();
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier
    }
}

struct Table<'a> {
    reading: &'a Reading,
    entries: std::slice::Iter<'a, Entry>,
    current: Option<Reader<'a>>,
    path: String,
    known: Option<&'static [&'static str]>,
}

impl<'de> MapAccess<'de> for Table<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        let path = join(&self.path, &entry.key);
        let key = seed
            .deserialize(entry.key.as_str().into_deserializer())
            .map_err(|problem: Problem| problem.at(entry.key_offset, &path))?;
        self.current = Some(Reader {
            reading: self.reading,
            node: &entry.node,
            path,
            entry: self.known.map(|known| (entry, known)),
        });
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        match self.current.take() {
            Some(reader) => seed.deserialize(reader),
            None => Err(de::Error::custom("a value was read before its key")),
        }
    }
}

struct Array<'a> {
    reading: &'a Reading,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    path: String,
}

impl<'de> SeqAccess<'de> for Array<'_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let path = format!("{}[{index}]", self.path);
        seed.deserialize(Reader::new(self.reading, node, path)).map(Some)
    }
}

fn visit_integer<'de, V: Visitor<'de>>(number: Option<i128>, visitor: V) -> Result<V::Value, Problem> {
    let number = number.ok_or_else(too_large)?;
    match i64::try_from(number) {
        Ok(number) => visitor.visit_i64(number),
        Err(_) => visitor.visit_u64(u64::try_from(number).map_err(|_| too_large())?),
    }
}

fn too_large() -> Problem {
    de::Error::custom("the number is too large")
}

/// Says the type that was found, never the value: it may be a secret.
fn not_a(expected: &str, found: &Value) -> Problem {
    de::Error::custom(format!("expected {expected}, found {}", found.type_name()))
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
