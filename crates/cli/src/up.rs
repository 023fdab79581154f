//! `stakpak up`: server, gateway and scheduler in one process, in the foreground.
//!
//! Start order: files → lock → bind → journal and open runs → answer → gateway → scheduler → ready. The server outlives the
//! others: one of them that fails is started again, and nothing it failed at is lost.

pub(crate) mod gateway;
mod parts;
mod scheduler;
mod schedules;
mod screen;
mod supervise;
mod upkeep;
pub(crate) mod watch;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use stakpak_agent_core::Profiles;
use stakpak_config::ConfigFile;
use stakpak_server::edge::EdgePolicy;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agent_server::{Beside, Bound, Options, client},
    args::{Backend, DetachArgs, Global, ServeArgs, UpArgs},
    autopilot_file::AutopilotFile,
    exit::Failure,
    home::Home,
    instance::{Facts, Lock, Owner, Seat},
    logging::Logging,
    mcp,
    place::Place,
    profiles::ConfigProfiles,
    secrets, service,
};

/// What the drain may take beyond the time given to runs.
const DRAIN_SLACK: Duration = Duration::from_secs(5);

/// Whether all of it is started, or the server with what was asked for.
enum Mode {
    Up,
    Serve { gateway_config: Option<PathBuf> },
}

impl Mode {
    fn name(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Serve { .. } => "serve",
        }
    }

    /// The file with the gateway's tables.
    fn place(&self, home: &Home) -> Result<Place> {
        match self {
            Self::Up => Ok(Place::of_up(home)),
            Self::Serve { gateway_config: None } => Ok(Place::standalone(home, None)),
            Self::Serve { gateway_config: Some(path) } if path.exists() => {
                Ok(Place::standalone(home, Some(&std::path::absolute(path)?)))
            }
            Self::Serve { gateway_config: Some(path) } => {
                let text = format!("--gateway-config {}: there is no such file", path.display());
                bail!(Failure::Usage(text))
            }
        }
    }
}

pub(crate) async fn run(global: &Global, args: UpArgs, started: std::time::Instant) -> Result<()> {
    if args.detach.detach {
        return service::detach(global, &args).await;
    }
    if args.detach.supervise {
        let home = Home::open(global.home.clone(), global.config.clone())?;
        return service::supervise(&home).await;
    }
    start(global, args, Mode::Up, started).await
}

/// `stakpak serve`: the server, and the gateway if it is asked for, without the scheduler.
pub(crate) async fn serve(global: &Global, args: ServeArgs, started: std::time::Instant) -> Result<()> {
    let ServeArgs { bind, model, no_auth, auto_approve_all, gateway, gateway_config, drain_timeout } = args;
    let up = UpArgs {
        bind,
        model,
        no_auth,
        auto_approve_all,
        no_gateway: !gateway,
        no_scheduler: true,
        drain_timeout,
        detach: DetachArgs::default(),
        foreground: false,
        non_interactive: false,
        log_format: None,
    };
    start(global, up, Mode::Serve { gateway_config }, started).await
}

