//! Where everything lives: the state directory and the files in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use stakpak_config::{create_if_absent, private_dir};
use stakpak_models::KNOWN_PROVIDERS;

use crate::logging::SECRET_VARIABLES;

/// The state directory.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
    config: PathBuf,
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
        private_dir(&root.join("autopilot/logs"))?;
        Ok(Self { config: config.unwrap_or_else(|| root.join("config.toml")), root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn config_toml(&self) -> &Path {
        &self.config
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
        self.autopilot("logs")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.autopilot("token")
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
        let files = [self.config.clone(), self.autopilot_toml(), self.gateway_toml()];
        let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
        let referenced = texts.flat_map(|text| referenced_variables(&text));
        let of_providers = KNOWN_PROVIDERS.iter().map(|known| known.variable.to_owned());
        referenced.chain(of_providers).chain(SECRET_VARIABLES.map(str::to_owned)).collect()
    }

    /// What no tool in a sandbox may reach.
    pub(crate) fn protected(&self) -> Vec<PathBuf> {
        vec![self.root.clone(), self.config.clone()]
    }

    /// The path as people write it.
    pub(crate) fn show(path: &Path) -> String {
        match std::env::home_dir().and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned)) {
            Some(rest) => format!("~/{}", rest.display()),
            None => path.display().to_string(),
        }
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
