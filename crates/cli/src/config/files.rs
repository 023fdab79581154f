//! The two files, and how a key names a value in one of them.

use std::path::PathBuf;

use anyhow::Result;
use stakpak_config::{Document, toml_edit::Key};

use super::keys::{self, ENTRY};
use crate::{args::ConfigFileName, exit::Failure, home::Home};

impl ConfigFileName {
    pub(super) const ALL: [Self; 2] = [Self::Config, Self::Autopilot];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Config => "config.toml",
            Self::Autopilot => "autopilot.toml",
        }
    }

    pub(super) fn path(self, home: &Home) -> PathBuf {
        match self {
            Self::Config => home.config_toml().to_owned(),
            Self::Autopilot => home.autopilot_toml(),
        }
    }

    pub(super) fn tables(self) -> &'static [keys::Table] {
        match self {
            Self::Config => keys::CONFIG,
            Self::Autopilot => keys::AUTOPILOT,
        }
    }

    /// The file as it is; an absent one counts as empty.
    pub(super) fn load(self, home: &Home) -> Result<Document> {
        match Document::load(&self.path(home))? {
            Some(document) => Ok(document),
            None => Ok(Document::parse(self.name(), "")?),
        }
    }

    /// The one that this key is in.
    pub(super) fn of(path: &[String]) -> Option<Self> {
        let is_in = |file: &Self| {
            file.tables().iter().any(|table| table.path.first() == path.first().map(|key| &**key).as_ref())
        };
        Self::ALL.into_iter().find(is_in)
    }
}

/// `a.b."c d"` as its parts.
pub(super) fn parts(key: &str) -> Result<Vec<String>, Failure> {
    let parts = Key::parse(key).map_err(|error| Failure::Usage(format!("{key:?} is not a dotted key: {error}")))?;
    Ok(parts.into_iter().map(|part| part.get().to_owned()).collect())
}

/// The same with the index of an entry in the place of its name: `schedules.morning.cron`.
pub(super) fn resolved(path: &[String], document: &Document) -> Result<Vec<String>, Failure> {
    let mut path = path.to_vec();
    let arrays = keys::AUTOPILOT.iter().filter(|table| table.path.last() == Some(&ENTRY));
    for array in arrays.map(|table| &table.path[..table.path.len() - 1]) {
        let begins = path.len() > array.len() && path.iter().zip(array).all(|(part, wanted)| part == wanted);
        if !begins || path[array.len()].parse::<usize>().is_ok() {
            continue;
        }
        let name = &path[array.len()];
        let entries = (0..).map(|index: usize| index.to_string());
        let mut entries = entries.take_while(|index| document.locate(&[array, &[index.as_str()]].concat()).is_some());
        let is_named = |index: &String| document.text(&[array, &[index.as_str(), "name"]].concat()) == Some(name);
        let none = || Failure::Usage(format!("{} has no entry named {name:?}", array.join(".")));
        path[array.len()] = entries.find(is_named).ok_or_else(none)?;
    }
    Ok(path)
}

/// What to say about a key that nobody knows.
pub(super) fn unknown(key: &str) -> Failure {
    const NEAR: f64 = 0.8;
    let scored = keys::all().map(|known| (strsim::jaro_winkler(key, &known), known));
    let near = scored.filter(|(score, _)| *score >= NEAR).max_by(|(a, _), (b, _)| a.total_cmp(b));
    let hint = near.map_or_else(
        || "`stakpak config sample` shows them all".to_owned(),
        |(_, near)| format!("did you mean {near}?"),
    );
    Failure::Usage(format!("there is no key {key}; {hint}"))
}

/// The key that a path names, entries by index or by name.
pub(super) fn known(path: &[String]) -> Option<(&'static keys::Table, &'static keys::Key)> {
    let by_index = |path: &[String]| {
        let mut path = path.to_vec();
        if path.first().is_some_and(|first| first == "schedules")
            && let Some(entry) = path.get_mut(1)
        {
            "0".clone_into(entry);
        }
        path
    };
    keys::find(&by_index(path))
}
