//! What a configuration says about servers: `mcp.toml` or `mcp.json`, a table `mcpServers`.
//!
//! Keys that are not known are left alone: other programs keep theirs in the same files.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    names::{NameError, check_server_name, hex},
    variables::{UnsetVariable, expand},
};

/// What a child process inherits unless `inherit_env` says otherwise.
const INHERITED: [&str; 2] = ["PATH", "HOME"];

/// Servers are given these too, and text without them would make no sense.
const ORDINARY: [&str; 7] = ["HOME", "USER", "LOGNAME", "PATH", "PWD", "SHELL", "TMPDIR"];

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It is not TOML, or not of this shape.
    #[error("it cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// It is not JSON, or not of this shape.
    #[error("it cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// What is wrong with one server; the others are not affected.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Its name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It has neither or both.
    #[error("give either `command` or `url`")]
    Transport,
    /// A variable of `env` or `headers`.
    #[error("{key}.{name}: {source}")]
    Variable {
        /// `env` or `headers`.
        key: &'static str,
        /// Which of them.
        name: String,
        /// The variable.
        source: UnsetVariable,
    },
    /// A glob of `allow_tools` or `deny_tools`.
    #[error("{key}: {source}")]
    Glob {
        /// Which list.
        key: &'static str,
        /// What is wrong.
        source: globset::Error,
    },
    /// Something that this version cannot do: it must not be run without it.
    #[error("{0}")]
    Unsupported(&'static str),
}

#[derive(Debug, Deserialize)]
struct File {
    #[serde(default, rename = "mcpServers")]
    servers: BTreeMap<String, ServerTable>,
}

/// A server as it is written.
#[derive(Debug, Clone, Deserialize)]
pub struct ServerTable {
    /// A program to start; it is spoken to over stdin and stdout.
    pub command: Option<String>,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its variables; values may name variables of this process.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// An address to speak streamable HTTP with.
    pub url: Option<String>,
    /// Headers of every request; values may name variables of this process.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Not used at all.
    #[serde(default)]
    pub disabled: bool,
    /// For connecting and the first list of tools.
    #[serde(default = "startup_timeout", with = "stakpak_config::duration")]
    pub startup_timeout: Duration,
    /// How long a call may be silent; progress counts as a sound.
    #[serde(default = "timeout", with = "stakpak_config::duration")]
    pub timeout: Duration,
    /// How long a call may take in all.
    #[serde(default = "max_timeout", with = "stakpak_config::duration")]
    pub max_timeout: Duration,
    /// Globs; none: all tools.
    pub allow_tools: Option<Vec<String>>,
    /// Globs; wins.
    #[serde(default)]
    pub deny_tools: Vec<String>,
    /// What may have happened when a call's result is missing, by tool.
    #[serde(default)]
    pub effects: BTreeMap<String, ToolEffect>,
    /// Whether the server's own word on that is taken.
    #[serde(default)]
    pub trust_annotations: bool,
    /// Secrets that may be restored in arguments, by rule.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Variables that the child process gets from this one.
    pub inherit_env: Option<Vec<String>>,
    /// The child's working directory.
    pub cwd: Option<PathBuf>,
    /// Level of the child's sandbox.
    pub sandbox: Option<String>,
    /// How the conversation begins.
    #[serde(default)]
    pub protocol: Protocol,
}

fn startup_timeout() -> Duration {
    Duration::from_secs(20)
}

fn timeout() -> Duration {
    Duration::from_secs(120)
}

fn max_timeout() -> Duration {
    Duration::from_secs(30 * 60)
}

/// What may have happened when a call's result is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolEffect {
    /// Nothing.
    Pure,
    /// Something, but at most once under the call's id.
    Keyed,
    /// Anything.
    Unsafe,
}

/// How the conversation with a server begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// With the handshake that every server knows.
    #[default]
    Initialize,
    /// Without one, as from 2026-07-28.
    Discover,
    /// The second, then the first; costs 10 s with a server that does not answer what it does not know.
    Auto,
}

/// A server that can be used.
#[derive(Debug)]
pub struct Settings {
    pub(crate) name: String,
    pub(crate) transport: Transport,
    pub(crate) startup_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) max_timeout: Duration,
    pub(crate) protocol: Protocol,
    /// Of what decides which tools there are: a list that was kept under another one is not used.
    pub(crate) identity: String,
    allow: Option<GlobSet>,
    deny: GlobSet,
    effects: BTreeMap<String, ToolEffect>,
    pub(crate) trust_annotations: bool,
}

