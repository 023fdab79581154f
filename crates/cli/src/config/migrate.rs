//! `config migrate`: names of earlier versions become those of this one. A copy of the file is kept beside it first.
//!
//! Invariants: what is not renamed stays byte for byte; where both names are there, the newer one is what holds, as it is when
//! the file is read.

use std::{fs, io, path::Path};

use anyhow::Result;
use chrono::Utc;
use serde_json::json;
use stakpak_config::{
    edit,
    toml_edit::{DocumentMut, Item, Key, Table, TableLike, value},
    write_private,
};

use crate::{
    args::{ConfigFileName, Global},
    channel::refused,
    home::Home,
};

/// Of a profile; the first that is there names the model.
const MODELS: [&str; 3] = ["smart_model", "eco_model", "recovery_model"];
/// Tables of a profile that are providers.
const PROVIDERS: [&str; 3] = ["anthropic", "openai", "gemini"];
/// Of a schedule. The later of two names for one key is read only where the earlier is not there.
const SCHEDULE: [(&str, &str); 3] =
    [("max_steps", "max_turns"), ("notify_chat_id", "notify_target"), ("channel", "notify_target")];
/// Without effect since 0.4.
const GONE: [&str; 2] = ["enable_slack_tools", "enable_subagents"];

pub(super) fn run(home: &Home, global: &Global) -> Result<()> {
    let mut files = Vec::new();
    for file in ConfigFileName::ALL {
        let path = file.path(home);
        let copy = path.with_file_name(format!("{}.bak-{}", file.name(), Utc::now().format("%Y%m%dT%H%M%SZ")));
        let changes = if path.exists() { migrated(&path, &copy, file)? } else { Vec::new() };
        if !changes.is_empty() {
            files.push((file, copy, changes));
        }
    }
    if global.json {
        let files = files
            .iter()
            .map(|(file, copy, changes)| json!({ "backup": copy, "changes": changes, "file": file.name() }));
        say!("{}", json!({ "command": "config.migrate", "ok": true, "files": files.collect::<Vec<_>>() }));
        return Ok(());
    }
    if files.is_empty() {
        say!("Nothing to do: no file has a name of an earlier version.");
    }
    for (file, copy, changes) in files {
        say!("{}: as it was, in {}", file.name(), Home::show(&copy));
        changes.iter().for_each(|change| say!("  {change}"));
    }
    Ok(())
}

/// What was changed; nothing is written where there is nothing to change.
fn migrated(path: &Path, copy: &Path, file: ConfigFileName) -> Result<Vec<String>> {
    let changed = edit(path, |document| {
        let mut changes = Vec::new();
        match file {
            ConfigFileName::Config => config(document, &mut changes),
            ConfigFileName::Autopilot => autopilot(document, &mut changes),
        }
        if !changes.is_empty() {
            write_private(copy, &fs::read(path)?).map_err(io::Error::other)?;
        }
        Ok::<_, io::Error>(changes)
    });
    changed.map_err(refused)
}

fn config(document: &mut DocumentMut, changes: &mut Vec<String>) {
    let Some(profiles) = document.get_mut("profiles").and_then(Item::as_table_like_mut) else { return };
    for (name, profile) in profiles.iter_mut() {
        let place = format!("profiles.{}", name.get());
        let Some(profile) = profile.as_table_like_mut() else { continue };
        for model in MODELS {
            rename(profile, &place, model, "model", changes);
        }
        for provider in PROVIDERS {
            let Some(mut settings) = profile.remove(provider) else { continue };
            if let Some(settings) = settings.as_table_like_mut().filter(|settings| !settings.contains_key("type")) {
                settings.insert("type", value(provider));
            }
            let providers = profile.entry("providers").or_insert_with(implicit);
            if let Some(providers) = providers.as_table_like_mut().filter(|there| !there.contains_key(provider)) {
                providers.insert(provider, settings);
            }
            changes.push(format!("{place}.{provider} is {place}.providers.{provider}"));
        }
    }
}

/// A table that is only the place of others.
fn implicit() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

