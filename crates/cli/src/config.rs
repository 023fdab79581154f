//! `stakpak config …`: what the files say, and changing it.
//!
//! Invariants: nothing that a file calls a secret is printed; what the parsers cannot use is not written.

mod edit;
mod effective;
mod files;
mod findings;
mod keys;
mod list;
mod migrate;
mod new;
mod schema;
mod set;
mod show;
mod validate;
mod value;

pub(crate) use set::{run as set_key, store};

use anyhow::Result;
use serde_json::json;

use crate::{
    args::{ConfigCommand, Global},
    home::Home,
};

pub(crate) fn run(home: &Home, global: &Global, command: ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::List => list::run(home, global),
        ConfigCommand::Show { effective } => show::run(home, global, effective),
        ConfigCommand::Sample { file } => new::sample(global, file),
        ConfigCommand::New => new::run(home, global),
        ConfigCommand::Validate { strict } => validate::run(home, global, strict),
        ConfigCommand::Migrate => migrate::run(home, global),
        ConfigCommand::Path => path(home, global),
        ConfigCommand::Get { key } => show::get(home, global, &key),
        ConfigCommand::Set { key, value } => set::run(home, global, &key, &value),
        ConfigCommand::Edit { file } => edit::run(home, global, file),
        ConfigCommand::Schema { file } => schema::run(file),
    }
}

fn path(home: &Home, global: &Global) -> Result<()> {
    let (config, autopilot) = (home.config_toml(), home.autopilot_toml());
    if global.json {
        let files = [("config.toml", config), ("autopilot.toml", &autopilot)];
        let files = files.map(|(name, path)| json!({ "exists": path.exists(), "name": name, "path": path }));
        say!("{}", json!({ "command": "config.path", "ok": true, "files": files }));
        return Ok(());
    }
    say!("{}\n{}", config.display(), autopilot.display());
    Ok(())
}
