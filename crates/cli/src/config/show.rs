//! `config show` and `config get`.

use anyhow::{Result, bail};
use serde_json::json;
use stakpak_config::toml_edit::Value;

use super::{effective, files, keys, value::Shown};
use crate::{
    args::{ConfigFileName, Global},
    home::Home,
    secrets,
};

pub(super) fn run(home: &Home, global: &Global, effective: bool) -> Result<()> {
    let values = if effective { effective::values(home, global)? } else { written(home)? };
    if global.json {
        let values: Vec<_> = values.iter().map(Shown::json).collect();
        let answer = json!({ "command": "config.show", "ok": true, "effective": effective, "profile": global.profile,
            "values": values });
        say!("{answer}");
        return Ok(());
    }
    if values.is_empty() {
        say!("Nothing is configured. Set it up with: stakpak autopilot init");
    }
    for shown in &values {
        say!("{} = {}  ({})", shown.key, shown.toml(), shown.origin);
    }
    if !effective {
        say!("What is in effect for a profile, and what is built in: stakpak config show --effective");
    }
    Ok(())
}

/// What the files say.
fn written(home: &Home) -> Result<Vec<Shown>> {
    let redactor = secrets::redactor(home, [])?;
    let mut values = Vec::new();
    for file in ConfigFileName::ALL {
        let leaves = file.load(home)?.leaves();
        values.extend(leaves.iter().map(|leaf| Shown::written(file.name(), leaf, &redactor)));
    }
    Ok(values)
}

/// A value, or all below a table; the default of what is not written.
pub(super) fn get(home: &Home, global: &Global, key: &str) -> Result<()> {
    let path = files::parts(key)?;
    let Some(file) = ConfigFileName::of(&path) else { bail!(files::unknown(key)) };
    let document = file.load(home)?;
    let path = files::resolved(&path, &document)?;
    let redactor = secrets::redactor(home, [])?;
    let leaves = document.leaves();
    let below: Vec<_> = leaves.iter().filter(|leaf| leaf.path.starts_with(&path)).collect();
    if let [leaf] = below[..]
        && leaf.path == path
    {
        return say(global, &Shown::written(file.name(), leaf, &redactor));
    }
    if !below.is_empty() {
        let values: Vec<_> = below.into_iter().map(|leaf| Shown::written(file.name(), leaf, &redactor)).collect();
        if global.json {
            let values: Vec<_> = values.iter().map(Shown::json).collect();
            say!("{}", json!({ "command": "config.get", "ok": true, "key": key, "values": values }));
        } else {
            values.iter().for_each(|shown| say!("{} = {}", shown.key, shown.toml()));
        }
        return Ok(());
    }
    let Some((_, known)) = keys::find(&path) else { bail!(files::unknown(key)) };
    let Some(default) = known.default() else {
        bail!("{key} is not set; set it with: stakpak config set {key} VALUE");
    };
    say(global, &Shown::new(key.to_owned(), default.parse::<Value>()?, "built in"))
}

fn say(global: &Global, shown: &Shown) -> Result<()> {
    if global.json {
        let mut answer = json!({ "command": "config.get", "ok": true });
        if let (Some(answer), Some(value)) = (answer.as_object_mut(), shown.json().as_object()) {
            answer.extend(value.clone());
        }
        say!("{answer}");
    } else {
        say!("{}", shown.plain());
    }
    Ok(())
}
