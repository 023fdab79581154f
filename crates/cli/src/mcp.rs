//! `mcp …`, and the tool servers of this process: which file counts, what of it can be used, and what is said about the rest.
//!
//! A file or a server that cannot be used is told of and left out: it holds up nothing else.

mod serve;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use serde::Serialize;
use stakpak_mcp::{File, Found, Places, ServerTable, Servers, Settings};
use stakpak_redact::Redactor;

use crate::{
    args::{Global, McpCommand},
    exit::Failure,
    home::Home,
    secrets,
};

/// What servers get to end by themselves after a test.
const STOP: Duration = Duration::from_secs(2);

/// The servers of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Configured {
    settings: Vec<Settings>,
    secrets: Vec<String>,
    variables: Vec<String>,
    left_out: Vec<String>,
}

impl Configured {
    /// Those that can be used.
    pub(crate) fn find(home: &Home, workdir: &Path) -> Self {
        let mut configured = Self::default();
        let found = stakpak_mcp::find(workdir, home.root()).unwrap_or_else(|error| {
            configured.left_out.push(format!("tool servers are left out: {:#}", anyhow::Error::new(error)));
            Found::default()
        });
        if let Some(file) = &found.untrusted {
            let path = file.path.display();
            let advice = "its tool servers are left out; read it, then: stakpak mcp trust";
            configured.left_out.push(format!("{path} is not trusted: {advice}"));
        }
        if let Some(file) = found.file {
            configured.take(&file.servers);
        }
        configured
    }

    fn take(&mut self, servers: &BTreeMap<String, ServerTable>) {
        self.variables.extend(servers.values().flat_map(ServerTable::variables));
        for (name, table) in servers.iter().filter(|(_, table)| !table.disabled) {
            self.secrets.extend(table.secrets(&variable));
            match table.settings(name, &variable) {
                Ok(settings) => self.settings.push(settings),
                Err(error) => self.left_out.push(format!("the tool server `{name}` is left out: {error}")),
            }
        }
    }

    /// What is not used, and why.
    pub(crate) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Values that must not show anywhere.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &String> {
        self.secrets.iter()
    }

    /// Variables that no command sees: those with credentials of this process, those of the servers among them.
    pub(crate) fn withheld(&self, home: &Home) -> Vec<String> {
        home.credential_variables().into_iter().chain(self.variables.iter().cloned()).collect()
    }

    /// Makes them ready to be started.
    pub(crate) fn start(self, home: &Home, redactor: &Redactor) -> Arc<Servers> {
        let places = Places { state: home.autopilot(""), logs: home.logs(), artefacts: home.autopilot("artefacts") };
        Servers::new(self.settings, &places, redactor)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A server as `list` shows it.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    transport: &'static str,
    /// The program with its arguments, or the address; never variables or headers.
    target: String,
    disabled: bool,
    /// Why it cannot be used.
    error: Option<String>,
}

pub(crate) async fn run(global: &Global, command: McpCommand) -> Result<()> {
    let home = Home::open(global.home.clone(), global.config.clone())?;
    let workdir = std::path::absolute(global.workdir.clone().map_or_else(std::env::current_dir, Ok)?)?;
    if matches!(command, McpCommand::Serve) {
        return serve::stdio(global, &home, workdir).await;
    }
    let found = stakpak_mcp::find(&workdir, home.root())?;
    match command {
        McpCommand::Serve => Ok(()),
        McpCommand::List => list(global, &found),
        McpCommand::Trust => trust(global, &home, &found, &workdir),
        McpCommand::Test { name } => test(global, &home, found.file.as_ref(), name.as_deref()).await,
    }
}

fn list(global: &Global, found: &Found) -> Result<()> {
    let file = found.file.as_ref();
    let servers: Vec<Listed> =
        file.iter().flat_map(|file| &file.servers).map(|(name, table)| listed(name, table)).collect();
    let untrusted = found.untrusted.as_ref().map(|file| file.path.display().to_string());
    if global.json {
        let path = file.map(|file| file.path.display().to_string());
        let document = serde_json::json!({ "config": path, "servers": servers, "untrusted": untrusted });
        say!("{document:#}");
        return Ok(());
    }
    match file {
        Some(file) => say!("{}", file.path.display()),
        None => say!("there are no tool servers; name some in ~/.stakpak/mcp.toml"),
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

fn listed<'a>(name: &'a str, table: &ServerTable) -> Listed<'a> {
    let (transport, target) = match (&table.command, &table.url) {
        (Some(command), _) => {
            ("stdio", std::iter::once(command).chain(&table.args).cloned().collect::<Vec<_>>().join(" "))
        }
        (None, url) => ("http", url.clone().unwrap_or_default()),
    };
    let error = table.settings(name, &variable).err().map(|error| error.to_string());
    Listed { name, transport, target, disabled: table.disabled, error }
}

fn trust(global: &Global, home: &Home, found: &Found, workdir: &Path) -> Result<()> {
    let Some(file) = &found.untrusted else {
        let text = match &found.file {
            Some(file) => format!("{} is trusted already", file.path.display()),
            None => format!("there is no mcp.toml in {}", workdir.display()),
        };
        bail!(Failure::Named { code: "not_found", text });
    };
    stakpak_mcp::trust(file, home.root())?;
    let names: Vec<&String> = file.servers.keys().collect();
    if global.json {
        let document = serde_json::json!({ "command": "mcp.trust", "ok": true, "path": file.path, "servers": names });
        say!("{document:#}");
        return Ok(());
    }
    say!("trusted {} as it is now:", file.path.display());
    for (name, table) in &file.servers {
        say!("  {name}: {}", listed(name, table).target);
    }
    Ok(())
}

async fn test(global: &Global, home: &Home, file: Option<&File>, name: Option<&str>) -> Result<()> {
    let file = file.context("there are no tool servers")?;
    let mut tables = file.servers.clone();
    tables.retain(|server, table| name.map_or(!table.disabled, |name| server == name));
    if let (Some(name), true) = (name, tables.is_empty()) {
        bail!("there is no tool server `{name}` in {}", file.path.display());
    }
    let mut settings = Vec::new();
    for (name, table) in &tables {
        settings.push(table.settings(name, &variable).with_context(|| format!("the tool server `{name}`"))?);
    }
    let secrets: Vec<String> = tables.values().flat_map(|table| table.secrets(&variable)).collect();
    let redactor = secrets::redactor(home, &secrets)?;
    let servers = Configured { settings, ..Configured::default() }.start(home, &redactor);
    let reports = servers.test().await;
    servers.stop(STOP).await;
    let ok = reports.iter().all(|report| report.is_ready);
    if global.json {
        let shown: Vec<_> = reports
            .iter()
            .map(|report| {
                let tools: Vec<&String> = report.tools.iter().map(|(name, _)| name).collect();
                serde_json::json!({ "name": report.name, "ok": report.is_ready, "refused": report.refused, "state": report.state, "tools": tools })
            })
            .collect();
        say!("{:#}", serde_json::json!({ "command": "mcp.test", "ok": ok, "servers": shown }));
    } else {
        for report in &reports {
            say!("{}: {}, {} tools", report.name, report.state, report.tools.len());
            for (tool, description) in &report.tools {
                let first: String = description.lines().next().unwrap_or_default().chars().take(80).collect();
                say!("  {tool}  {first}");
            }
            for reason in &report.refused {
                say!("  {reason}");
            }
        }
    }
    if ok { Ok(()) } else { Err(Failure::Silent.into()) }
}
