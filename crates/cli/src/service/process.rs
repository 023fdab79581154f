//! A detached process that keeps `up` running, where there is no service manager.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use stakpak_config::write_private;

use super::Service;
use crate::{
    home::Home,
    instance::{Lock, Owner, Seat},
};

/// What the supervisor tells; that it lives is told by its lock.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) pid: i32,
    /// How often `up` was started.
    pub(super) starts: u64,
    /// How it ended last.
    pub(super) last_exit: Option<String>,
    /// It failed too often and is not started again.
    pub(super) gave_up: bool,
}

impl Report {
    fn path(home: &Home) -> PathBuf {
        home.autopilot("supervisor.json")
    }

    pub(super) fn read(home: &Home) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(home)).ok()?).ok()
    }

    pub(super) fn write(&self, home: &Home) -> Result<()> {
        Ok(write_private(&Self::path(home), &serde_json::to_vec_pretty(self)?)?)
    }
}

/// Where the supervised process writes what is in no other log.
pub(super) fn log(home: &Home) -> Result<File> {
    let path = home.logs().join("service.log");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

pub(super) fn start(service: &Service, home: &Home) -> Result<()> {
    forget(home);
    let log = log(home)?;
    let mut command = Command::new(&service.binary);
    command.args(&service.args).arg("--supervise").current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("cannot start {}", service.binary.display()))?;
    Ok(())
}

/// The supervisor passes it on and ends with its process.
pub(super) fn stop(home: &Home) -> Result<()> {
    match (lives(home)?, Report::read(home)) {
        (true, Some(report)) => {
            kill(Pid::from_raw(report.pid), Signal::SIGTERM).context("the supervisor cannot be stopped")
        }
        _ => Ok(()),
    }
}

pub(super) fn lives(home: &Home) -> Result<bool> {
    Ok(matches!(Lock::acquire(home, Seat::Supervisor)?, Owner::Other(_)))
}

pub(super) fn forget(home: &Home) {
    let _ = std::fs::remove_file(Report::path(home));
}
