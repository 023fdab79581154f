//! The background service: what runs `stakpak up` without a terminal.
//!
//! A record in the state directory says what is installed. Whether an instance lives is told by its lock alone.

mod detach;
mod down;
mod environment;
mod launchd;
pub(crate) mod notify;
mod process;
mod restart;
mod supervisor;
mod systemd;
mod wait;

use std::{path::PathBuf, process::Output, time::Duration};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use stakpak_config::write_private;
use tokio::process::Command;

use crate::{
    args::{Backend, ServiceChoice},
    exit::Failure,
    home::Home,
};

pub(crate) use detach::detach;
pub(crate) use down::down;
pub(crate) use restart::restart;
pub(crate) use supervisor::supervise;

/// How long a service may take to stop beyond its drain.
const STOP_SLACK: Duration = Duration::from_secs(20);

/// What is installed, as it was told to the service manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) backend: Backend,
    binary: PathBuf,
    /// All arguments.
    args: Vec<String>,
    /// `PATH` of who installed it.
    path: String,
    drain_secs: u64,
}

impl Service {
    fn record(home: &Home) -> PathBuf {
        home.autopilot("service.json")
    }

    /// None when none is installed.
    pub(crate) fn installed(home: &Home) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::record(home)).ok()?).ok()
    }

    /// The same service as it would be installed now.
    fn renewed(&self) -> Result<Self> {
        let binary = std::env::current_exe().context("the path of this program is not known")?;
        let path = std::env::var("PATH").unwrap_or_default();
        Ok(Self { binary, path, ..self.clone() })
    }

    /// The file of the service manager; none where there is none.
    pub(crate) fn definition(&self) -> Result<Option<PathBuf>> {
        match self.backend {
            Backend::Systemd => systemd::unit_path().map(Some),
            Backend::Launchd => launchd::plist_path().map(Some),
            Backend::Process => Ok(None),
        }
    }

    /// Writes the definition where it differs from what is there.
    async fn install(&self, home: &Home) -> Result<()> {
        match self.backend {
            Backend::Systemd => systemd::install(self, home).await?,
            Backend::Launchd => launchd::install(self, home)?,
            Backend::Process => {}
        }
        Ok(write_private(&Self::record(home), &serde_json::to_vec_pretty(self)?)?)
    }

    async fn start(&self, home: &Home) -> Result<()> {
        match self.backend {
            Backend::Systemd => systemd::start().await,
            Backend::Launchd => launchd::start().await,
            Backend::Process => process::start(self, home),
        }
    }

    /// Asks it to stop; who waits for that looks at the lock.
    async fn stop(&self, home: &Home) -> Result<()> {
        match self.backend {
            Backend::Systemd => systemd::stop().await,
            Backend::Launchd => launchd::stop().await,
            Backend::Process => process::stop(home),
        }
    }

    async fn uninstall(&self, home: &Home) -> Result<()> {
        match self.backend {
            Backend::Systemd => systemd::uninstall().await?,
            Backend::Launchd => launchd::uninstall()?,
            Backend::Process => process::forget(home),
        }
        std::fs::remove_file(Self::record(home)).context("the record of the service is not removed")
    }
}

/// What people are told of an installed service; none when none is.
pub(crate) fn line(home: &Home) -> Option<String> {
    let service = Service::installed(home)?;
    let report = process::Report::read(home).filter(|_| service.backend == Backend::Process).unwrap_or_default();
    let exit = report.last_exit.unwrap_or_default();
    Some(match (report.gave_up, report.starts) {
        (true, _) => format!(
            "process, given up: it failed too often, last with {exit}; see `stakpak logs`, then `stakpak up -d`"
        ),
        (false, 0 | 1) => service.backend.name().to_owned(),
        (false, starts) => format!("process, started {starts} times, ended last with {exit}"),
    })
}

/// How the installed service stands to this program.
pub(crate) struct ServiceState {
    /// Program and PATH are those that would be installed now.
    pub(crate) is_current: bool,
    /// A user's systemd runs it.
    pub(crate) has_user_manager: bool,
    /// What keeps it running when its user logs out.
    pub(crate) linger_hint: Option<String>,
}

/// What is to be said of the variables that the service would have.
///
/// # Errors
/// Some are missing.
pub(crate) fn environment_of(home: &Home) -> Result<Vec<String>> {
    environment::prepare(home, false)
}

/// None when none is installed.
pub(crate) async fn state(home: &Home) -> Option<ServiceState> {
    let service = Service::installed(home)?;
    let has_user_manager = service.backend == Backend::Systemd;
    let linger_hint = if has_user_manager { systemd::linger_hint().await } else { None };
    let is_current = service.renewed().is_ok_and(|renewed| renewed == service);
    Some(ServiceState { is_current, has_user_manager, linger_hint })
}

async fn choose(choice: ServiceChoice) -> Result<Backend> {
    let wanted = match choice {
        ServiceChoice::Auto if systemd::answers().await => return Ok(Backend::Systemd),
        ServiceChoice::Auto if cfg!(target_os = "macos") => return Ok(Backend::Launchd),
        ServiceChoice::Auto | ServiceChoice::Process => return Ok(Backend::Process),
        ServiceChoice::Systemd if systemd::answers().await => return Ok(Backend::Systemd),
        ServiceChoice::Launchd if cfg!(target_os = "macos") => return Ok(Backend::Launchd),
        ServiceChoice::Systemd => "the user's systemd does not answer (`systemctl --user`)",
        ServiceChoice::Launchd => "there is no launchd on this system",
    };
    bail!(Failure::Usage(format!("{wanted}; `--service process` works everywhere")))
}

/// Runs a program of the service manager; its own words if it fails.
async fn tool(program: &str, args: &[&str]) -> Result<()> {
    let output = output(program, args).await.with_context(|| format!("{program} cannot be run"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    bail!("`{program} {}` failed: {}", args.join(" "), words.trim())
}

async fn output(program: &str, args: &[&str]) -> std::io::Result<Output> {
    Command::new(program).args(args).kill_on_drop(true).output().await
}