async fn start(global: &Global, args: UpArgs, mode: Mode, started: std::time::Instant) -> Result<()> {
    let home = Home::open(global.home.clone(), global.config.clone())?;
    let config = home.config_file()?;
    let file = AutopilotFile::load(&home)?;
    let place = mode.place(&home)?;
    let bind = args.bind.unwrap_or(file.server.listen);
    let token = token(&home, &file, &args, bind)?;
    let lock = match Lock::acquire_patiently(&home, Seat::Server).await? {
        Owner::Us(lock) => lock,
        Owner::Other(facts) => return already_running(facts, &mode, global.json),
    };
    let profiles = Arc::new(profiles(global, &args, &file, config.clone())?);
    let options = options(&home, global, &file, bind, token.clone(), Arc::clone(&profiles), &mode)?;
    let redactor = options.redactor.clone();
    let reload = watch::Reload::new(&home, &file, Arc::clone(&profiles), args.model.clone(), redactor.clone());
    let bound = Bound::new(options).await?;
    let logging = Logging::start(&home.logs(), args.log_format.unwrap_or(file.server.log_format))?;
    let created = AutopilotFile::create(&home)?;
    let findings: Vec<_> =
        config.findings().iter().chain(&file.warnings).chain(file.schedules.errors()).cloned().collect();
    let drain = args.drain_timeout.unwrap_or(file.server.drain_timeout);

    let mut signals = StopSignals::new()?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let url = bound.url();
    let client = client(&url, token.as_deref());
    let scheduler = scheduler::open(&home, file.schedules, client, redactor, args.no_scheduler).await?;
    let gateway = gateway::Mount::new(place, &url, token.as_deref(), args.no_gateway);
    let beside = Beside {
        protected: scheduler.router(),
        mounted: gateway.router(),
        parts: vec![scheduler.part(), Arc::new(gateway.clone())],
    };
    let server = bound.start(&home, beside).await?;
    facts(&server.url(), mode.name(), &global.profile, args.detach.from_service).write(&home)?;
    gateway.start(&tasks, stop.clone());
    scheduler.start(&tasks, stop.clone());
    upkeep::start(&server, file.server.limits.retention(), &tasks, stop.clone());
    watch::start(reload, scheduler.handle(), gateway.clone(), &tasks, stop.clone());

    let screen = screen::Screen {
        home: &home,
        url: server.url(),
        token: token_place(&home, token.is_some(), file.server.token.is_some()),
        profile: profiles.profile(None)?,
        scheduler: scheduler.handle(),
        gateway: gateway.clone(),
        json: global.json,
    };
    screen.ready(started.elapsed(), created, &findings).await;
    service::notify::ready(&tasks, stop.clone());
    let gave_up = tokio::select! {
        () = screen.live(&server.server, signals.next()) => None,
        why = scheduler.gave_up() => Some(why),
        why = gateway.gave_up() => Some(why),
    };
    service::notify::stopping();
    screen.note(&format!("stopping: active runs get {} s, then go on at the next start", drain.as_secs()));
    let drained = async {
        stop.cancel();
        tasks.close();
        tokio::join!(tasks.wait(), server.stop(drain));
    };
    tokio::select! {
        () = drained => {}
        () = tokio::time::sleep(drain + DRAIN_SLACK) => tracing::warn!("the drain took too long"),
        () = signals.next() => bail!(Failure::Interrupted),
    }
    Facts::remove(&home);
    drop(lock);
    logging.end().await;
    screen.note("stopped; nothing that was accepted is lost");
    gave_up.map_or(Ok(()), |why| bail!(why))
}

fn options(
    home: &Home,
    global: &Global,
    file: &AutopilotFile,
    bind: SocketAddr,
    token: Option<String>,
    profiles: Arc<ConfigProfiles>,
    mode: &Mode,
) -> Result<Options> {
    let named_tokens = token.as_deref().map(|token| file.named_tokens(token)).transpose()?.unwrap_or_default();
    let workdir = workdir(global)?;
    let mcp = mcp::Configured::find(home, &workdir);
    mcp.left_out().iter().for_each(|reason| tracing::warn!("{reason}"));
    let credential_variables = mcp.withheld(home);
    Ok(Options {
        bind,
        redactor: secrets::redactor(home, token.iter().chain(named_tokens.values()).chain(mcp.secrets()))?,
        mcp,
        sandbox_levels: {
            let profiles = Arc::clone(&profiles);
            Arc::new(move || profiles.sandbox_levels())
        },
        offers_mcp: file.server.mcp,
        token,
        named_tokens,
        profiles,
        workdir,
        edge: edge_policy(file),
        limits: file.server.limits.clone(),
        approval_ceiling: file.server.approval_ceiling.clone(),
        resume_max_age: Some(file.server.resume_max_age),
        profile: global.profile.clone(),
        name: format!("`stakpak {}` (process {})", mode.name(), std::process::id()),
        mode: mode.name(),
        tasks_on_shutdown: file.server.tasks_on_shutdown,
        sandbox_mode: file.server.sandbox_mode,
        credential_variables,
    })
}

