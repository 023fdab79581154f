//! `auth login`: a key, and the place of a provider that is not known by name.

use std::io;

use anyhow::{Result, bail};
use serde_json::json;
use stakpak_config::{
    ProviderKind, edit, set,
    toml_edit::{Item, Table, TableLike},
};
use stakpak_models::{KNOWN_PROVIDERS, KnownProvider};

use super::in_config;
use crate::{
    args::{AuthLoginArgs, ConfigFileName, Global},
    channel::refused,
    config::store,
    exit::Failure,
    home::Home,
    init::Asker,
};

const ALL: &str = "all";

pub(super) fn run(home: &Home, global: &Global, args: &AuthLoginArgs) -> Result<()> {
    let profile = global.profile.as_str();
    if args.region.is_some() {
        bail!(Failure::Usage("--region: no provider of this version has regions; leave it out".to_owned()));
    }
    let asker = Asker::new(!global.json);
    let provider = provider(args, asker)?;
    check_provider(home, profile, &provider, args.endpoint.is_some())?;
    if let Some(place) = in_config(home, profile, &provider)? {
        bail!("{place} of config.toml goes before a stored key: change it there with `stakpak config set {place} -`");
    }
    let key = key(args, asker, &provider)?;
    if let Some(endpoint) = &args.endpoint {
        write_endpoint(home, profile, &provider, endpoint)?;
    }
    write_key(home, profile, &provider, &key)?;
    let file = home.auth_toml();
    if global.json {
        let said = json!({
            "command": "auth.login", "file": file, "ok": true, "profile": profile, "provider": provider,
        });
        say!("{said}");
    } else {
        say!("The key of {provider} is stored for profile {profile}, in {}.", Home::show(&file));
        say!("Try it with: stakpak doctor --online");
    }
    Ok(())
}

fn provider(args: &AuthLoginArgs, asker: Asker) -> Result<String> {
    let names = KNOWN_PROVIDERS.map(|known| known.name).join(", ");
    let given = match &args.provider {
        Some(name) => name.clone(),
        None => asker.text(&format!("Provider ({names})"), "")?,
    };
    match given.trim() {
        "" => bail!(Failure::Usage(format!("whose key is it? Give --provider: {names}, or one of config.toml"))),
        name => Ok(name.to_owned()),
    }
}

/// Whether a key makes it usable under this profile.
fn check_provider(home: &Home, profile: &str, provider: &str, has_endpoint: bool) -> Result<()> {
    let file = home.config_file()?;
    let is_configured = match profile {
        ALL => file.names().filter_map(|name| file.profile(name).ok()).any(|it| it.providers.contains_key(provider)),
        name => file.profile(name)?.providers.contains_key(provider),
    };
    if is_configured || has_endpoint || KnownProvider::named(provider).is_some() {
        return Ok(());
    }
    if ProviderKind::named(provider).is_some() {
        bail!(Failure::Usage(format!("{provider} is not supported by this version")));
    }
    let known: Vec<_> = KNOWN_PROVIDERS.iter().map(|known| known.name).collect();
    let text = format!(
        "--provider: no provider is known as {provider}, and profile {profile} has none of that name; it is one of {}, or a \
         server of your own, whose address is given with --endpoint",
        known.join(", ")
    );
    bail!(Failure::Usage(text))
}

fn key(args: &AuthLoginArgs, asker: Asker, provider: &str) -> Result<String> {
    let key = match args.api_key.as_deref() {
        Some("-") => {
            let mut line = String::new();
            io::stdin().read_line(&mut line)?;
            line
        }
        Some(key) => key.to_owned(),
        None => asker.secret(&format!("Key of {provider}"))?.unwrap_or_default(),
    };
    let key = key.trim();
    if key.is_empty() {
        bail!(Failure::Usage("no key: give --api-key, or --api-key - and the key on stdin".to_owned()));
    }
    if !key.chars().all(|letter| letter.is_ascii_graphic()) {
        bail!(Failure::Usage("--api-key: a key has no spaces and only ASCII characters".to_owned()));
    }
    Ok(key.to_owned())
}

fn write_endpoint(home: &Home, profile: &str, provider: &str, endpoint: &str) -> Result<()> {
    let key = |key: &str| ["profiles", profile, "providers", provider, key].map(str::to_owned).to_vec();
    let kind = KnownProvider::named(provider).map_or("custom", |known| known.name);
    let values = [(key("type"), kind.into()), (key("api_endpoint"), endpoint.into())];
    store(home, ConfigFileName::Config, profile, &values)
}

/// What was there, such as the tokens of a login in the browser, goes.
fn write_key(home: &Home, profile: &str, provider: &str, key: &str) -> Result<()> {
    let written = edit(&home.auth_toml(), |document| {
        let mut of_profile = Table::new();
        of_profile.set_implicit(true);
        let providers = document.entry(profile).or_insert(Item::Table(of_profile)).as_table_like_mut();
        let providers = providers.ok_or_else(|| io::Error::other(format!("{profile} of auth.toml is no table")))?;
        let credential = providers.entry(provider).or_insert(Item::Table(Table::new())).as_table_like_mut();
        let credential = credential.ok_or_else(|| io::Error::other(format!("{profile}.{provider} is no table")))?;
        credential.clear();
        set(credential as &mut dyn TableLike, "type", "api");
        set(credential, "key", key);
        Ok(())
    });
    written.map_err(refused)
}
