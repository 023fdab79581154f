//! `autopilot/env`: the variables of the background service, which has none of the shell's.
//!
//! The file is read by systemd, by a shell under launchd and by our own supervisor, so every value is written in the one
//! form that means the same to all three. Values are never shown.

use std::{collections::BTreeMap, io::ErrorKind, path::Path};

use anyhow::{Context, Result, bail};
use stakpak_config::write_private;
use toml_edit::{DocumentMut, Item, Value};

use crate::home::Home;

pub(super) const FILE: &str = "env";

/// Read without being named in a file: without them the service may work differently than `up` in this shell.
const IMPLICIT: [&str; 10] = [
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GEMINI_API_KEY",
    "OPENROUTER_API_KEY",
    "STAKPAK_API_KEY",
    "STAKPAK_API_ENDPOINT",
    "TELEGRAM_BOT_TOKEN",
    "DISCORD_BOT_TOKEN",
    "SLACK_BOT_TOKEN",
    "SLACK_APP_TOKEN",
];

/// A variable that a file cannot do without.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Need {
    file: String,
    key: String,
    name: String,
}

/// Copies what the configuration needs from this process, if `import`; then checks that nothing it needs is missing.
/// What is to be said about it.
pub(super) fn prepare(home: &Home, import: bool) -> Result<Vec<String>> {
    let mut needs = Vec::new();
    for path in [home.config_toml().to_owned(), home.auth_toml(), home.autopilot_toml(), home.gateway_toml()] {
        needs.extend(needs_of(&path)?);
    }
    let mut variables = read(home)?;
    let mut remarks = Vec::new();
    let wanted = needs.iter().map(|need| need.name.as_str()).chain(IMPLICIT);
    let set_here = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut absent: Vec<(&str, String)> =
        wanted.filter(|name| !variables.contains_key(*name)).filter_map(|name| Some((name, set_here(name)?))).collect();
    absent.sort_unstable();
    absent.dedup();
    if import && !absent.is_empty() {
        let names: Vec<&str> = absent.iter().map(|(name, _)| *name).collect();
        remarks.push(format!("copied to {}: {}", Home::show(&home.autopilot(FILE)), names.join(", ")));
        variables.extend(absent.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        write(home, &variables)?;
    }
    let missing: Vec<String> = needs
        .iter()
        .filter(|need| !variables.contains_key(&need.name))
        .map(|Need { file, key, name }| format!("{file}: {key} needs the variable {name}"))
        .collect();
    if !missing.is_empty() {
        let place = Home::show(&home.autopilot(FILE));
        bail!(
            "the service would not have what the configuration refers to:\n  {}\nset it and use `stakpak up -d --import-env`, or write NAME=value to {place}",
            missing.join("\n  ")
        );
    }
    if let (false, Some((name, _))) = (import, absent.first()) {
        remarks.push(format!("{name} is set in this shell and not for the service; --import-env copies it"));
    }
    Ok(remarks)
}

/// Those in the file; none if there is no file.
pub(super) fn read(home: &Home) -> Result<BTreeMap<String, String>> {
    let path = home.autopilot(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let variables = lines.map(|(number, line)| match line.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.trim().to_owned(), unquoted(value.trim()))),
        _ => bail!("{}:{}: expected NAME=value", path.display(), number + 1),
    });
    variables.collect()
}

fn write(home: &Home, variables: &BTreeMap<String, String>) -> Result<()> {
    let mut text = String::from("# Variables of the background service.\n");
    for (name, value) in variables {
        if value.contains('\n') {
            bail!("the variable {name} has several lines; a file of variables cannot hold it");
        }
        text.push_str(&format!("{name}={}\n", quoted(value)));
    }
    Ok(write_private(&home.autopilot(FILE), text.as_bytes())?)
}

fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for character in value.chars() {
        if "\\\"$`".contains(character) {
            text.push('\\');
        }
        text.push(character);
    }
    text + "\""
}

fn unquoted(text: &str) -> String {
    if let Some(inner) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.to_owned();
    }
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return text.to_owned() };
    let (mut value, mut characters) = (String::new(), inner.chars().peekable());
    while let Some(character) = characters.next() {
        match characters.peek() {
            Some(&next) if character == '\\' && "\\\"$`".contains(next) => {
                value.push(next);
                characters.next();
            }
            _ => value.push(character),
        }
    }
    value
}

