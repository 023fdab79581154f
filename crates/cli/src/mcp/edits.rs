//! `mcp add|remove|enable|disable`: one table of the file that counts, everything else stays as it was written.
//!
//! A file of a working directory that was trusted stays so: what changed is what the owner asked for.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use serde::Serialize as _;
use serde_json::{Map, Value as Json, json, ser::PrettyFormatter};
use stakpak_config::{EditError, edit, edit_text, set};
use stakpak_mcp::{Found, parse};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::{list::find, shown::is_reference};
use crate::{
    args::{Global, McpAddArgs},
    comments::keep_comments,
    exit::Failure,
    home::Home,
    instance::Facts,
};

const SERVERS: &str = "mcpServers";

/// What becomes of a server's table.
enum Change {
    /// It is as these keys say.
    Put(Map<String, Json>),
    Remove,
    Disable(bool),
}

pub(super) fn add(global: &Global, home: &Home, workdir: &Path, found: &Found, args: McpAddArgs) -> Result<()> {
    let (name, replace) = (args.name.clone(), args.replace);
    stakpak_mcp::check_server_name(&name)?;
    if !replace && find(found.file.as_ref(), &name).is_ok() {
        let text = format!("there is a tool server `{name}` already; --replace replaces it");
        bail!(Failure::Named { code: "already_exists", text });
    }
    let literal = args.env.iter().chain(&args.headers).filter(|(_, value)| !is_reference(value));
    let notes = literal.map(|(name, _)| {
        format!(
            "the value of {name} is in the file; as '${{{}}}' it would be taken from the environment",
            variable_of(name)
        )
    });
    let notes: Vec<String> = notes.collect();
    write(global, home, workdir, found, ("add", &name), &Change::Put(keys(args)), notes)
}

pub(super) fn remove(global: &Global, home: &Home, workdir: &Path, found: &Found, name: &str) -> Result<()> {
    find(found.file.as_ref(), name)?;
    write(global, home, workdir, found, ("remove", name), &Change::Remove, Vec::new())
}

pub(super) fn switch(global: &Global, home: &Home, workdir: &Path, found: &Found, name: &str, on: bool) -> Result<()> {
    find(found.file.as_ref(), name)?;
    let command = if on { "enable" } else { "disable" };
    write(global, home, workdir, found, (command, name), &Change::Disable(!on), Vec::new())
}

fn keys(args: McpAddArgs) -> Map<String, Json> {
    let McpAddArgs { name: _, url, headers, env, disabled, replace: _, command } = args;
    let object = |pairs: Vec<(String, String)>| pairs.into_iter().map(|(name, value)| (name, value.into())).collect();
    let mut keys = Map::new();
    if let Some((program, arguments)) = command.split_first() {
        keys.insert("command".to_owned(), program.as_str().into());
        if !arguments.is_empty() {
            keys.insert("args".to_owned(), arguments.into());
        }
    }
    if let Some(url) = url {
        keys.insert("url".to_owned(), url.into());
    }
    for (key, pairs) in [("env", env), ("headers", headers)] {
        if !pairs.is_empty() {
            keys.insert(key.to_owned(), Json::Object(object(pairs)));
        }
    }
    if disabled {
        keys.insert("disabled".to_owned(), true.into());
    }
    keys
}

