//! Which file the gateway's tables are in, and what they say.
//!
//! `up` and `channel …` use the same one, so that an edit reaches what runs. The standalone gateway has a rule of its own.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use stakpak_agent_core::check_key;
use stakpak_config::{Document, Finding, Secret, Severity};
use stakpak_gateway::{GatewayCliFlags, GatewayConfig};

use crate::home::Home;

/// A file with gateway tables, and the flags that go before it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    file: File,
    /// The store unless a flag or the file names one.
    store: PathBuf,
    /// The token that a server of this state directory made for itself.
    token: PathBuf,
    flags: GatewayCliFlags,
}

#[derive(Debug, Clone)]
enum File {
    Fixed(PathBuf),
    /// `autopilot.toml`; where that has no channels, `gateway.toml` if it is there.
    OfUp {
        autopilot: PathBuf,
        own: PathBuf,
    },
}

impl Place {
    /// The file that `up` reads.
    pub(crate) fn of_up(home: &Home) -> Self {
        let file = File::OfUp { autopilot: home.autopilot_toml(), own: home.gateway_toml() };
        Self::new(home, file)
    }

    /// The file of a gateway that runs alone, or beside `serve`: the named one, else `gateway.toml` if it is there, else
    /// `autopilot.toml`.
    pub(crate) fn standalone(home: &Home, named: Option<&Path>) -> Self {
        let own = Some(home.gateway_toml()).filter(|own| own.exists());
        let file = named.map(Path::to_owned).or(own).unwrap_or_else(|| home.autopilot_toml());
        Self::new(home, File::Fixed(file))
    }

    fn new(home: &Home, file: File) -> Self {
        let (store, token) = (home.autopilot("gateway.db"), home.token_file());
        Self { file, store, token, flags: GatewayCliFlags::default() }
    }

    pub(crate) fn with_flags(self, flags: GatewayCliFlags) -> Self {
        Self { flags, ..self }
    }

    /// The file as it is now.
    pub(crate) fn file(&self) -> PathBuf {
        match &self.file {
            File::Fixed(file) => file.clone(),
            File::OfUp { autopilot, own } if own.exists() && !has_channels(autopilot) => own.clone(),
            File::OfUp { autopilot, .. } => autopilot.clone(),
        }
    }

    /// What the file says; an absent one counts as empty.
    pub(crate) fn load(&self) -> Result<GatewayConfig> {
        let file = self.file();
        match Document::load(&file)? {
            Some(document) => self.read(&document),
            None => self.read(&Document::parse(&file.file_name().unwrap_or_default().to_string_lossy(), "")?),
        }
    }

    /// The same of a document that may not be in the file yet.
    pub(crate) fn read(&self, document: &Document) -> Result<GatewayConfig> {
        let mut flags = self.flags.clone();
        if flags.store.is_none() && document.text(&["gateway", "store"]).is_none() {
            flags.store = Some(self.store.clone());
        }
        let mut config = GatewayConfig::from_document(document, &flags)?;
        config.findings.extend(unusable_keys(document, &config));
        if let Some(token) = self.token_of_this_home(document, &config) {
            config.server.token = token;
        }
        Ok(config)
    }

    /// Where nothing names a token and the server is on this machine: the one of this state directory.
    fn token_of_this_home(&self, document: &Document, config: &GatewayConfig) -> Option<Secret> {
        let is_blank = |text: Option<&str>| text.is_none_or(|text| text.trim().is_empty());
        let of_environment = std::env::var("STAKPAK_GATEWAY_TOKEN").ok();
        let named = [self.flags.token.as_deref(), of_environment.as_deref(), document.text(&["server", "token"])];
        let url = reqwest::Url::parse(&config.server.url).ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']);
        let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !is_loopback || !named.into_iter().all(is_blank) {
            return None;
        }
        Some(Secret::new(std::fs::read_to_string(&self.token).unwrap_or_default().trim()))
    }
}

/// Entries of the gateway's lists of tools that are no keys of a policy: with them the server would refuse every message.
pub(crate) fn unusable_keys(document: &Document, config: &GatewayConfig) -> Vec<Finding> {
    let unusable = |path: &[&str], keys: &[String]| {
        let keys = keys.iter().map(|key| key.trim()).filter(|key| !key.is_empty() && *key != "*");
        let error = keys.map(check_key).find_map(Result::err)?;
        Some(document.finding(path, "E201", Severity::Error, error.to_string()))
    };
    let of_channels = config.channels.settings().filter_map(|(name, settings)| {
        unusable(&["channels", name, "auto_approve"], settings.run.auto_approve.as_deref()?)
    });
    unusable(&["gateway", "approval_allowlist"], &config.gateway.approval_allowlist)
        .into_iter()
        .chain(of_channels)
        .collect()
}

/// A file that does not parse has none that could be used; who loads it next says so.
fn has_channels(file: &Path) -> bool {
    match Document::load(file) {
        Ok(Some(document)) => document.keys(&["channels"]).is_ok_and(|names| !names.is_empty()),
        Ok(None) => false,
        Err(_) => true,
    }
}
