//! `mcp list` and `mcp get`: what the file says. Nothing is started.

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use stakpak_config::duration;
use stakpak_mcp::{File, Found, ServerTable};

use super::{
    known,
    shown::{Shown, address, arguments, references},
};
use crate::{args::Global, exit::Failure, home::Home};

pub(super) fn all(global: &Global, home: &Home, found: &Found) -> Result<()> {
    let file = found.file.as_ref();
    let redactor = known(home, file.map(|file| &file.servers).unwrap_or(&Default::default()))?;
    let servers: Vec<Shown> =
        file.iter().flat_map(|file| &file.servers).map(|(name, table)| Shown::of(name, table, &redactor)).collect();
    let untrusted = found.untrusted.as_ref().map(|file| file.path.display().to_string());
    if global.json {
        let path = file.map(|file| file.path.display().to_string());
        let document = json!({ "config": path, "servers": servers, "untrusted": untrusted });
        say!("{document:#}");
        return Ok(());
    }
    match file {
        Some(file) => say!("{}", file.path.display()),
        None => say!("there are no tool servers; add one: stakpak mcp add NAME -- COMMAND"),
    }
    if !servers.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["NAME", "TRANSPORT", "STATE", "TARGET"]);
        for server in &servers {
            let state = match (&server.error, server.disabled) {
                (Some(error), _) => error.as_str(),
                (None, true) => "disabled",
                (None, false) => "enabled",
            };
            table.add_row([server.name, server.transport, state, &server.target]);
        }
        say!("{table}");
    }
    if let Some(path) = untrusted {
        say!("{path} is not trusted; read it, then: stakpak mcp trust");
    }
    Ok(())
}

pub(super) fn one(global: &Global, home: &Home, file: Option<&File>, name: &str) -> Result<()> {
    let (file, table) = find(file, name)?;
    let redactor = known(home, &file.servers)?;
    let server = described(&Shown::of(name, table, &redactor), table)?;
    let server = hide(server, &|text| redactor.redact(text).into_owned());
    if global.json {
        let path = file.path.display().to_string();
        say!("{:#}", json!({ "command": "mcp.get", "ok": true, "config": path, "server": server }));
        return Ok(());
    }
    say!("{}", file.path.display());
    for (key, value) in server.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(text) => say!("  {key}: {text}"),
            other => say!("  {key}: {other}"),
        }
    }
    Ok(())
}

/// The server of this name in the file that counts.
pub(super) fn find<'a>(file: Option<&'a File>, name: &str) -> Result<(&'a File, &'a ServerTable)> {
    let found = file.and_then(|file| Some((file, file.servers.get(name)?)));
    let Some(found) = found else {
        let place = file.map_or_else(String::new, |file| format!(" in {}", Home::show(&file.path)));
        bail!(Failure::Named { code: "not_found", text: format!("there is no tool server `{name}`{place}") });
    };
    Ok(found)
}

fn described(shown: &Shown<'_>, table: &ServerTable) -> Result<Value> {
    let mut server = serde_json::to_value(shown).context("a server cannot be shown")?;
    let time = |time| duration::show(time).to_string();
    let more = json!({
        "command": table.command,
        "args": table.command.as_ref().map(|_| arguments(&table.args)),
        "env": table.command.as_ref().map(|_| references(&table.env)),
        "cwd": table.cwd,
        "inherit_env": table.inherit_env,
        "url": table.url.as_deref().map(address),
        "headers": table.url.as_ref().map(|_| references(&table.headers)),
        "startup_timeout": time(table.startup_timeout),
        "timeout": time(table.timeout),
        "max_timeout": time(table.max_timeout),
        "allow_tools": table.allow_tools,
        "deny_tools": table.deny_tools,
        "secrets": table.secrets,
    });
    if let (Some(server), Value::Object(more)) = (server.as_object_mut(), more) {
        server.extend(more);
    }
    Ok(server)
}

fn hide(value: Value, redact: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => redact(&text).into(),
        Value::Array(items) => items.into_iter().map(|item| hide(item, redact)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, hide(value, redact))).collect(),
        other => other,
    }
}
