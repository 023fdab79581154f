//! How far the tools of a run are confined.
//!
//! Asked for by profile and message, settled when the run is accepted, stored with it: nothing lowers it afterwards.

use std::{num::NonZeroU16, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What confines a run's processes and file tools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxLevel {
    /// The host, with the limits that every call has.
    #[default]
    Off,
    /// The kernel: Landlock and seccomp. No container engine, no other user.
    Landlock,
    /// A container of the session's own.
    Container,
    /// The strongest of those that are there. Asked for only; what is settled names one of the others.
    Strongest,
}

/// A level with what is granted beyond the working directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// What confines.
    pub level: SandboxLevel,
    /// Absolute paths that may be read and executed, besides those of the system.
    pub read: Vec<PathBuf>,
    /// Absolute paths that may be written, besides the working directory.
    pub write: Vec<PathBuf>,
    /// Whether other machines and local ports can be reached.
    pub network: bool,
    /// Whether UNIX sockets can be made and reached.
    pub unix_sockets: bool,
    /// Credentials that calls get, by name.
    pub secrets: Vec<String>,
    /// What a container is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The most memory of a container, as the engine takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// The most processors of a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<NonZeroU16>,
}

impl From<SandboxLevel> for Sandbox {
    /// With nothing granted.
    fn from(level: SandboxLevel) -> Self {
        Self { level, ..Self::default() }
    }
}

impl Sandbox {
    /// Whether nothing is confined.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.level == SandboxLevel::Off
    }

    /// The same where the message asks for a sandbox: the strongest there is, unless a level is set.
    #[must_use]
    pub fn demanded(self) -> Self {
        let level = if self.is_off() { SandboxLevel::Strongest } else { self.level };
        Self { level, ..self }
    }
}

/// A sandbox that was asked for and cannot be set up whole: nothing runs instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SandboxUnavailable {
    /// What is missing, and what would help.
    pub message: String,
}

impl SandboxUnavailable {
    /// With this message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}
