//! The keys of `config.toml` and `autopilot.toml`: what each holds, what it is when it is absent, and what it is for.
//!
//! Read by everything that shows, sets or describes a key. Which keys there are is decided by the parsers; a test holds
//! this list against them. Keys without an effect are not listed.

mod autopilot_toml;
mod channels;
mod config_toml;
mod schedules;

pub(super) use autopilot_toml::TABLES as AUTOPILOT;
pub(super) use channels::TOKEN_VARIABLES;
pub(super) use config_toml::TABLES as CONFIG;

/// In a path: a name that somebody chose.
pub(super) const ANY: &str = "*";
/// In a path: an entry of an array of tables.
pub(super) const ENTRY: &str = "[]";

/// One table.
pub(super) struct Table {
    /// Keys from the root, with [`ANY`] and [`ENTRY`] for what differs.
    pub(super) path: &'static [&'static str],
    pub(super) about: &'static str,
    pub(super) keys: &'static [Key],
}

/// One key of a table.
pub(super) struct Key {
    /// Its name, or [`ANY`].
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As it is written in TOML.
    value: &'static str,
    /// Whether an absent key means this value.
    is_default: bool,
    pub(super) about: &'static str,
}

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A text that is hidden, or a reference to one.
    Secret,
    /// Such as `1h 30m`.
    Duration,
    Bool,
    Integer,
    Number,
    /// A list of texts.
    Texts,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Texts or lists or tables.
    Mixed,
}

const fn default(name: &'static str, kind: Kind, value: &'static str, about: &'static str) -> Key {
    Key { name, kind, value, is_default: true, about }
}

const fn example(name: &'static str, kind: Kind, value: &'static str, about: &'static str) -> Key {
    Key { name, kind, value, is_default: false, about }
}

impl Key {
    /// A value as it may be written: the default, or an example.
    pub(super) fn sample(&self) -> &'static str {
        self.value
    }

    /// What an absent key means, as it would be written.
    pub(super) fn default(&self) -> Option<&'static str> {
        self.is_default.then_some(self.value)
    }
}

/// The table and key that describe the value at this path.
pub(super) fn find(path: &[String]) -> Option<(&'static Table, &'static Key)> {
    let (name, above) = path.split_last()?;
    let fits = |wanted: &str, found: &String| match wanted {
        ENTRY => found.parse::<usize>().is_ok(),
        ANY => true,
        wanted => wanted == found,
    };
    let tables = CONFIG.iter().chain(AUTOPILOT).filter(|table| {
        table.path.len() == above.len() && table.path.iter().zip(above).all(|(wanted, found)| fits(wanted, found))
    });
    tables.flat_map(|table| table.keys.iter().map(move |key| (table, key))).find(|(_, key)| fits(key.name, name))
}

/// Where a key belongs: every path as it is written in messages.
pub(super) fn all() -> impl Iterator<Item = String> {
    let keys = CONFIG.iter().chain(AUTOPILOT).flat_map(|table| table.keys.iter().map(move |key| (table, key)));
    keys.map(|(table, key)| table.path.iter().chain([&key.name]).copied().collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests;
