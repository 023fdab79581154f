//! Durations as people write them: `30s`, `5m`, `1h 30m`. For `#[serde(with = "stakpak_config::duration")]`;
//! [`option`] for an `Option<Duration>`, together with `#[serde(default)]`.

use std::{fmt, time::Duration};

use serde::{Deserializer, Serializer, de};

/// Tells the deserialiser of a [`crate::Document`] that an error here is a bad duration.
pub(crate) const DURATION: &str = "$stakpak_config::duration";

/// Text that is no duration.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a duration such as 30s, 5m or 1h 30m")]
pub struct DurationError {
    text: String,
    #[source]
    source: humantime::DurationError,
}

/// Reads a duration.
///
/// # Errors
/// The text is no duration.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    humantime::parse_duration(text).map_err(|source| DurationError { text: text.to_owned(), source })
}

/// A duration as [`parse`] reads it, such as `1h 30m`.
pub fn show(duration: Duration) -> impl fmt::Display {
    humantime::format_duration(duration)
}

/// Reads a duration from a string.
///
/// # Errors
/// Not a string, or no duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_newtype_struct(DURATION, DurationVisitor)
}

/// Writes a duration as a string.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&show(*duration))
}

struct DurationVisitor;

impl<'de> de::Visitor<'de> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"30s\", \"5m\" or \"1h 30m\"")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Duration, D::Error> {
        inner.deserialize_str(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

/// The same for an `Option<Duration>`.
pub mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Written(#[serde(with = "super")] Duration);

    /// Reads a duration that is there.
    ///
    /// # Errors
    /// Not a string, or no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(|Written(duration)| duration))
    }

    /// Writes a duration as a string, if there is one.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }
}
