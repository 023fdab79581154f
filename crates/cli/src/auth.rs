//! `stakpak auth …`: keys of providers, stored apart from the profiles.
//!
//! Invariants: no key is printed; a key that would not be used is not stored.

mod login;
mod show;

use std::io;

use anyhow::{Result, bail};
use serde_json::json;
use stakpak_config::{Document, edit};

use crate::{
    args::{AuthCommand, Global},
    channel::refused,
    home::Home,
};

pub(crate) fn run(global: &Global, command: AuthCommand) -> Result<()> {
    let home = Home::open(global.home.clone(), global.config.clone())?;
    match command {
        AuthCommand::Login(args) => login::run(&home, global, &args),
        AuthCommand::Logout { provider } => logout(&home, global, &provider),
        AuthCommand::List => show::list(&home, global),
        AuthCommand::Status => show::status(&home, global),
    }
}

fn logout(home: &Home, global: &Global, provider: &str) -> Result<()> {
    let profile = global.profile.as_str();
    let removed = edit(&home.auth_toml(), |document| {
        let Some(providers) = document.get_mut(profile).and_then(|item| item.as_table_like_mut()) else {
            return Ok(false);
        };
        let removed = providers.remove(provider).is_some();
        if providers.is_empty() {
            document.remove(profile);
        }
        Ok::<_, io::Error>(removed)
    });
    if !removed.map_err(refused)? {
        bail!("profile {profile} has no stored key of {provider}; `stakpak auth list` shows those there are");
    }
    if global.json {
        say!("{}", json!({ "command": "auth.logout", "ok": true, "profile": profile, "provider": provider }));
    } else {
        say!("The key of {provider} is forgotten for profile {profile}.");
    }
    Ok(())
}

/// The place in `config.toml` that has a key of this provider, which goes before what is stored.
fn in_config(home: &Home, profile: &str, provider: &str) -> Result<Option<String>> {
    let Some(document) = Document::load(home.config_toml())? else { return Ok(None) };
    let places = [profile, "all"].map(|layer| ["profiles", layer, "providers", provider]);
    // A provider is taken as a whole from the first table that has it.
    let Some(place) = places.iter().find(|place| document.locate(&place[..]).is_some()) else { return Ok(None) };
    let key = ["auth.key", "api_key"].into_iter().find(|key| {
        let path: Vec<&str> = place.iter().copied().chain(key.split('.')).collect();
        document.text(&path).is_some()
    });
    Ok(key.map(|key| format!("{}.{key}", place.join("."))))
}
