//! Arguments of the background service and of its logs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// Who keeps `stakpak up` running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// A unit of the user's systemd
    Systemd,
    /// An agent of launchd
    Launchd,
    /// A process of stakpak itself, where there is no service manager
    Process,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Launchd => "launchd",
            Self::Process => "process",
        }
    }
}

/// `auto`, or one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServiceChoice {
    /// systemd where it answers, launchd on macOS, else a process
    #[default]
    Auto,
    /// A unit of the user's systemd
    Systemd,
    /// An agent of launchd
    Launchd,
    /// A process of stakpak itself
    Process,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DetachArgs {
    /// Run in the background as a service, and return when it is ready
    #[arg(short, long, alias = "background")]
    pub(crate) detach: bool,
    /// Who keeps the background service running
    #[arg(long, value_name = "BACKEND", default_value = "auto", requires = "detach")]
    pub(crate) service: ServiceChoice,
    /// Copy the variables that the configuration needs into the environment of the service
    #[arg(long, requires = "detach")]
    pub(crate) import_env: bool,
    /// Set in what a service manager starts
    #[arg(long, hide = true, value_name = "BACKEND", conflicts_with = "detach")]
    pub(crate) from_service: Option<Backend>,
    /// Starts `up` again when it fails; what `up -d` starts where there is no service manager
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub(crate) supervise: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// How long it may take before the process is killed
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = stakpak_config::duration::parse)]
    pub(crate) timeout: Duration,
    /// Do not wait for active runs; they go on at the next start
    #[arg(long)]
    pub(crate) now: bool,
    /// Accepted for older scripts; the service definition is always removed
    #[arg(long, hide = true)]
    pub(crate) uninstall: bool,
}

/// Whose log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Component {
    /// HTTP, sessions, runs
    Server,
    /// Chats
    Gateway,
    /// Schedules
    Scheduler,
}

impl Component {
    pub(crate) const ALL: [Self; 3] = [Self::Server, Self::Gateway, Self::Scheduler];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Gateway => "gateway",
            Self::Scheduler => "scheduler",
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stakpak logs -f\n  stakpak logs -c gateway --since 2h --level warn\n  stakpak logs --session 3f1c…"
)]
pub(crate) struct LogsArgs {
    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Newest lines to show
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    pub(crate) lines: usize,
    /// Only this part
    #[arg(short, long)]
    pub(crate) component: Option<Component>,
    /// Since an instant (RFC 3339), or for so long, such as 2h
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) since: Option<DateTime<Utc>>,
    /// Only lines of this run
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    /// Only lines of this session
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Only lines of this level and above
    #[arg(long)]
    pub(crate) level: Option<Level>,
}

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Details of the work
    Trace,
    /// Details for developers
    Debug,
    /// What happens
    Info,
    /// What should be looked at
    Warn,
    /// What went wrong
    Error,
}

pub(super) fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(instant.to_utc());
    }
    let ago = stakpak_config::duration::parse(text)
        .map_err(|_| "expected an instant such as 2026-01-31T08:00:00Z, or a duration such as 2h".to_owned())?;
    Ok(Utc::now() - ago)
}
