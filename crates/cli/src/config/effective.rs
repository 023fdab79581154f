//! What is in effect: the files, below them the environment, below that what is built in.

use anyhow::Result;
use stakpak_agent_core::Profiles;
use stakpak_config::{ConfigFile, Leaf, toml_edit::Value};
use stakpak_models::KNOWN_PROVIDERS;
use stakpak_redact::Redactor;

use super::{
    keys::{self, ANY, ENTRY},
    value::Shown,
};
use crate::{
    args::{ConfigFileName, Global},
    home::Home,
    profiles::ConfigProfiles,
    secrets,
};

const BUILT_IN: &str = "built in";
/// What `readonly` does not take from `default`.
const GRANTS: [&str; 2] = ["allowed_tools", "auto_approve"];

pub(super) fn values(home: &Home, global: &Global) -> Result<Vec<Shown>> {
    let redactor = secrets::redactor(home, [])?;
    let mut values = of_profile(home, &global.profile, &redactor)?;
    values.extend(of_autopilot(home, &redactor)?);
    Ok(values)
}

fn of_profile(home: &Home, name: &str, redactor: &Redactor) -> Result<Vec<Shown>> {
    let document = ConfigFileName::Config.load(home)?;
    let config = ConfigFile::read(&document)?.with_credentials(home.credentials()?);
    config.profile(name)?;
    let leaves = document.leaves();
    let is_written = |name: &str| document.locate(&["profiles", name]).is_some();
    let is_readonly = name == "readonly" && !is_written(name);
    let layers = [if is_readonly { "default" } else { name }, "all"];
    let shown = |leaf: &Leaf| {
        let mut shown = Shown::written(ConfigFileName::Config.name(), leaf, redactor);
        shown.key = format!("profiles.{name}.{}", leaf.path[2..].join("."));
        shown
    };

    let mut values = Vec::new();
    for key in ConfigFileName::Config.tables()[0].keys {
        let below = |layer: &&str| leaves.iter().find(|leaf| leaf.path == ["profiles", layer, key.name]);
        let found = layers.iter().find_map(below).filter(|_| !(is_readonly && GRANTS.contains(&key.name)));
        let path = format!("profiles.{name}.{}", key.name);
        match (found, key.default()) {
            (Some(leaf), _) => values.push(shown(leaf)),
            (None, _) if key.name == "model" => values.push(model(path, config.clone(), name)?),
            (None, Some(default)) => values.push(Shown::new(path, default.parse::<Value>()?, BUILT_IN)),
            (None, None) => {}
        }
    }
    // A provider is taken as a whole from the first table that has it.
    let of_providers = |layer: &str| {
        let path = ["profiles".to_owned(), layer.to_owned(), "providers".to_owned()];
        leaves.iter().filter(move |leaf| leaf.path.starts_with(&path) && leaf.path.len() > path.len())
    };
    let upper: Vec<&Leaf> = of_providers(layers[0]).collect();
    let is_upper = |leaf: &Leaf| upper.iter().any(|above| above.path[3] == leaf.path[3]);
    let lower = of_providers(layers[1]).filter(|leaf| !is_upper(leaf));
    let mut providers: Vec<Shown> = upper.iter().copied().chain(lower).map(shown).collect();
    let has_key = |provider: &str| {
        let mut of_provider = upper.iter().copied().chain(of_providers(layers[1]));
        of_provider.any(|leaf| leaf.path[3] == provider && matches!(leaf.path[4].as_str(), "api_key" | "auth"))
    };
    let key = |provider: &str| format!("profiles.{name}.providers.{provider}.api_key");
    for provider in config.profile(name)?.providers.keys().filter(|provider| !has_key(provider)) {
        if config.credentials().keys(layers[0]).contains_key(provider.as_str()) {
            providers.push(Shown::hidden(key(provider), "auth.toml"));
        }
    }
    if providers.is_empty() {
        let set = KNOWN_PROVIDERS.iter().filter(|known| std::env::var(known.variable).is_ok_and(|key| !key.is_empty()));
        values.extend(set.map(|known| Shown::hidden(key(known.name), known.variable)));
    }
    values.extend(providers);
    Ok(values)
}

/// The model of a profile that names none.
fn model(key: String, config: ConfigFile, name: &str) -> Result<Shown> {
    let profile = ConfigProfiles::new(config, name, None, false)?.profile(None)?;
    let model = profile.models.default_model().unwrap_or_default();
    let origin = if crate::offline::is_offline(&model) { BUILT_IN } else { "the first provider" };
    Ok(Shown::new(key, model.into(), origin))
}

fn of_autopilot(home: &Home, redactor: &Redactor) -> Result<Vec<Shown>> {
    let file = ConfigFileName::Autopilot;
    let document = file.load(home)?;
    let leaves = document.leaves();
    let mut values: Vec<_> = leaves.iter().map(|leaf| Shown::written(file.name(), leaf, redactor)).collect();
    let is_absent = |path: &[&str]| document.locate(path).is_none();
    let tables = file.tables().iter().filter(|table| !table.path.contains(&ANY) && !table.path.contains(&ENTRY));
    for table in tables.filter(|table| table.path[0] != "channels" || !is_absent(table.path)) {
        for key in table.keys.iter().filter(|key| is_absent(&[table.path, &[key.name]].concat())) {
            let Some(default) = key.default() else { continue };
            let path = format!("{}.{}", table.path.join("."), key.name);
            values.push(Shown::new(path, default.parse::<Value>()?, BUILT_IN));
        }
    }
    if let (Ok(format), Some(shown)) =
        (std::env::var("STAKPAK_LOG_FORMAT"), values.iter_mut().find(|shown| shown.key == "server.log_format"))
    {
        *shown = Shown::new(shown.key.clone(), format.into(), "STAKPAK_LOG_FORMAT");
    }
    for (channel, tokens) in keys::TOKEN_VARIABLES {
        let is_set = |variable: &str| std::env::var(variable).is_ok_and(|token| !token.trim().is_empty());
        if is_absent(&["channels", channel]) && tokens.iter().all(|(_, variable)| is_set(variable)) {
            let token = |(key, variable): &(&str, &str)| Shown::hidden(format!("channels.{channel}.{key}"), *variable);
            values.extend(tokens.iter().map(token));
        }
    }
    Ok(values)
}
