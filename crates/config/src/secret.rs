//! A secret of a configuration file.
//!
//! Invariants: the value leaves only through [`Secret::expose`]; `Debug` and `Display` print `***`; what is
//! saved is the text as it was written, so that a reference stays a reference.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Asks the deserialiser of a [`crate::Document`] for the pair (as written, value).
pub(crate) const SECRET: &str = "$stakpak_config::Secret";

/// A secret: token, key, password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    written: String,
    value: String,
}

impl Secret {
    /// A secret given as its value. It is written as that value when it is saved.
    pub fn new(value: impl Into<String>) -> Self {
        let value = value.into();
        Self { written: value.clone(), value }
    }

    /// The value itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// Whether the file holds the secret itself and not a reference to it.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.written == self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SECRET, SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> de::Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut pair: A) -> Result<Secret, A::Error> {
        let missing = || de::Error::custom("expected a string");
        let written = pair.next_element()?.ok_or_else(missing)?;
        let value = pair.next_element()?.ok_or_else(missing)?;
        Ok(Secret { written, value })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Secret, D::Error> {
        inner.deserialize_str(self)
    }

    /// Another source than a document: nothing there resolves a reference, and its text must not pass
    /// for the value.
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        if text.contains("${") || text.starts_with("env:") || text.starts_with("file:") {
            return Err(E::custom("a reference to a secret has a value only in a document"));
        }
        Ok(Secret::new(text))
    }
}
