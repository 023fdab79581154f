//! `auth.toml`: what providers know us by, apart from the profiles: `[PROFILE.PROVIDER]`.
//!
//! Invariants: an absent file is an empty one; an entry that cannot be used does not disturb the others; those of `all`
//! lie below those of every profile.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    document::{Codes, Document, LoadError},
    finding::{Finding, Severity},
    secret::Secret,
};

const CODES: Codes = Codes::all("E002");
const BELOW_ALL: &str = "all";

/// How we are known to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CredentialKind {
    /// `api`: a key.
    Api,
    /// `oauth`: the tokens of a login in the browser, which are kept and not used.
    OAuth,
}

/// One credential, in `auth.toml` or as `auth` of a provider.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Credential {
    /// `type`
    #[serde(rename = "type")]
    kind: CredentialKind,
    /// The key of type `api`.
    #[serde(default)]
    key: Option<Secret>,
    #[serde(default, rename = "access")]
    _access: IgnoredAny,
    #[serde(default, rename = "refresh")]
    _refresh: IgnoredAny,
    #[serde(default, rename = "expires")]
    _expires: IgnoredAny,
    #[serde(default, rename = "name")]
    _name: IgnoredAny,
}

impl Credential {
    /// Takes the key out; none, with a warning, if there are tokens in its place.
    pub(crate) fn usable(
        self,
        document: &Document,
        path: &[&str],
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Secret>, Finding> {
        match (self.kind, self.key) {
            (CredentialKind::Api, None) => {
                Err(document.finding(path, "E002", Severity::Error, "type \"api\" needs `key`"))
            }
            (CredentialKind::Api, key) => Ok(key),
            (CredentialKind::OAuth, _) => {
                let text = "the tokens of a login in the browser are not used; `stakpak auth login` stores a key";
                findings.push(document.finding(path, "W302", Severity::Warning, text));
                Ok(None)
            }
        }
    }
}

/// The credentials of a file.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    profiles: BTreeMap<String, BTreeMap<String, Option<Secret>>>,
    findings: Vec<Finding>,
    /// Where they were read from.
    path: Option<PathBuf>,
}

impl Credentials {
    /// Reads `auth.toml`.
    ///
    /// # Errors
    /// The file cannot be read, or is not TOML. Anything else is in [`Credentials::findings`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let read = Document::load(path)?.map(|document| Self::read(&document)).transpose()?.unwrap_or_default();
        Ok(Self { path: Some(path.to_owned()), ..read })
    }

    /// The same as they are now. What was not read from a file stays.
    ///
    /// # Errors
    /// As [`Credentials::load`].
    pub(crate) fn again(&self) -> Result<Self, LoadError> {
        self.path.as_deref().map_or_else(|| Ok(self.clone()), Self::load)
    }

    /// Reads the entries of a parsed file.
    ///
    /// # Errors
    /// A profile is no table.
    pub fn read(document: &Document) -> Result<Self, Finding> {
        let mut read = Self::default();
        for profile in document.keys(&[])? {
            let mut keys = BTreeMap::new();
            for (provider, credential) in document.entries::<Credential>(&[profile], CODES, &mut read.findings)? {
                let path = [profile, provider.as_str()];
                match credential.and_then(|credential| credential.usable(document, &path, &mut read.findings)) {
                    Ok(key) => drop(keys.insert(provider, key)),
                    Err(finding) => read.findings.push(finding),
                }
            }
            read.profiles.insert(profile.to_owned(), keys);
        }
        Ok(read)
    }

    /// The keys that a profile has, by provider, those of `all` among them.
    #[must_use]
    pub fn keys(&self, profile: &str) -> BTreeMap<&str, &Secret> {
        let of = |name: &str| self.profiles.get(name).into_iter().flatten();
        let all = of(BELOW_ALL).chain(of(profile));
        all.filter_map(|(provider, key)| Some((provider.as_str(), key.as_ref()?))).collect()
    }

    /// Every entry as profile, provider, and whether it is used, which tokens are not.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.profiles.iter().flat_map(|(profile, keys)| {
            keys.iter().map(move |(provider, key)| (profile.as_str(), provider.as_str(), key.is_some()))
        })
    }

    /// All that is wrong with the file, in its order.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}
