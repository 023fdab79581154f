//! Where everything lives: the state directory and the files in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use stakpak_config::{Codes, ConfigFile, Credentials, Document, LoadError, create_if_absent, private_dir};
use stakpak_models::KNOWN_PROVIDERS;

use crate::{logging::SECRET_VARIABLES, profiles::BEDROCK_KEY};

/// The state directory.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
    config: PathBuf,
    ledger: PathBuf,
    logs: PathBuf,
}

/// `[watch]` of `autopilot.toml`, as far as it moves files.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Places {
    db_path: Option<String>,
    log_dir: Option<String>,
}

impl Home {
    /// `--home`, else `$STAKPAK_HOME`, else `$HOME/.stakpak`; made if it is not there. `config` moves `config.toml` only.
    pub(crate) fn open(home: Option<PathBuf>, config: Option<PathBuf>) -> Result<Self> {
        let root = match home {
            Some(home) => home,
            None => {
                std::env::home_dir().context("HOME is not set; give the state directory with --home")?.join(".stakpak")
            }
        };
        let root = std::path::absolute(&root)?;
        private_dir(&root)?;
        private_dir(&root.join("autopilot"))?;
        let (ledger, logs) = Places::of(&root.join("autopilot.toml")).below(&root);
        // Whoever needs a place that cannot be had says so; `down` does not.
        let _ = private_dir(&logs);
        let _ = private_dir(ledger.parent().unwrap_or(&root));
        Ok(Self { config: config.unwrap_or_else(|| root.join("config.toml")), root, ledger, logs })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn config_toml(&self) -> &Path {
        &self.config
    }

    /// What providers know us by, apart from `config.toml`.
    pub(crate) fn auth_toml(&self) -> PathBuf {
        self.root.join("auth.toml")
    }

    /// The profiles, with the keys of `auth.toml`.
    pub(crate) fn config_file(&self) -> Result<ConfigFile, LoadError> {
        Ok(ConfigFile::load(&self.config)?.with_credentials(self.credentials()?))
    }

    pub(crate) fn credentials(&self) -> Result<Credentials, LoadError> {
        Credentials::load(&self.auth_toml())
    }

    pub(crate) fn autopilot_toml(&self) -> PathBuf {
        self.root.join("autopilot.toml")
    }

    /// Of the standalone gateway; it need not be there.
    pub(crate) fn gateway_toml(&self) -> PathBuf {
        self.root.join("gateway.toml")
    }

    pub(crate) fn autopilot(&self, name: &str) -> PathBuf {
        self.root.join("autopilot").join(name)
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.logs.clone()
    }

    /// The schedules' ledger.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.ledger.clone()
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.autopilot("token")
    }

    /// Keys of places that are others in the file by now.
    pub(crate) fn moved_places(&self) -> impl Iterator<Item = &'static str> {
        let (ledger, logs) = Places::of(&self.autopilot_toml()).below(&self.root);
        let keys = [("watch.db_path", ledger != self.ledger), ("watch.log_dir", logs != self.logs)];
        keys.into_iter().filter(|(_, is_other)| *is_other).map(|(key, _)| key)
    }

    /// The bearer token; made on first use, 64 characters from the system's random source.
    pub(crate) fn token(&self) -> Result<String> {
        let path = self.token_file();
        match std::fs::read_to_string(&path) {
            Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system has no random numbers: {error}"))?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // Of two processes that make one at once, the first one's counts.
        create_if_absent(&path, &format!("{token}\n"))?;
        let token = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if token.trim().is_empty() {
            bail!("{} is empty; remove it, and a new token is made", path.display());
        }
        Ok(token.trim().to_owned())
    }

    /// Names of environment variables that the configuration reads, and those with the key of a provider or a collector:
    /// they may hold secrets, so no tool sees them.
    pub(crate) fn credential_variables(&self) -> Vec<String> {
        let files = [self.config.clone(), self.auth_toml(), self.autopilot_toml(), self.gateway_toml()];
        let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
        let referenced = texts.flat_map(|text| referenced_variables(&text));
        let known = KNOWN_PROVIDERS.iter().map(|known| known.variable);
        let of_providers = known.chain([BEDROCK_KEY]).map(str::to_owned);
        referenced.chain(of_providers).chain(SECRET_VARIABLES.map(str::to_owned)).collect()
    }

    /// What no tool in a sandbox may reach.
    pub(crate) fn protected(&self) -> Vec<PathBuf> {
        vec![self.root.clone(), self.config.clone(), self.ledger.clone(), self.logs.clone()]
    }

    /// The path as people write it.
    pub(crate) fn show(path: &Path) -> String {
        match std::env::home_dir().and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned)) {
            Some(rest) => format!("~/{}", rest.display()),
            None => path.display().to_string(),
        }
    }
}

impl Places {
    /// A file that cannot be read moves nothing: whoever needs it says so.
    fn of(file: &Path) -> Self {
        let document = Document::load(file).ok().flatten();
        let table = document.and_then(|document| document.table(&["watch"], Codes::all("E002"), &mut Vec::new()).ok());
        table.unwrap_or_default()
    }

    /// Ledger and logs; what is not absolute lies in the state directory.
    fn below(self, root: &Path) -> (PathBuf, PathBuf) {
        let place = |written: Option<String>, usual: &str| match written.filter(|path| !path.trim().is_empty()) {
            Some(path) => root.join(expanded(path.trim())),
            None => root.join(usual),
        };
        (place(self.db_path, "autopilot/autopilot.db"), place(self.log_dir, "autopilot/logs"))
    }
}

fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

/// The names in `${NAME…}` and `env:NAME`.
fn referenced_variables(text: &str) -> Vec<String> {
    let of_name = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
    let starts = ["${", "env:"].iter().flat_map(|mark| text.match_indices(mark).map(move |(at, _)| at + mark.len()));
    let names = starts.map(|start| text[start..].split(|byte| !of_name(byte)).next().unwrap_or_default());
    names.filter(|name| !name.is_empty() && *name != "file").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::referenced_variables;

    #[test]
    fn both_forms_of_reference_are_found() {
        let text = r#"a = "${ONE}" b = "x${TWO:-y}" c = "env:THREE" d = "${file:/x}""#;
        assert_eq!(referenced_variables(text), ["ONE", "TWO", "THREE"]);
    }
}
