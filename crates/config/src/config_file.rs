//! `config.toml`: the profiles, what models cost, and how much they take.
//!
//! Invariants: an absent file is an empty one; an invalid profile is an error where it is asked for and does not
//! disturb the others; `all` lies below every profile and cannot be asked for.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    cost::Price,
    credentials::Credentials,
    document::{Codes, Document, LoadError},
    finding::Finding,
    limits::ModelLimits,
    near::nearest,
    profile::Profile,
    secret_rules::SecretsConfig,
};

const CODES: Codes = Codes::all("E002");
const BELOW_ALL: &str = "all";
const DEFAULT: &str = "default";
/// There without being written: `default` with the safe set of tools only.
const READONLY: &str = "readonly";

/// The profiles of a `config.toml`.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    profiles: BTreeMap<String, Result<Profile, Finding>>,
    prices: BTreeMap<String, Option<Price>>,
    credentials: Credentials,
    machine_name: Option<String>,
    limits: BTreeMap<String, ModelLimits>,
    secrets: Result<SecretsConfig, Finding>,
    findings: Vec<Finding>,
    /// Where it was read from.
    path: Option<PathBuf>,
}

/// `[settings]`. Keys that mean nothing here are listed so that they are not unknown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SettingsTable {
    machine_name: Option<String>,
    auto_append_gitignore: IgnoredAny,
    anonymous_id: IgnoredAny,
    user_id: IgnoredAny,
    collect_telemetry: IgnoredAny,
    editor: IgnoredAny,
}

/// Why there is no such profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// No profile has this name.
    #[error("no profile is named {name:?}{}", suggestion(near.as_deref()))]
    Unknown {
        /// The name asked for.
        name: String,
        /// A name that is like it.
        near: Option<String>,
    },
    /// `all` lies below the others and is none itself.
    #[error("\"all\" is merged into every profile and cannot be selected")]
    Reserved,
    /// The profile, or `all`, cannot be used as it is written.
    #[error("profile {name:?} is invalid")]
    Invalid {
        /// The name asked for.
        name: String,
        /// The first thing that is wrong.
        #[source]
        finding: Box<Finding>,
    },
}

impl Default for ConfigFile {
    fn default() -> Self {
        Self {
            profiles: BTreeMap::new(),
            prices: BTreeMap::new(),
            credentials: Credentials::default(),
            machine_name: None,
            limits: BTreeMap::new(),
            secrets: Ok(SecretsConfig::default()),
            findings: Vec::new(),
            path: None,
        }
    }
}

impl ConfigFile {
    /// Reads `config.toml`. References are resolved from the environment of this process.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or `profiles` is no table. Anything else is in
    /// [`ConfigFile::findings`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        match Document::load(path)? {
            Some(document) => Ok(Self { path: Some(path.to_owned()), ..Self::read(&document)? }),
            None => Ok(Self { path: Some(path.to_owned()), ..Self::default() }),
        }
    }

    /// The same as it is now, with the credentials as they are now: keys may be others. What was not read from a file
    /// stays.
    ///
    /// # Errors
    /// As [`ConfigFile::load`].
    pub fn again(&self) -> Result<Self, LoadError> {
        let file = self.path.as_deref().map_or_else(|| Ok(self.clone()), Self::load)?;
        Ok(file.with_credentials(self.credentials.again()?))
    }

    /// Reads the profiles of a parsed file.
    ///
    /// # Errors
    /// `profiles`, `cost` or `limits` is no table.
    pub fn read(document: &Document) -> Result<Self, Finding> {
        let mut findings = document.unknown_tables(&["profiles", "settings", "cost", "limits", "secrets"]);
        let settings = document.table::<SettingsTable>(&["settings"], CODES, &mut findings);
        let settings = settings.unwrap_or_else(|finding| {
            findings.push(finding);
            SettingsTable::default()
        });
        let mut profiles = BTreeMap::new();
        for name in document.keys(&["profiles"])? {
            let profile = Profile::read(document, name, &mut findings);
            findings.extend(profile.as_ref().err().cloned());
            profiles.insert(name.to_owned(), profile);
        }
        let mut prices = BTreeMap::new();
        for model in document.keys(&["cost"])? {
            let price = Price::read(document, model, &mut findings);
            findings.extend(price.as_ref().err().cloned());
            prices.insert(model.to_owned(), price.ok());
        }
        let mut limits = BTreeMap::new();
        for model in document.keys(&["limits"])? {
            match ModelLimits::read(document, model, &mut findings) {
                Ok(limit) => drop(limits.insert(model.to_owned(), limit)),
                Err(finding) => findings.push(finding),
            }
        }
        let secrets = SecretsConfig::read(document, &mut findings);
        findings.extend(secrets.as_ref().err().cloned());
        findings.sort_by_key(|finding| (finding.line, finding.column));
        let machine_name = settings.machine_name.filter(|name| !name.trim().is_empty());
        let credentials = Credentials::default();
        Ok(Self { profiles, prices, limits, secrets, credentials, machine_name, findings, path: None })
    }

    /// With the keys of `auth.toml` for the providers that have none here.
    #[must_use]
    pub fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials, ..self }
    }

    /// The credentials that were added.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The profile of this name with `all` merged below it. `default` and `readonly` need no table.
    ///
    /// # Errors
    /// There is none, or it is invalid; never an empty profile instead.
    pub fn profile(&self, name: &str) -> Result<Profile, ProfileError> {
        if name == BELOW_ALL {
            return Err(ProfileError::Reserved);
        }
        let valid = |profile: &Result<Profile, Finding>| {
            profile
                .clone()
                .map_err(|finding| ProfileError::Invalid { name: name.to_owned(), finding: Box::new(finding) })
        };
        let profile = match self.profiles.get(name) {
            Some(profile) => valid(profile)?,
            None if name == DEFAULT => Profile::default(),
            None if name == READONLY => return Ok(self.profile(DEFAULT)?.granting_the_safe_set()),
            None => {
                let near = nearest(name, self.names()).map(str::to_owned);
                return Err(ProfileError::Unknown { name: name.to_owned(), near });
            }
        };
        let profile = match self.profiles.get(BELOW_ALL) {
            Some(all) => profile.over(&valid(all)?),
            None => profile,
        };
        Ok(profile.with_keys(self.credentials.keys(name)))
    }

    /// The names that can be asked for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let written = self.profiles.keys().map(String::as_str);
        let built_in = [DEFAULT, READONLY].into_iter().filter(|name| !self.profiles.contains_key(*name));
        built_in.chain(written.filter(|name| *name != BELOW_ALL))
    }

    /// Prices by `provider/id`; none: written so that it cannot be read, and not to be taken for absent.
    #[must_use]
    pub fn prices(&self) -> &BTreeMap<String, Option<Price>> {
        &self.prices
    }

    /// What its owner calls this machine.
    #[must_use]
    pub fn machine_name(&self) -> Option<&str> {
        self.machine_name.as_deref()
    }

    /// What is a secret here and what is none.
    ///
    /// # Errors
    /// It cannot be used as it is written; never less than that instead.
    pub fn secrets(&self) -> Result<&SecretsConfig, &Finding> {
        self.secrets.as_ref()
    }

    /// Limits by `provider/id`.
    #[must_use]
    pub fn limits(&self) -> &BTreeMap<String, ModelLimits> {
        &self.limits
    }

    /// All that is wrong with the file, in its order.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

fn suggestion(near: Option<&str>) -> String {
    near.map(|name| format!(", did you mean {name:?}?")).unwrap_or_default()
}
