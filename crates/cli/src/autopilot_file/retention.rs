//! The keys of `[server.limits]` that say how long things are kept: a duration or a size, or `"off"` for ever.

use std::{fmt, marker::PhantomData, time::Duration};

use bytesize::ByteSize;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};
use stakpak_agent_core::Retention;

/// Keys of `[server.limits]`; an absent one means the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RetentionKeys {
    pub(super) events_age: Option<Keep<Duration>>,
    pub(super) events_bytes: Option<Keep<u64>>,
    pub(super) deleted_sessions: Option<Keep<Duration>>,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep<T> {
    /// `"off"`: no bound, everything is kept.
    Everything,
    /// Up to this.
    UpTo(T),
}

impl RetentionKeys {
    pub(crate) fn retention(self) -> Retention {
        let default = Retention::default();
        Retention {
            events_age: self.events_age.map_or(default.events_age, Keep::bound),
            events_bytes: self.events_bytes.map_or(default.events_bytes, Keep::bound),
            deleted_sessions: self.deleted_sessions.map_or(default.deleted_sessions, Keep::bound),
            ..default
        }
    }
}

impl<T> Keep<T> {
    fn bound(self) -> Option<T> {
        match self {
            Self::Everything => None,
            Self::UpTo(bound) => Some(bound),
        }
    }
}

/// What a bound is written as, besides `"off"`.
trait Written: Sized {
    const EXPECTED: &str;
    fn from_text(text: &str) -> Option<Self>;
    fn from_number(number: u64) -> Option<Self>;
}

impl Written for Duration {
    const EXPECTED: &str = "a duration such as \"30days\" or \"12h\", or \"off\" to keep everything";

    fn from_text(text: &str) -> Option<Self> {
        stakpak_config::duration::parse(text).ok()
    }

    fn from_number(_: u64) -> Option<Self> {
        None
    }
}

impl Written for u64 {
    const EXPECTED: &str = "a size such as \"64 MiB\" or a number of bytes, or \"off\" to keep everything";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.parse::<ByteSize>().ok()?.as_u64())
    }

    fn from_number(number: u64) -> Option<Self> {
        Some(number)
    }
}

impl<'de, T: Written> Deserialize<'de> for Keep<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeepVisitor(PhantomData))
    }
}

struct KeepVisitor<T>(PhantomData<T>);

impl<T: Written> Visitor<'_> for KeepVisitor<T> {
    type Value = Keep<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Keep<T>, E> {
        match text {
            "off" => Ok(Keep::Everything),
            text => match T::from_text(text) {
                Some(bound) => Ok(Keep::UpTo(bound)),
                None => Err(E::invalid_value(Unexpected::Str(text), &self)),
            },
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Keep<T>, E> {
        match T::from_number(number) {
            Some(bound) => Ok(Keep::UpTo(bound)),
            None => Err(E::invalid_type(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Keep<T>, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use stakpak_config::Document;

    use super::*;
    use crate::autopilot_file::AutopilotFile;

    fn read(lines: &str) -> Result<Retention, String> {
        let document = Document::parse("autopilot.toml", format!("[server.limits]\n{lines}")).unwrap();
        let file = AutopilotFile::read(&document).map_err(|error| error.to_string())?;
        assert!(file.warnings.is_empty(), "{:?}", file.warnings);
        Ok(file.server.limits.retention())
    }

    #[test]
    fn absent_keys_are_the_contracts_defaults() {
        let kept = read("").unwrap();
        let days_30 = Some(Duration::from_secs(30 * 24 * 3600));
        assert_eq!((kept.events_age, kept.deleted_sessions), (days_30, days_30));
        assert_eq!(kept.events_bytes, Some(64 << 20));
        assert_eq!(kept.deltas, Duration::from_secs(24 * 3600));
    }

    #[test]
    fn every_key_reaches_its_bound() {
        let kept = read("events_age = \"12h\"\nevents_bytes = \"2 MiB\"\ndeleted_sessions = \"7days\"").unwrap();
        assert_eq!(kept.events_age, Some(Duration::from_secs(12 * 3600)));
        assert_eq!(kept.events_bytes, Some(2 << 20));
        assert_eq!(kept.deleted_sessions, Some(Duration::from_secs(7 * 24 * 3600)));
        assert_eq!(read("events_bytes = 4096").unwrap().events_bytes, Some(4096));
    }

    #[test]
    fn off_keeps_everything() {
        let kept = read("events_age = \"off\"\nevents_bytes = \"off\"\ndeleted_sessions = \"off\"").unwrap();
        assert_eq!((kept.events_age, kept.events_bytes, kept.deleted_sessions), (None, None, None));
    }

    #[test]
    fn a_bad_value_names_its_key_and_what_is_right() {
        for (line, key, right) in [
            ("events_age = 30", "server.limits.events_age", "\"30days\""),
            ("events_age = \"long\"", "server.limits.events_age", "\"30days\""),
            ("events_bytes = -1", "server.limits.events_bytes", "\"64 MiB\""),
            ("events_bytes = \"many\"", "server.limits.events_bytes", "\"64 MiB\""),
            ("deleted_sessions = false", "server.limits.deleted_sessions", "\"off\""),
        ] {
            let error = read(line).unwrap_err();
            assert!(
                error.contains("autopilot.toml:2") && error.contains(key) && error.contains(right),
                "{line}: {error}"
            );
        }
    }
}
