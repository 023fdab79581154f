//! The secrets that this process knows: what is searched for wherever text leaves it.

use anyhow::{Context, Result, anyhow};
use stakpak_config::{ConfigFile, Document, SecretRule, SecretsConfig};
use stakpak_redact::{CustomRule, Redactor, Vaults};
use stakpak_tools::VaultSecrets;

use crate::home::Home;

/// Files refer to these too, and text without them would make no sense.
const ORDINARY: [&str; 7] = ["HOME", "USER", "LOGNAME", "PATH", "PWD", "SHELL", "TMPDIR"];

/// Knows `tokens`, the keys and tokens of the files, and the values of variables that may hold secrets. Files that do not
/// parse are left out: whoever needs them says so.
pub(crate) fn redactor<'a>(home: &Home, tokens: impl IntoIterator<Item = &'a String>) -> Result<Redactor> {
    let known = Redactor::new(of_files(home).into_iter().chain(tokens.into_iter().cloned()));
    with_rules(home, known.context("the secrets to be hidden")?)
}

/// With `[secrets]` of `config.toml`: a rule that cannot be used is an error, because its secrets would be told.
fn with_rules(home: &Home, redactor: Redactor) -> Result<Redactor> {
    let Ok(file) = ConfigFile::load(home.config_toml()) else { return Ok(redactor) };
    let SecretsConfig { rules, ignore } = file.secrets().cloned().map_err(|finding| anyhow!("{finding}"))?;
    let rule = |SecretRule { id, regex, keywords }: SecretRule| CustomRule { id, regex, keywords };
    let rules: Vec<_> = rules.into_iter().map(rule).collect();
    let redactor =
        redactor.with_rules(&rules).with_context(|| format!("{}: [secrets.rules]", home.config_toml().display()))?;
    Ok(redactor.ignoring(ignore))
}

/// Keys and tokens of the files as they are now, and the variables they refer to.
pub(crate) fn of_files(home: &Home) -> Vec<String> {
    let files = [home.config_toml().to_owned(), home.auth_toml(), home.autopilot_toml(), home.gateway_toml()];
    let of_files = files.iter().filter_map(|file| Document::load(file).ok().flatten());
    let of_files = of_files.flat_map(|document| document.secrets());
    let variables = home.credential_variables().into_iter().filter(|name| !ORDINARY.contains(&name.as_str()));
    let of_environment = variables.filter_map(|name| std::env::var(name).ok());
    of_files.chain(of_environment).collect()
}

/// What sessions meet besides: a vault each, with one key for all.
pub(crate) fn of_sessions(home: &Home, redactor: Redactor) -> VaultSecrets {
    VaultSecrets::new(Vaults::new(home.autopilot("secrets"), home.autopilot("secrets.key"), redactor))
}
