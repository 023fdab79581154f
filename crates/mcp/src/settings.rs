//! What a configuration says about servers: `mcp.toml` or `mcp.json`, a table `mcpServers`.
//!
//! Keys that are not known are left alone: other programs keep theirs in the same files.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use globset::{Glob, GlobMatcher, GlobSet, GlobSetBuilder};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use stakpak_config::{SandboxConfig, SandboxLevel, is_secret};

use crate::{
    names::{NameError, check_server_name, hex},
    variables::{UnsetVariable, expand},
};

/// What a child process inherits unless `inherit_env` says otherwise.
const INHERITED: [&str; 2] = ["PATH", "HOME"];

/// Servers are given these too, and text without them would make no sense.
const ORDINARY: [&str; 7] = ["HOME", "USER", "LOGNAME", "PATH", "PWD", "SHELL", "TMPDIR"];

/// Headers without a credential in them.
const PLAIN_HEADERS: [&str; 4] = ["accept", "accept-language", "content-type", "user-agent"];

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
    /// A glob of `allow_tools`, `deny_tools` or `effects`.
    #[error("{key}: {source}")]
    Glob {
        /// Which list.
        key: &'static str,
        /// What is wrong.
        source: globset::Error,
    },
    /// What its sandbox is to be.
    #[error("sandbox: {0}")]
    Sandbox(#[source] serde_json::Error),
    /// Something that cannot be done: it must not be run without it.
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
    /// What may have happened when a call's result is missing, by tool; names go before globs, and of globs the most careful
    /// counts.
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
    /// The child's sandbox, as in a profile: a level, or a table. Checked with the server, not with the file.
    pub sandbox: Option<Value>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
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
    effects_by_glob: Vec<(GlobMatcher, ToolEffect)>,
    pub(crate) trust_annotations: bool,
    /// Rules whose secrets it may be given.
    pub(crate) secrets: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Transport {
    Stdio(Program),
    Http { url: String, headers: BTreeMap<String, String> },
}

/// A child process to be.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: Option<PathBuf>,
    /// None: the host, as everything that the user starts.
    pub(crate) sandbox: Option<SandboxConfig>,
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
        let transport = match (&self.command, &self.url) {
            (Some(command), None) => Transport::Stdio(Program {
                command: command.clone(),
                args: self.args.clone(),
                env: self.environment(variable)?,
                cwd: self.cwd.clone(),
                sandbox: self.sandbox()?,
            }),
            (None, Some(_)) if self.sandbox()?.is_some() => {
                return Err(ServerError::Unsupported(
                    "sandbox: only a program can be confined, not what is behind a url",
                ));
            }
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
            effects_by_glob: self.effects_by_glob()?,
            trust_annotations: self.trust_annotations,
            secrets: self.secrets.clone(),
        })
    }

    /// None where it is off.
    fn sandbox(&self) -> Result<Option<SandboxConfig>, ServerError> {
        let Some(value) = &self.sandbox else { return Ok(None) };
        let sandbox: SandboxConfig = serde_json::from_value(value.clone()).map_err(ServerError::Sandbox)?;
        if !sandbox.secrets.is_empty() {
            return Err(ServerError::Unsupported("sandbox.secrets: a server gets its credentials in `env`"));
        }
        Ok((sandbox.level != SandboxLevel::Off).then_some(sandbox))
    }

    fn effects_by_glob(&self) -> Result<Vec<(GlobMatcher, ToolEffect)>, ServerError> {
        let matcher = |glob: &str| Ok(Glob::new(glob)?.compile_matcher());
        let globs = self.effects.iter().filter(|(name, _)| name.contains(['*', '?', '[', '{']));
        let compiled = globs.map(|(glob, effect)| Ok((matcher(glob)?, *effect)));
        compiled.collect::<Result<_, _>>().map_err(|source| ServerError::Glob { key: "effects", source })
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

    /// Values of those variables, and what is written in their place: to be hidden wherever they turn up.
    #[must_use]
    pub fn secrets(&self, variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
        let of_variables = self.variables().into_iter().filter_map(|name| variable(&name));
        let named = |name: &str| {
            is_secret(&[name.to_ascii_lowercase().as_str()]) || name.to_ascii_lowercase().ends_with("_key")
        };
        let of_env = self.env.iter().filter(|(name, _)| named(name)).map(|(_, value)| value);
        // Behind a scheme such as `Bearer`.
        let credentials = |name: &str| !PLAIN_HEADERS.iter().any(|plain| name.eq_ignore_ascii_case(plain));
        let of_headers = self.headers.iter().filter(|(name, _)| credentials(name));
        let of_headers = of_headers.filter_map(|(_, value)| value.split_whitespace().last());
        let written = of_env.map(String::as_str).chain(of_headers).filter(|value| !value.contains('$'));
        of_variables.chain(written.map(str::to_owned)).collect()
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
        let by_glob = self.effects_by_glob.iter().filter(|(glob, _)| glob.is_match(tool)).map(|(_, effect)| *effect);
        self.effects.get(tool).copied().or_else(|| by_glob.max())
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