#[derive(Debug)]
pub(crate) enum Transport {
    Stdio { command: String, args: Vec<String>, env: BTreeMap<String, String>, cwd: Option<PathBuf> },
    Http { url: String, headers: BTreeMap<String, String> },
}

/// Reads a file; JSON where its name ends so. Every server is judged alone.
///
/// # Errors
/// The whole cannot be read.
pub fn parse(text: &str, is_json: bool) -> Result<BTreeMap<String, ServerTable>, SettingsError> {
    let File { servers } = if is_json { serde_json::from_str(text)? } else { toml::from_str(text)? };
    Ok(servers)
}

impl ServerTable {
    /// What it takes to use the server.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn settings(&self, name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Settings, ServerError> {
        check_server_name(name)?;
        if self.sandbox.as_deref().is_some_and(|level| level != "off") {
            return Err(ServerError::Unsupported("sandbox: servers cannot be run in a sandbox yet; write `off`"));
        }
        let transport = match (&self.command, &self.url) {
            (Some(command), None) => Transport::Stdio {
                command: command.clone(),
                args: self.args.clone(),
                env: self.environment(variable)?,
                cwd: self.cwd.clone(),
            },
            (None, Some(url)) => {
                Transport::Http { url: url.clone(), headers: expand_all("headers", &self.headers, variable)? }
            }
            _ => return Err(ServerError::Transport),
        };
        let identity = format!("{:?} {:?} {:?} {:?}", self.command, self.args, self.url, self.cwd);
        Ok(Settings {
            name: name.to_owned(),
            transport,
            startup_timeout: self.startup_timeout,
            timeout: self.timeout,
            max_timeout: self.max_timeout.max(self.timeout),
            protocol: self.protocol,
            identity: hex(&Sha256::digest(identity)),
            allow: self.allow_tools.as_deref().map(|globs| globs_of("allow_tools", globs)).transpose()?,
            deny: globs_of("deny_tools", &self.deny_tools)?,
            effects: self.effects.clone(),
            trust_annotations: self.trust_annotations,
        })
    }

    /// Variables that it names, but for those that every program has: they may hold secrets.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        let named = std::cell::RefCell::new(Vec::new());
        let noting = |name: &str| {
            named.borrow_mut().extend((!ORDINARY.contains(&name)).then(|| name.to_owned()));
            Some(String::new())
        };
        for value in self.env.values().chain(self.headers.values()) {
            let _ = expand(value, &noting);
        }
        named.into_inner()
    }

    /// Values of those variables: to be hidden wherever they turn up.
    #[must_use]
    pub fn secrets(&self, variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
        self.variables().iter().filter_map(|name| variable(name)).collect()
    }

    /// All that the child sees.
    fn environment(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>, ServerError> {
        let inherited: Vec<String> = match &self.inherit_env {
            Some(names) => names.clone(),
            None => INHERITED.map(str::to_owned).into(),
        };
        let mut environment: BTreeMap<String, String> =
            inherited.into_iter().filter_map(|name| variable(&name).map(|value| (name, value))).collect();
        environment.extend(expand_all("env", &self.env, variable)?);
        Ok(environment)
    }
}

impl Settings {
    pub(crate) fn allows(&self, tool: &str) -> bool {
        !self.deny.is_match(tool) && self.allow.as_ref().is_none_or(|allow| allow.is_match(tool))
    }

    pub(crate) fn effect(&self, tool: &str) -> Option<ToolEffect> {
        self.effects.get(tool).copied()
    }
}

fn expand_all(
    key: &'static str,
    values: &BTreeMap<String, String>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, ServerError> {
    let expanded = values.iter().map(|(name, value)| match expand(value, variable) {
        Ok(value) => Ok((name.clone(), value)),
        Err(source) => Err(ServerError::Variable { key, name: name.clone(), source }),
    });
    expanded.collect()
}

fn globs_of(key: &'static str, globs: &[String]) -> Result<GlobSet, ServerError> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(Glob::new(glob).map_err(|source| ServerError::Glob { key, source })?);
    }
    set.build().map_err(|source| ServerError::Glob { key, source })
}