fn edge_policy(file: &AutopilotFile) -> EdgePolicy {
    let AutopilotFile { server, .. } = file;
    EdgePolicy { allowed_hosts: server.allowed_hosts.clone(), allowed_origins: server.allowed_origins.clone() }
}

/// The bearer token, or none with `--no-auth`, which holds on loopback and for this start only.
fn token(home: &Home, file: &AutopilotFile, args: &UpArgs, bind: SocketAddr) -> Result<Option<String>> {
    if args.no_auth && !bind.ip().is_loopback() {
        let message = format!("--no-auth is refused on {bind}: without a token only a loopback address may be used");
        bail!(Failure::Usage(message));
    }
    if args.no_auth {
        return Ok(None);
    }
    file.token(home).map(Some)
}

/// Where a person finds the token.
fn token_place(home: &Home, is_needed: bool, is_configured: bool) -> String {
    match (is_needed, is_configured) {
        (false, _) => "none: every route is open (--no-auth)".to_owned(),
        (true, true) => format!("[server].token of {}", Home::show(&home.autopilot_toml())),
        (true, false) => Home::show(&home.token_file()),
    }
}

fn profiles(global: &Global, args: &UpArgs, file: &AutopilotFile, config: ConfigFile) -> Result<ConfigProfiles> {
    let model = args.model.clone().or_else(|| file.server.model.clone());
    let approve_all = args.auto_approve_all || file.server.auto_approve_all;
    ConfigProfiles::in_days_of(&file.schedules.budget, config, &global.profile, model, approve_all)
}

fn workdir(global: &Global) -> Result<PathBuf> {
    let workdir = match &global.workdir {
        Some(workdir) => workdir.clone(),
        None => std::env::home_dir().map_or_else(std::env::current_dir, Ok)?,
    };
    if !workdir.is_dir() {
        bail!(Failure::Usage(format!("--workdir {}: there is no such directory", workdir.display())));
    }
    Ok(std::path::absolute(workdir)?)
}

fn facts(url: &str, mode: &str, profile: &str, service: Option<Backend>) -> Facts {
    Facts {
        pid: std::process::id(),
        started_at: chrono::Utc::now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: url.to_owned(),
        mode: mode.to_owned(),
        profile: profile.to_owned(),
        service,
        config: None,
        restart_required: Vec::new(),
    }
}

/// `up` beside `up` is done already; any other pair is not what was asked for.
fn already_running(facts: Option<Facts>, mode: &Mode, json: bool) -> Result<()> {
    let Some(facts) = facts else { bail!("another stakpak process is starting or stopping; try again in a moment") };
    if !(matches!(mode, Mode::Up) && facts.mode == mode.name()) {
        let Facts { mode, pid, url, .. } = facts;
        bail!("`stakpak {mode}` runs already: process {pid}, {url}; end it with `stakpak down`");
    }
    if json {
        say!("{}", serde_json::json!({ "event": "already_running", "pid": facts.pid, "url": facts.url }));
    } else {
        say!("stakpak is running already: process {}, {}", facts.pid, facts.url);
        say!("  stakpak status      what it does\n  stakpak run \"…\"     give it something to do");
    }
    Ok(())
}

/// Ctrl-C and SIGTERM, and the end of the terminal if there is one, watched from the moment this is made. Without a terminal
/// SIGHUP means to read the files again, which happens by itself.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    has_terminal: bool,
}

impl StopSignals {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            // Opens only for who has a controlling terminal.
            has_terminal: std::fs::File::open("/dev/tty").is_ok(),
        })
    }

    pub(crate) async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => if self.has_terminal { return },
            }
        }
    }
}
