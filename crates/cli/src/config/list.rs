//! `config list`: the profiles.

use anyhow::Result;
use comfy_table::{Table, presets};
use serde_json::json;
use stakpak_agent_core::Profiles;

use crate::{args::Global, home::Home, profiles::ConfigProfiles};

pub(super) fn run(home: &Home, global: &Global) -> Result<()> {
    let config = home.config_file()?;
    let mut names: Vec<&str> = config.names().collect();
    names.sort_unstable();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["", "PROFILE", "MODEL", "PROVIDERS"]);
    let mut profiles = Vec::new();
    for name in names {
        let made = ConfigProfiles::new(config.clone(), name, None, false);
        let model = made.and_then(|made| Ok(made.profile(None)?.models.default_model()));
        let providers: Vec<String> =
            config.profile(name).map(|it| it.providers.into_keys().collect()).unwrap_or_default();
        let is_current = name == global.profile;
        let (model, error) = match model {
            Ok(model) => (model, None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        table.add_row([
            if is_current { "*" } else { "" },
            name,
            error.as_deref().or(model.as_deref()).unwrap_or("-"),
            &if providers.is_empty() { "-".to_owned() } else { providers.join(", ") },
        ]);
        profiles.push(
            json!({ "current": is_current, "error": error, "model": model, "name": name, "providers": providers }),
        );
    }
    if global.json {
        say!("{}", json!({ "command": "config.list", "ok": true, "profiles": profiles }));
    } else {
        say!("{table}");
    }
    Ok(())
}
