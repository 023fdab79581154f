//! `sandbox` of a profile: a level, or a table with a level and what is granted beyond it.

use std::{fmt, num::NonZeroU16, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// How far the tools of a profile's runs are confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SandboxLevel {
    /// Not at all.
    Off,
    /// By the kernel.
    #[serde(alias = "workspace")]
    Landlock,
    /// In a container.
    Container,
    /// By the strongest of those that are there.
    #[serde(skip_deserializing)]
    Strongest,
}

/// A level with what is granted beyond the working directory. An unknown key is an error: what was meant may have been a
/// restriction.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct SandboxConfig {
    /// How far.
    pub level: SandboxLevel,
    /// Absolute paths, besides the system's.
    #[serde(default, deserialize_with = "places")]
    pub read: Vec<PathBuf>,
    /// Absolute paths, besides the working directory.
    #[serde(default, deserialize_with = "places")]
    pub write: Vec<PathBuf>,
    /// Whether the network can be reached.
    #[serde(default)]
    pub network: bool,
    /// Whether UNIX sockets can be used.
    #[serde(default)]
    pub unix_sockets: bool,
    /// Credentials by name.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// What a container is made from; it must be there already.
    #[serde(default, deserialize_with = "image")]
    pub image: Option<String>,
    /// The most memory of a container, as `4g` or `512m`.
    #[serde(default, deserialize_with = "memory")]
    pub memory: Option<String>,
    /// The most processors of a container.
    #[serde(default)]
    pub cpus: Option<NonZeroU16>,
}

impl SandboxConfig {
    /// A level that grants nothing more.
    #[must_use]
    pub fn new(level: SandboxLevel) -> Self {
        Self {
            level,
            read: Vec::new(),
            write: Vec::new(),
            network: false,
            unix_sockets: false,
            secrets: Vec::new(),
            image: None,
            memory: None,
            cpus: None,
        }
    }
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

    fn visit_str<E: de::Error>(self, level: &str) -> Result<SandboxConfig, E> {
        SandboxLevel::deserialize(level.into_deserializer()).map(SandboxConfig::new)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SandboxConfig, A::Error> {
        // What `remote` derives: the table alone.
        SandboxConfig::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Absolute paths; `~/` is the home of the user.
fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let place = |text: String| {
        let path = match (text.strip_prefix("~/"), std::env::home_dir()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(&text),
        };
        let wrong = || de::Error::custom(format!("{text:?} is not an absolute path, and does not start with ~/"));
        if path.is_absolute() { Ok(path) } else { Err(wrong()) }
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().map(place).collect()
}

/// The name of an image: nothing that an engine would take for an option.
fn image<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let is_known = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.chars().all(is_known) {
        return Ok(Some(name));
    }
    Err(de::Error::custom(format!("image: {name:?} is not the name of an image, such as \"debian:12\"")))
}

/// A number of bytes with a unit.
fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let size = String::deserialize(deserializer)?;
    let number = size.strip_suffix(['m', 'g']).and_then(|number| number.parse::<u32>().ok());
    if number.is_some_and(|number| number > 0) {
        return Ok(Some(size));
    }
    Err(de::Error::custom(format!("memory: {size:?} is not a size, such as \"4g\" or \"512m\"")))
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