fn autopilot(document: &mut DocumentMut, changes: &mut Vec<String>) {
    if let Some(table) = document.get_mut("notifications").and_then(Item::as_table_like_mut) {
        rename(table, "notifications", "chat_id", "target", changes);
    }
    if let Some(table) = document.get_mut("defaults").and_then(Item::as_table_like_mut) {
        GONE.iter().for_each(|key| remove(table, "defaults", key, changes));
    }
    let Some(schedules) = document.get_mut("schedules").and_then(Item::as_array_of_tables_mut) else { return };
    for table in schedules.iter_mut() {
        let name = table.get("name").and_then(Item::as_str).unwrap_or("?").to_owned();
        let place = format!("schedules.{name}");
        for (old, new) in SCHEDULE {
            rename(table, &place, old, new, changes);
        }
        GONE.iter().for_each(|key| remove(table, &place, key, changes));
    }
}

fn remove(table: &mut dyn TableLike, place: &str, key: &str, changes: &mut Vec<String>) {
    if table.remove(key).is_some() {
        changes.push(format!("{place}.{key} is gone: it has no effect"));
    }
}

/// The value stays in its line, with what is said about it.
fn rename(table: &mut dyn TableLike, place: &str, old: &str, new: &str, changes: &mut Vec<String>) {
    if !table.contains_key(old) {
        return;
    }
    if table.contains_key(new) {
        table.remove(old);
        changes.push(format!("{place}.{old} is gone: {new} is there"));
        return;
    }
    let keys: Vec<Key> = table.iter().filter_map(|(key, _)| table.key(key).cloned()).collect();
    for key in keys {
        let Some(item) = table.remove(key.get()) else { continue };
        let renamed = match key.get() == old {
            true => Key::new(new).with_leaf_decor(key.leaf_decor().clone()),
            false => key,
        };
        table.entry_format(&renamed).or_insert(item);
    }
    changes.push(format!("{place}.{old} is {new}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(source: &str, migrate: fn(&mut DocumentMut, &mut Vec<String>)) -> (String, Vec<String>) {
        let mut document: DocumentMut = source.parse().unwrap();
        let mut changes = Vec::new();
        migrate(&mut document, &mut changes);
        (document.to_string(), changes)
    }

    /// A-P46: old names become new ones where they stand; everything else stays.
    #[test]
    fn schedules_keep_their_lines() {
        let source = "# mine\n[notifications]\nchat_id = \"1\"   # ops\nchannel = \"telegram\"\n\n[[schedules]]\nname = \"a\"\n# few\n\
                      max_steps = 7 # really\nenable_subagents = true\nprompt = \"p\"\nchannel = \"x\"\nnotify_chat_id = \"9\"\n";
        let (text, changes) = after(source, autopilot);
        assert_eq!(
            text,
            "# mine\n[notifications]\ntarget = \"1\"   # ops\nchannel = \"telegram\"\n\n[[schedules]]\nname = \"a\"\n# few\n\
             max_turns = 7 # really\nprompt = \"p\"\nnotify_target = \"9\"\n"
        );
        assert_eq!(changes.len(), 5, "{changes:?}");
        assert_eq!(after(&text, autopilot), (text, Vec::new()), "there is nothing left to do");
    }

    /// A-P46: the first model that is named is the one that was used; a provider's own table is one of `providers`.
    #[test]
    fn profiles_have_one_model_and_providers_in_one_place() {
        let source = "[profiles.ops]\nsmart_model = \"a\"\neco_model = \"b\"\nmax_turns = 3\n\n[profiles.ops.anthropic]\napi_key = \"k\"\n";
        let (text, changes) = after(source, config);
        let read: DocumentMut = text.parse().unwrap();
        assert_eq!(read["profiles"]["ops"]["model"].as_str(), Some("a"), "{text}");
        assert!(
            read["profiles"]["ops"].get("eco_model").is_none() && read["profiles"]["ops"].get("anthropic").is_none()
        );
        let provider = &read["profiles"]["ops"]["providers"]["anthropic"];
        assert_eq!((provider["type"].as_str(), provider["api_key"].as_str()), (Some("anthropic"), Some("k")), "{text}");
        assert_eq!(changes.len(), 3, "{changes:?}");
        assert_eq!(after(&text, config), (text, Vec::new()));
    }
}