fn variable_of(name: &str) -> String {
    name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

fn write(
    global: &Global,
    home: &Home,
    workdir: &Path,
    found: &Found,
    (command, name): (&str, &str),
    change: &Change,
    mut notes: Vec<String>,
) -> Result<()> {
    let path = found.file.as_ref().map_or_else(|| home.root().join("mcp.toml"), |file| file.path.clone());
    apply(&path, name, change)?;
    trust_again(home, workdir, &path)?;
    if Facts::of_running(home)?.is_some() {
        notes.push("the running instance takes it up when it is started again: stakpak restart".to_owned());
    }
    if global.json {
        let command = format!("mcp.{command}");
        say!("{:#}", json!({ "command": command, "ok": true, "name": name, "config": path, "notes": notes }));
        return Ok(());
    }
    let path = Home::show(&path);
    match change {
        Change::Put(_) => say!("Tool server {name} is in {path}. Try it: stakpak mcp test {name}"),
        Change::Remove => say!("Tool server {name} is removed from {path}."),
        Change::Disable(true) => say!("Tool server {name} is switched off in {path}."),
        Change::Disable(false) => say!("Tool server {name} is switched on in {path}."),
    }
    notes.iter().for_each(|note| say!("  note  {note}"));
    Ok(())
}

/// The file was trusted as it was before, or counts without.
fn trust_again(home: &Home, workdir: &Path, path: &PathBuf) -> Result<()> {
    match stakpak_mcp::find(workdir, home.root())?.untrusted.filter(|file| file.path == *path) {
        Some(file) => Ok(stakpak_mcp::trust(&file, home.root())?),
        None => Ok(()),
    }
}

fn apply(path: &Path, name: &str, change: &Change) -> Result<()> {
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let written = match is_json {
        true => edit_text(path, |text| in_json(text, name, change).map(|text| (text, ()))),
        false => edit(path, |document| in_toml(document, name, change)),
    };
    written.map_err(|error| match error {
        EditError::Refused(error) => anyhow::anyhow!("{}: {error}; nothing was written", Home::show(path)),
        other => other.into(),
    })
}

fn in_toml(document: &mut DocumentMut, name: &str, change: &Change) -> io::Result<()> {
    let servers = document.entry(SERVERS).or_insert_with(|| {
        let mut servers = Table::new();
        servers.set_implicit(true);
        Item::Table(servers)
    });
    let servers = servers.as_table_like_mut().ok_or_else(|| wrong_shape(SERVERS))?;
    match change {
        Change::Put(keys) => {
            let mut table = Table::new();
            for (key, value) in keys {
                table.insert(key, Item::Value(toml_of(value)));
            }
            servers.insert(name, Item::Table(table));
        }
        Change::Remove => {
            if let Some(Item::Table(table)) = servers.remove(name) {
                keep_comments(document, &table);
            }
        }
        Change::Disable(disabled) => {
            let table = servers.get_mut(name).and_then(Item::as_table_like_mut).ok_or_else(|| wrong_shape(name))?;
            switch_toml(table, *disabled);
        }
    }
    parse(&document.to_string(), false).map(drop).map_err(io::Error::other)
}

/// On is the default.
fn switch_toml(table: &mut dyn TableLike, disabled: bool) {
    if disabled {
        set(table, "disabled", true);
    } else {
        table.remove("disabled");
    }
}

fn toml_of(value: &Json) -> Value {
    match value {
        Json::Array(items) => items.iter().map(toml_of).collect::<Array>().into(),
        Json::Object(fields) => {
            fields.iter().map(|(key, value)| (key.as_str(), toml_of(value))).collect::<InlineTable>().into()
        }
        Json::Bool(flag) => (*flag).into(),
        Json::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    }
}

fn in_json(text: &str, name: &str, change: &Change) -> io::Result<String> {
    let mut document: Json = match text.trim() {
        "" => json!({}),
        text => serde_json::from_str(text).map_err(io::Error::other)?,
    };
    let servers = document.as_object_mut().ok_or_else(|| wrong_shape("the file"))?;
    let servers = servers.entry(SERVERS).or_insert_with(|| json!({}));
    let servers = servers.as_object_mut().ok_or_else(|| wrong_shape(SERVERS))?;
    match change {
        Change::Put(keys) => drop(servers.insert(name.to_owned(), Json::Object(keys.clone()))),
        Change::Remove => drop(servers.shift_remove(name)),
        Change::Disable(disabled) => {
            let table = servers.get_mut(name).and_then(Json::as_object_mut).ok_or_else(|| wrong_shape(name))?;
            match disabled {
                true => drop(table.insert("disabled".to_owned(), true.into())),
                false => drop(table.shift_remove("disabled")),
            }
        }
    }
    parse(&document.to_string(), true).map_err(io::Error::other)?;
    indented_as(text, &document)
}

/// With the indentation that the file has.
fn indented_as(text: &str, document: &Json) -> io::Result<String> {
    let first = text.lines().find(|line| line.starts_with([' ', '\t'])).unwrap_or("  ");
    let indent = &first[..first.len() - first.trim_start().len()];
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(indent.as_bytes());
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    if text.is_empty() || text.ends_with('\n') {
        bytes.push(b'\n');
    }
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn wrong_shape(what: &str) -> io::Error {
    io::Error::other(format!("{what} must be a table"))
}
