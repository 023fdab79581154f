//! `config sample` and `config new`: files with every key, commented out.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;
use stakpak_config::create_if_absent;

use super::keys::{ANY, ENTRY, Kind, Table};
use crate::{
    args::{ConfigFileName, Global},
    autopilot_file::AutopilotFile,
    home::Home,
};

const HEAD: &str = "# Every key, with its default or an example. Take the `# ` off to set it.\n\
    # A secret may be written as \"env:NAME\", \"file:PATH\" or \"${NAME}\".\n";

pub(super) fn sample(global: &Global, file: ConfigFileName) -> Result<()> {
    let text = text(file);
    if global.json {
        say!("{}", json!({ "command": "config.sample", "ok": true, "file": file.name(), "text": text }));
    } else {
        crate::output::piece(&text);
    }
    Ok(())
}

/// What is there stays.
pub(super) fn run(home: &Home, global: &Global) -> Result<()> {
    let config = create_if_absent(home.config_toml(), &text(ConfigFileName::Config))?;
    let made = [(ConfigFileName::Config, config), (ConfigFileName::Autopilot, AutopilotFile::create(home)?)];
    if global.json {
        let files = made.map(|(file, made)| json!({ "made": made, "name": file.name(), "path": file.path(home) }));
        say!("{}", json!({ "command": "config.new", "ok": true, "files": files }));
        return Ok(());
    }
    for (file, made) in made {
        say!("{} {}", Home::show(&file.path(home)), if made { "is written" } else { "is there already, and stays" });
    }
    Ok(())
}

pub(super) fn text(file: ConfigFileName) -> String {
    let mut text = HEAD.to_owned();
    for table in file.tables() {
        let _ = write!(text, "\n# {}\n# {}\n", table.about, header(table));
        for key in table.keys {
            let name = if key.name == ANY { "my_name" } else { key.name };
            let choice = match key.kind {
                Kind::OneOf(words) => format!(": {}", words.join(", ")),
                _ => String::new(),
            };
            let _ = writeln!(text, "# {name} = {:<28} # {}{choice}", key.sample(), key.about);
        }
    }
    text
}

pub(super) fn header(table: &Table) -> String {
    match table.path {
        [table @ ("cost" | "limits"), ANY] => format!("[{table}.\"openai/gpt-5\"]"),
        [array @ .., ENTRY] => format!("[[{}]]", array.join(".")),
        path => format!(
            "[{}]",
            path.iter().map(|part| if *part == ANY { "default" } else { part }).collect::<Vec<_>>().join(".")
        ),
    }
}
