//! Edits of `autopilot.toml`: what would be invalid is not written.

use std::{io, path::Path};

use anyhow::{Result, bail};
use chrono::Utc;
use serde_json::json;
use stakpak_config::{Document, edit};
use stakpak_scheduler::{Definition, Platform, Schedule, ScheduleSpec};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::{keys, table};
use crate::{
    args::{Global, ScheduleAddArgs, ScheduleEditArgs},
    autopilot_file::AutopilotFile,
    home::Home,
    instance::Facts,
    place::Place,
};

pub(super) fn add(home: &Home, global: &Global, args: &ScheduleAddArgs) -> Result<()> {
    let written = write(home, &args.name, |document| insert(document, global, args))?;
    say_written(home, global.json, "add", &written)
}

pub(crate) fn insert(document: &mut DocumentMut, global: &Global, args: &ScheduleAddArgs) -> io::Result<()> {
    let schedules = entries(document)?;
    let existing = schedules.iter().position(|table| name_of(table) == Some(&args.name));
    match existing {
        Some(_) if !args.replace => {
            return Err(refused(format!("there is a schedule named {}; --replace replaces it", args.name)));
        }
        Some(index) => drop(schedules.remove(index)),
        None => {}
    }
    let mut table = Table::new();
    table["name"] = value(&args.name);
    keys::write(global, &args.keys, &mut table);
    schedules.push(table);
    Ok(())
}

pub(super) fn change(home: &Home, global: &Global, args: &ScheduleEditArgs) -> Result<()> {
    let written = write(home, &args.name, |document| {
        let table = entry(document, &args.name)?;
        for key in &args.unset {
            if table.remove(key).is_none() {
                return Err(refused(format!("schedule {} has no key {key}", args.name)));
            }
        }
        keys::write(global, &args.keys, table);
        Ok(())
    })?;
    say_written(home, global.json, "edit", &written)
}

pub(super) fn switch(home: &Home, json: bool, name: &str, on: bool) -> Result<()> {
    let written = write(home, name, |document| {
        let table = entry(document, name)?;
        // On is the default.
        match on {
            true => drop(table.remove("enabled")),
            false => stakpak_config::set(table, "enabled", false),
        }
        Ok(())
    })?;
    say_written(home, json, if on { "enable" } else { "disable" }, &written)
}

pub(super) fn remove(home: &Home, json: bool, name: &str) -> Result<()> {
    let path = home.autopilot_toml();
    let removed = edit(&path, |document| {
        let schedules = entries(document)?;
        let before = schedules.len();
        schedules.retain(|table| name_of(table) != Some(name));
        Ok::<_, io::Error>(schedules.len() < before)
    });
    if !removed.map_err(edit_error)? {
        bail!("there is no schedule named {name} in {}", Home::show(&path));
    }
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.remove", "ok": true, "name": name }));
    } else {
        say!("Schedule {name} is removed; its history stays.");
    }
    Ok(())
}

/// The schedule as it will be read.
fn write(home: &Home, name: &str, change: impl Fn(&mut DocumentMut) -> Result<(), io::Error>) -> Result<Schedule> {
    let path = home.autopilot_toml();
    let written = edit(&path, |document| {
        change(document)?;
        check(&path, document, name)
    });
    written.map_err(edit_error)
}

fn say_written(home: &Home, json: bool, command: &str, schedule: &Schedule) -> Result<()> {
    let name = &schedule.name;
    let Definition::Valid { timing, spec, .. } = &schedule.definition else { bail!("schedule {name} is invalid") };
    let fires: Vec<_> = timing.fires_after(Utc::now()).take(if spec.enabled { 3 } else { 0 }).collect();
    let (route, notes) = (spec.notify.route().map(|route| route.to_string()), notes(home, spec));
    if json {
        let command = format!("autopilot.schedule.{command}");
        say!(
            "{}",
            json!({ "command": command, "ok": true, "name": name, "enabled": spec.enabled, "next_fires": fires,
                "route": route, "notes": notes })
        );
        return Ok(());
    }
    say!("Schedule {name} is in {}.", Home::show(&home.autopilot_toml()));
    if !spec.enabled {
        say!("  it is switched off; switch it on with: stakpak schedule enable {name}");
    }
    for fire in fires {
        say!("  next  {}", table::local(fire, spec.timezone));
    }
    if let Some(route) = route {
        say!("  told  {route}");
    }
    for note in notes {
        say!("  note  {note}");
    }
    match Facts::of_running(home)? {
        Some(_) => say!("The running instance takes it up within a second."),
        None => say!("Start it with: stakpak up"),
    }
    Ok(())
}

fn refused(text: String) -> io::Error {
    io::Error::other(text)
}

fn entries(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, io::Error> {
    let schedules = document.entry("schedules").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    schedules
        .as_array_of_tables_mut()
        .ok_or_else(|| refused("`schedules` must be written as [[schedules]] tables".to_owned()))
}

fn entry<'a>(document: &'a mut DocumentMut, name: &str) -> Result<&'a mut Table, io::Error> {
    let entry = entries(document)?.iter_mut().find(|table| name_of(table) == Some(name));
    entry.ok_or_else(|| refused(format!("there is no schedule named {name}")))
}

fn name_of(table: &Table) -> Option<&str> {
    table.get("name").and_then(Item::as_str)
}

/// The entry as the running process will read it: an invalid one is not written.
pub(crate) fn check(path: &Path, document: &DocumentMut, name: &str) -> io::Result<Schedule> {
    let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let parsed = Document::parse(&file, document.to_string()).map_err(io::Error::other)?;
    let file = AutopilotFile::read(&parsed).map_err(|error| refused(error.to_string()))?;
    let schedule = file.schedules.get(name).cloned();
    let schedule = schedule.ok_or_else(|| refused("the schedule was not written".to_owned()))?;
    let errors = match &schedule.definition {
        Definition::Valid { past: None, .. } => return Ok(schedule),
        Definition::Valid { past: Some(error), .. } => std::slice::from_ref(error),
        Definition::Invalid(errors) => errors,
    };
    let errors: Vec<_> = errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect();
    Err(refused(errors.join("\n")))
}

fn edit_error(error: stakpak_config::EditError<io::Error>) -> anyhow::Error {
    match error {
        stakpak_config::EditError::Refused(error) => anyhow::anyhow!("{error}; nothing was written"),
        other => other.into(),
    }
}

/// What the rest of the files lacks for the schedule to do what it says; it can still come.
fn notes(home: &Home, spec: &ScheduleSpec) -> Vec<String> {
    let (name, notify) = (&spec.name, &spec.notify);
    let mut notes = Vec::new();
    if let Some(error) = home.config_file().ok().and_then(|config| config.profile(&spec.profile).err()) {
        notes.push(format!("{error}; its runs fail. Another profile: stakpak schedule edit {name} --profile NAME"));
    }
    let channel = notify.channel.map(Platform::as_str);
    if channel.is_some() && notify.target.is_none() {
        notes.push(format!(
            "nothing is told: notify_target is missing. Add it: stakpak schedule edit {name} --notify-target ID"
        ));
    }
    let gateway = Place::of_up(home).load();
    let is_connected = |channel: &str| {
        gateway.as_ref().is_ok_and(|config| config.channels.settings().any(|(name, it)| name == channel && it.enabled))
    };
    if let Some(channel) = channel.filter(|channel| !is_connected(channel)) {
        notes.push(format!("{channel} is not connected, or switched off. Connect it: stakpak channel add {channel}"));
    }
    notes
}
