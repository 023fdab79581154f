//! `sandbox` of a profile: a level, or a table with a level and what is granted beyond it.

use std::{fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// How far the tools of a profile's runs are confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SandboxLevel {
    /// Not at all.
    Off,
    /// By the kernel.
    Landlock,
    /// In a container.
    Container,
    /// By the strongest of those that are there.
    Strongest,
}

/// A level with what is granted beyond the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxConfig {
    /// How far.
    pub level: SandboxLevel,
    /// Absolute paths, besides the system's.
    pub read: Vec<PathBuf>,
    /// Absolute paths, besides the working directory.
    pub write: Vec<PathBuf>,
    /// Whether the network can be reached.
    pub network: bool,
    /// Whether UNIX sockets can be used.
    pub unix_sockets: bool,
    /// Credentials by name.
    pub secrets: Vec<String>,
}

impl SandboxConfig {
    /// A level that grants nothing more.
    #[must_use]
    pub fn new(level: SandboxLevel) -> Self {
        Self { level, read: Vec::new(), write: Vec::new(), network: false, unix_sockets: false, secrets: Vec::new() }
    }
}

/// An unknown key is an error here: what was meant may have been a restriction.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    level: Level,
    #[serde(default)]
    read: Vec<Place>,
    #[serde(default)]
    write: Vec<Place>,
    #[serde(default)]
    network: bool,
    #[serde(default)]
    unix_sockets: bool,
    #[serde(default)]
    secrets: Vec<String>,
}

impl<'de> Deserialize<'de> for SandboxConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LevelOrTable)
    }
}

struct LevelOrTable;

impl<'de> Visitor<'de> for LevelOrTable {
    type Value = SandboxConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("off, landlock or container, or a table with a level")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SandboxConfig, E> {
        LevelVisitor.visit_str(text).map(|Level(level)| SandboxConfig::new(level))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SandboxConfig, A::Error> {
        let Table { level: Level(level), read, write, network, unix_sockets, secrets } =
            Table::deserialize(MapAccessDeserializer::new(map))?;
        let places = |places: Vec<Place>| places.into_iter().map(|Place(path)| path).collect();
        Ok(SandboxConfig { level, read: places(read), write: places(write), network, unix_sockets, secrets })
    }
}

struct Level(SandboxLevel);

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(LevelVisitor)
    }
}

struct LevelVisitor;

impl Visitor<'_> for LevelVisitor {
    type Value = Level;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("off, landlock (or workspace) or container")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Level, E> {
        match text {
            "off" => Ok(Level(SandboxLevel::Off)),
            "landlock" | "workspace" => Ok(Level(SandboxLevel::Landlock)),
            "container" => Ok(Level(SandboxLevel::Container)),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

/// An absolute path; `~/` is the home of the user.
struct Place(PathBuf);

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(PlaceVisitor)
    }
}

struct PlaceVisitor;

impl Visitor<'_> for PlaceVisitor {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an absolute path, or one that starts with ~/")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Place, E> {
        let path = match (text.strip_prefix("~/"), std::env::home_dir()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(text),
        };
        if path.is_absolute() { Ok(Place(path)) } else { Err(E::invalid_value(de::Unexpected::Str(text), &self)) }
    }
}

/// `warden`, an earlier spelling of the level `container`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Warden {
    enabled: bool,
    volumes: de::IgnoredAny,
}

impl Warden {
    pub(crate) fn sandbox(&self) -> Option<SandboxConfig> {
        let Self { enabled, volumes: de::IgnoredAny } = self;
        enabled.then(|| SandboxConfig::new(SandboxLevel::Container))
    }
}
