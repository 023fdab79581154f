//! `stakpak up -d`: installs the service, starts it, and returns when it is ready.

use std::net::TcpListener;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{Service, choose, environment, systemd, wait};
use crate::{
    args::{Backend, Global, UpArgs},
    autopilot_file::AutopilotFile,
    exit::Failure,
    home::Home,
    instance::{Facts, explain_bind_error},
    output,
};

pub(crate) async fn detach(global: &Global, args: &UpArgs) -> Result<()> {
    refuse_unsafe(args)?;
    let home = Home::open(global.home.clone(), global.config.clone())?;
    let file = AutopilotFile::load(&home)?;
    home.config_file()?;
    let remarks = environment::prepare(&home, args.detach.import_env)?;
    let service = Service {
        backend: choose(args.detach.service).await?,
        binary: std::env::current_exe().context("the path of this program is not known")?,
        args: Vec::new(),
        path: std::env::var("PATH").unwrap_or_default(),
        drain_secs: args.drain_timeout.unwrap_or(file.server.drain_timeout).as_secs(),
    };
    let service = Service { args: arguments(global, args, service.backend)?, ..service };
    for remark in &remarks {
        eprintln!("{remark}");
    }
    if let Some(facts) = Facts::of_running(&home)? {
        return beside(&home, &service, &facts, global.json);
    }
    let bind = args.bind.unwrap_or(file.server.listen);
    TcpListener::bind(bind).map_err(|error| explain_bind_error(bind, &error))?;
    service.install(&home).await?;
    let facts = match start(&service, &home).await {
        Ok(facts) => facts,
        Err(error) => {
            let _ = service.stop(&home).await;
            let _ = service.uninstall(&home).await;
            return Err(error);
        }
    };
    report(&home, &service, &facts, global.json).await
}

async fn start(service: &Service, home: &Home) -> Result<Facts> {
    service.start(home).await?;
    wait::until_ready(home, service.backend).await
}

/// What must not be forgotten to be on: it holds for one start, in a terminal.
fn refuse_unsafe(args: &UpArgs) -> Result<()> {
    let flags = [("--no-auth", args.no_auth), ("--auto-approve-all", args.auto_approve_all)];
    let Some((flag, _)) = flags.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    let hint =
        if flag == "--auto-approve-all" { "; server.auto_approve_all of autopilot.toml is for that" } else { "" };
    bail!(Failure::Usage(format!("{flag} is refused with -d: a service keeps what it is given{hint}")))
}

fn arguments(global: &Global, args: &UpArgs, backend: Backend) -> Result<Vec<String>> {
    let path = |path: &std::path::Path| Ok::<_, std::io::Error>(std::path::absolute(path)?.display().to_string());
    let mut words = vec!["up".to_owned(), "--foreground".to_owned()];
    let mut flag = |name: &str, value: Option<String>| {
        words.extend(value.map(|value| [format!("--{name}"), value]).into_iter().flatten());
    };
    flag("from-service", Some(backend.name().to_owned()));
    flag("profile", Some(global.profile.clone()));
    flag("config", global.config.as_deref().map(path).transpose()?);
    flag("home", global.home.as_deref().map(path).transpose()?);
    flag("workdir", global.workdir.as_deref().map(path).transpose()?);
    flag("bind", args.bind.map(|bind| bind.to_string()));
    flag("model", args.model.clone());
    flag("drain-timeout", args.drain_timeout.map(|drain| format!("{}ms", drain.as_millis())));
    flag("log-format", args.log_format.map(|format| format.name().to_owned()));
    for (name, given) in [("--no-gateway", args.no_gateway), ("--no-scheduler", args.no_scheduler)] {
        words.extend(given.then(|| name.to_owned()));
    }
    Ok(words)
}

/// Something runs already. What differs takes effect at the next start.
fn beside(home: &Home, service: &Service, facts: &Facts, json: bool) -> Result<()> {
    let how = facts.service.map_or("in a terminal", Backend::name);
    let differs = facts.service.is_some() && Service::installed(home).as_ref() != Some(service);
    if json {
        let running = json!({ "command": "autopilot.up", "ok": true, "already_running": true, "pid": facts.pid,
            "url": facts.url, "mode": facts.service.map_or("foreground", Backend::name), "differs": differs });
        output::line(&running.to_string());
        return Ok(());
    }
    say!("stakpak is running already ({how}): process {}, {}", facts.pid, facts.url);
    if differs {
        say!("it was started with other settings; `stakpak down` and this command again apply these");
    }
    Ok(())
}

pub(super) async fn report(home: &Home, service: &Service, facts: &Facts, json: bool) -> Result<()> {
    let definition = service.definition()?;
    let backend = service.backend.name();
    if json {
        let report = json!({ "command": "autopilot.up", "ok": true, "pid": facts.pid, "url": facts.url,
            "service": { "backend": backend, "path": definition } });
        output::line(&report.to_string());
        return Ok(());
    }
    say!("stakpak {} runs in the background: process {}, {}", facts.version, facts.pid, facts.url);
    say!("  service    {}", definition.map_or_else(|| backend.to_owned(), |path| Home::show(&path)));
    say!("  logs       {}", Home::show(&home.logs()));
    if service.backend == Backend::Systemd
        && let Some(hint) = systemd::linger_hint().await
    {
        say!("  note       {hint}");
    }
    if service.backend == Backend::Process {
        say!("  note       it is not started with the machine; there is no service manager here");
    }
    say!("Next: stakpak status · stakpak logs -f · stakpak restart · stakpak down");
    Ok(())
}
