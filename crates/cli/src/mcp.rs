//! `mcp …`, and the tool servers of this process: which file counts, what of it can be used, and what is said about the rest.
//!
//! A file or a server that cannot be used is told of and left out: it holds up nothing else.

mod document;
mod edits;
mod list;
mod serve;
mod shown;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use stakpak_mcp::{File, Found, Host, Places, ServerTable, Servers, Settings};
use stakpak_redact::Redactor;
use stakpak_tools::{ContainersConfig, LocalTools, LocalToolsConfig, VaultSecrets};

pub(crate) use self::document::OwnToolsPart;
use self::shown::Shown;
use crate::{
    args::{Global, McpCommand},
    exit::Failure,
    home::Home,
    sandbox::AsCommands,
    secrets, tasks,
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

    /// Makes them ready to be started, with the secrets and the sandbox of our own tools.
    pub(crate) fn start(
        self,
        home: &Home,
        workdir: &Path,
        redactor: &Redactor,
        secrets: &VaultSecrets,
        tools: &LocalTools,
    ) -> Arc<Servers> {
        let host = Host {
            places: Places { state: home.autopilot(""), logs: home.logs(), artefacts: home.autopilot("artefacts") },
            workdir: workdir.to_owned(),
            redactor: redactor.clone(),
            secrets: Arc::new(secrets.clone()),
            confine: Arc::new(AsCommands(tools.clone())),
        };
        Servers::new(self.settings, host)
    }
}

/// Our own tools, as every process of this state directory has them.
pub(crate) fn own_tools(
    home: &Home,
    mode: &str,
    credential_variables: Vec<String>,
    profile: Option<String>,
) -> Result<LocalToolsConfig> {
    Ok(LocalToolsConfig {
        artefacts: home.autopilot("artefacts"),
        backups: home.autopilot("backups"),
        credential_variables,
        profile,
        protected: home.protected(),
        home: std::env::home_dir(),
        tasks: tasks::config(home, mode)?,
        containers: containers(home),
        notifier: None,
        notices: home.autopilot("notices"),
    })
}

pub(crate) fn containers(home: &Home) -> ContainersConfig {
    ContainersConfig::new(home.autopilot("containers"))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
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
        McpCommand::List => list::all(global, &home, &found),
        McpCommand::Get { name } => list::one(global, &home, found.file.as_ref(), &name),
        McpCommand::Add(args) => edits::add(global, &home, &workdir, &found, args),
        McpCommand::Remove { name } => edits::remove(global, &home, &workdir, &found, &name),
        McpCommand::Enable { name } => edits::switch(global, &home, &workdir, &found, &name, true),
        McpCommand::Disable { name } => edits::switch(global, &home, &workdir, &found, &name, false),
        McpCommand::Trust => trust(global, &home, &found, &workdir),
        McpCommand::Test { name } => test(global, &home, &workdir, found.file.as_ref(), name.as_deref()).await,
    }
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
    let redactor = known(home, &file.servers)?;
    say!("trusted {} as it is now:", file.path.display());
    for (name, table) in &file.servers {
        say!("  {name}: {}", Shown::of(name, table, &redactor).target);
    }
    Ok(())
}

/// Hides what the servers have of this process's variables, and what is written into the file itself.
fn known(home: &Home, servers: &BTreeMap<String, ServerTable>) -> Result<Redactor> {
    let secrets: Vec<String> = servers.values().flat_map(|table| table.secrets(&variable)).collect();
    secrets::redactor(home, &secrets)
}

async fn test(global: &Global, home: &Home, workdir: &Path, file: Option<&File>, name: Option<&str>) -> Result<()> {
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
    let redactor = known(home, &tables)?;
    let secrets = secrets::of_sessions(home, redactor.clone());
    let tools = LocalTools::new(own_tools(home, "mcp", home.credential_variables(), None)?, secrets.clone());
    let configured = Configured { settings, ..Configured::default() };
    let servers = configured.start(home, workdir, &redactor, &secrets, &tools);
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
