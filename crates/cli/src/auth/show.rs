//! `auth list` and `auth status`: which keys there are, and which are used; none is shown.

use anyhow::Result;
use comfy_table::{Table, presets};
use serde_json::json;
use stakpak_models::{KNOWN_PROVIDERS, KnownProvider};

use super::in_config;
use crate::{args::Global, home::Home};

pub(super) fn list(home: &Home, global: &Global) -> Result<()> {
    let credentials = home.credentials()?;
    let entries: Vec<_> = credentials.entries().collect();
    if global.json {
        let kind = |is_used| if is_used { "api" } else { "oauth" };
        let list: Vec<_> = entries
            .iter()
            .map(|(profile, provider, is_used)| json!({ "profile": profile, "provider": provider, "type": kind(*is_used) }))
            .collect();
        say!("{}", json!({ "command": "auth.list", "credentials": list, "ok": true }));
        return Ok(());
    }
    if entries.is_empty() {
        say!("No key is stored; `stakpak auth login` stores one.");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["PROFILE", "PROVIDER", "TYPE"]);
    for (profile, provider, is_used) in entries {
        table.add_row([profile, provider, if is_used { "key" } else { "login in the browser, not used" }]);
    }
    say!("{table}");
    Ok(())
}

pub(super) fn status(home: &Home, global: &Global) -> Result<()> {
    let name = global.profile.as_str();
    let file = home.config_file()?;
    let profile = file.profile(name)?;
    let stored = file.credentials().keys(name);
    let mut sources = Vec::new();
    for provider in profile.providers.keys().chain(profile.invalid_providers.keys()) {
        let source = match in_config(home, name, provider)? {
            Some(_) => Some("config.toml"),
            None if stored.contains_key(provider.as_str()) => Some("auth.toml"),
            None => KnownProvider::named(provider).filter(|known| is_set(known)).map(|known| known.variable),
        };
        sources.push((provider.as_str(), source));
    }
    if sources.is_empty() {
        let of_environment = KNOWN_PROVIDERS.iter().filter(|known| is_set(known));
        sources.extend(of_environment.map(|known| (known.name, Some(known.variable))));
    }
    if global.json {
        let list: Vec<_> =
            sources.iter().map(|(provider, source)| json!({ "key": source, "provider": provider })).collect();
        say!("{}", json!({ "command": "auth.status", "ok": true, "profile": name, "providers": list }));
        return Ok(());
    }
    if sources.is_empty() {
        say!("Profile {name} has no provider: the built-in offline model answers. `stakpak auth login` adds one.");
    }
    for (provider, source) in sources {
        say!("{provider}: {}", source.map_or_else(|| "no key".to_owned(), |source| format!("key of {source}")));
    }
    Ok(())
}

fn is_set(known: &KnownProvider) -> bool {
    std::env::var(known.variable).is_ok_and(|key| !key.is_empty())
}
