//! Strict TOML with locations, references to secrets, and edits that keep what they do not touch.
//!
//! [`Document`] reads a file: each table on its own, with the place of whatever is wrong. [`edit`] changes one:
//! atomically, and only if it parses. [`ConfigFile`] is `config.toml`, whose shape several parts share, with the keys of [`Credentials`];
//! what the tables of other files mean is known only to those who read them.

pub mod duration;
mod finding;
mod near;
mod reference;
mod secret;

mod reader;
mod tree;

mod document;
mod leaf;

mod edit;
mod file;

mod budget;
mod compaction;
mod config_file;
mod cost;
mod credentials;
mod limits;
mod no_progress;
mod profile;
mod provider;
mod reasoning;
mod sandbox;
mod secret_rules;

pub use budget::Budget;
pub use compaction::CompactionConfig;
pub use config_file::{ConfigFile, ProfileError};
pub use cost::Price;
pub use credentials::Credentials;
pub use document::{Codes, Document, LoadError};
pub use edit::{EditError, edit, edit_text, set};
pub use file::{FileError, create_if_absent, private_dir, write_private};
pub use finding::{Finding, Location, Severity};
pub use leaf::{Leaf, is_secret};
pub use limits::ModelLimits;
pub use no_progress::NoProgressConfig;
pub use profile::Profile;
pub use provider::{ProviderApi, ProviderConfig, ProviderKind};
pub use reasoning::Reasoning;
pub use reference::{Environment, ReferenceError, resolve, resolve_secret};
pub use sandbox::{SandboxConfig, SandboxLevel};
pub use secret::Secret;
pub use secret_rules::{SecretRule, SecretsConfig};
/// The document type that [`edit`] hands out, and what is put into it.
pub use toml_edit;
