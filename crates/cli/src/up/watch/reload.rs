//! What the files said last, and what becomes of a change in them.
//!
//! Invariants: a file that cannot be used changes nothing; what it holds that is secret is known to be so before it is used;
//! what waits for the next start is told where people and `status` look.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use anyhow::Result;
use stakpak_config::Severity;
use stakpak_redact::Redactor;
use stakpak_scheduler::{ScheduleSet, SharedBudget};

use crate::{
    autopilot_file::{AutopilotFile, ServerTable},
    home::Home,
    instance::Facts,
    profiles::ConfigProfiles,
    secrets,
};

/// The files as they are in use.
pub(in crate::up) struct Reload {
    home: Home,
    profiles: Arc<ConfigProfiles>,
    /// Of the command line: it goes before that of the file.
    model: Option<String>,
    redactor: Redactor,
    /// `[server]` as it was at the start.
    at_start: ServerTable,
    /// And as it is.
    model_of_file: Option<String>,
    /// `[defaults].timezone` among it.
    days: SharedBudget,
    /// Variables that no command sees.
    withheld: BTreeSet<String>,
    config: Seen,
    autopilot: Seen,
    restart_required: Vec<String>,
}

/// The bytes of files when they were looked at last.
struct Seen {
    paths: Vec<PathBuf>,
    bytes: Vec<Option<Vec<u8>>>,
}

impl Seen {
    /// What is there now counts as seen.
    fn now(paths: Vec<PathBuf>) -> Self {
        let bytes = paths.iter().map(|path| std::fs::read(path).ok()).collect();
        Self { paths, bytes }
    }

    async fn has_changed(&mut self) -> bool {
        let mut bytes = Vec::new();
        for path in &self.paths {
            bytes.push(tokio::fs::read(path).await.ok());
        }
        let has_changed = bytes != self.bytes;
        self.bytes = bytes;
        has_changed
    }
}

impl Reload {
    pub(in crate::up) fn new(
        home: &Home,
        file: &AutopilotFile,
        profiles: Arc<ConfigProfiles>,
        model: Option<String>,
        redactor: Redactor,
    ) -> Self {
        Self {
            home: home.clone(),
            profiles,
            model,
            redactor,
            at_start: file.server.clone(),
            model_of_file: file.server.model.clone(),
            days: file.schedules.budget.clone(),
            withheld: home.credential_variables().into_iter().collect(),
            config: Seen::now(vec![home.config_toml().to_owned(), home.auth_toml()]),
            autopilot: Seen::now(vec![home.autopilot_toml()]),
            restart_required: Vec::new(),
        }
    }

    /// Takes up profiles, providers and prices, for runs that begin.
    pub(super) async fn profiles(&mut self) -> Result<()> {
        if !self.config.has_changed().await {
            return Ok(());
        }
        self.take_up()?;
        tracing::info!("config.toml is reloaded");
        Ok(())
    }

    fn take_up(&mut self) -> Result<()> {
        let file = self.home.config_file()?;
        self.redactor.learn(secrets::of_files(&self.home))?;
        let errors: Vec<_> = file.findings().iter().filter(|it| it.severity == Severity::Error).cloned().collect();
        let model = self.model.clone().or_else(|| self.model_of_file.clone());
        self.profiles.reload(file, model, &self.days)?;
        // A profile that cannot be used is an error where it is asked for.
        errors.iter().for_each(|error| tracing::warn!("{error}"));
        let now: BTreeSet<String> = self.home.credential_variables().into_iter().collect();
        for name in now.difference(&self.withheld).filter(|name| std::env::var_os(name).is_some()) {
            tracing::warn!("commands see the variable {name} until stakpak is started again");
        }
        Ok(())
    }

    /// The schedules, if the file has changed.
    pub(super) async fn autopilot(&mut self) -> Result<Option<ScheduleSet>> {
        if !self.autopilot.has_changed().await {
            return Ok(None);
        }
        let file = AutopilotFile::load(&self.home)?;
        self.redactor.learn(secrets::of_files(&self.home))?;
        let days = std::mem::replace(&mut self.days, file.schedules.budget.clone());
        if self.model_of_file != file.server.model || self.days.zone != days.zone {
            let before = std::mem::replace(&mut self.model_of_file, file.server.model.clone());
            if let Err(error) = self.take_up() {
                (self.model_of_file, self.days) = (before, days);
                return Err(error.context("server.model"));
            }
        }
        self.tell_restart(&file.server);
        Ok(Some(file.schedules))
    }

    /// Told once a change, and for as long as it holds in the facts of this process.
    fn tell_restart(&mut self, server: &ServerTable) {
        let mut keys: Vec<String> = self.at_start.restart_required(server).into_iter().map(str::to_owned).collect();
        keys.extend(self.home.moved_places().map(str::to_owned));
        if keys == self.restart_required {
            return;
        }
        if !keys.is_empty() {
            tracing::warn!("restart stakpak for what has changed to take effect: {}", keys.join(", "));
        }
        self.restart_required = keys;
        let Ok(Some(facts)) = Facts::of_running(&self.home) else { return };
        let facts = Facts { restart_required: self.restart_required.clone(), ..facts };
        if let Err(error) = facts.write(&self.home) {
            tracing::warn!("what needs a restart cannot be told to `status`: {error:#}");
        }
    }
}