/// A file that is not there needs nothing; one that does not parse is refused elsewhere, with its place.
fn needs_of(path: &Path) -> Result<Vec<Need>> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(Vec::new()) };
    let document: DocumentMut = text.parse().with_context(|| path.display().to_string())?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut needs = Vec::new();
    walk(document.as_item(), "", &mut |key, text| {
        let names =
            references(text).map(|name| Need { file: file.clone(), key: key.to_owned(), name: name.to_owned() });
        needs.extend(names);
    });
    Ok(needs)
}

fn walk(item: &Item, key: &str, found: &mut impl FnMut(&str, &str)) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match item {
        Item::ArrayOfTables(tables) => {
            for (at, table) in tables.iter().enumerate() {
                walk(&Item::Table(table.clone()), &format!("{key}[{at}]"), found);
            }
        }
        Item::Value(Value::String(text)) => found(key, text.value()),
        Item::Value(Value::Array(values)) => {
            for value in values {
                walk(&Item::Value(value.clone()), key, found);
            }
        }
        item => {
            for (name, item) in item.as_table_like().into_iter().flat_map(|table| table.iter()) {
                walk(item, &below(name), found);
            }
        }
    }
}

/// Variables that a text refers to and has no default for.
fn references(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
    };
    let whole = text.strip_prefix("env:").filter(|name| is_name(name));
    let inside = text.match_indices("${").filter(|(at, _)| !text[..*at].ends_with('$'));
    let inside = inside.filter_map(|(at, _)| Some(text[at + 2..].split_once('}')?.0));
    whole.into_iter().chain(inside.filter(move |name| is_name(name)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path().join("state")), None).unwrap();
        (folder, home)
    }

    /// A-P38: what is missing is named with the key that needs it; what has a default is not needed.
    #[test]
    fn a_missing_variable_is_named_with_its_key() {
        let (_folder, home) = home();
        let text = "[channels.slack]\nbot_token = \"${UNSET_ONE}\"\napp_token = \"env:UNSET_TWO\"\n\
            [[schedules]]\nname = \"a\"\nprompt = \"$${NOT} ${HAS:-default} ${file:/x} $HOME\"\n\
            [[schedules]]\nworkdir = \"/${UNSET_THREE}\"\n";
        std::fs::write(home.autopilot_toml(), text).unwrap();
        let error = prepare(&home, true).unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().filter(|line| line.contains("needs")).map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "autopilot.toml: channels.slack.bot_token needs the variable UNSET_ONE",
                "autopilot.toml: channels.slack.app_token needs the variable UNSET_TWO",
                "autopilot.toml: schedules[1].workdir needs the variable UNSET_THREE",
            ]
        );
        let given = "UNSET_ONE=1\nUNSET_TWO='2'\n# more\n\nUNSET_THREE=\"3\"\n";
        std::fs::write(home.autopilot(FILE), given).unwrap();
        prepare(&home, false).unwrap();
    }

    #[test]
    fn values_survive_the_file_whatever_they_hold() {
        let (_folder, home) = home();
        let values = ["plain", "with space # and \"quotes\"", "back\\slash $HOME `x` 'y'", ""];
        let variables: BTreeMap<String, String> =
            values.iter().enumerate().map(|(at, value)| (format!("V{at}"), (*value).to_owned())).collect();
        write(&home, &variables).unwrap();
        assert_eq!(read(&home).unwrap(), variables);
        // A shell reads the same, as it does under launchd.
        let script = "set -a; . \"$0\"; printf '%s\\n' \"$V0\" \"$V1\" \"$V2\" \"$V3\"";
        let file = home.autopilot(FILE);
        let shell = std::process::Command::new("/bin/sh").args(["-c", script]).arg(&file).output().unwrap();
        assert_eq!(String::from_utf8(shell.stdout).unwrap(), format!("{}\n", values.join("\n")));
        std::fs::write(&file, "no value\n").unwrap();
        assert!(read(&home).unwrap_err().to_string().ends_with("env:1: expected NAME=value"));
    }
}
