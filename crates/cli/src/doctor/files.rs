//! The files of people: whether they can be read, and what in them cannot be used.

use stakpak_config::ConfigFile;
use stakpak_gateway::GatewayConfig;

use super::Probe;
use crate::{autopilot_file::AutopilotFile, home::Home, place::Place};

const VALIDATE: &str = "`stakpak config validate` shows everything at its line";

/// The files as far as they can be read.
pub(super) struct Files {
    pub(super) config: anyhow::Result<ConfigFile>,
    pub(super) autopilot: anyhow::Result<AutopilotFile>,
    pub(super) gateway: anyhow::Result<GatewayConfig>,
}

impl Files {
    pub(super) fn load(home: &Home) -> Self {
        Self {
            config: home.config_file().map_err(Into::into),
            autopilot: AutopilotFile::load(home),
            gateway: Place::of_up(home).load(),
        }
    }

    pub(super) fn probes(&self) -> [Probe; 3] {
        [self.parse(), self.schedules(), self.channels()]
    }

    fn parse(&self) -> Probe {
        let id = "config_parse";
        let errors = [self.config.as_ref().err(), self.autopilot.as_ref().err(), self.gateway.as_ref().err()];
        let mut details: Vec<String> = errors.into_iter().flatten().map(|error| format!("{error:#}")).collect();
        details.dedup();
        if !details.is_empty() {
            return Probe::blocking(id, "a file cannot be read", details, VALIDATE);
        }
        let odd = self.config.iter().map(|file| file.findings().len()).sum::<usize>()
            + self.autopilot.iter().map(|file| file.warnings.len()).sum::<usize>();
        match odd {
            0 => Probe::pass(id, "config.toml and autopilot.toml are read"),
            odd => Probe::info(id, format!("config.toml and autopilot.toml are read, with {odd} remarks"), VALIDATE),
        }
    }

    fn schedules(&self) -> Probe {
        let id = "schedules_valid";
        let Ok(file) = &self.autopilot else { return Probe::skip(id, "autopilot.toml is not read") };
        let details: Vec<_> = file.schedules.errors().map(ToString::to_string).collect();
        Probe::of_details(id, "every schedule can fire", "schedules that do not fire", details, VALIDATE)
    }

    fn channels(&self) -> Probe {
        let id = "channels_valid";
        let Ok(gateway) = &self.gateway else { return Probe::skip(id, "autopilot.toml is not read") };
        let disabled = gateway.channels.disabled.iter();
        let details: Vec<_> = disabled.map(|(name, finding)| format!("{name}: {finding}")).collect();
        match gateway.channels.settings().next() {
            None if details.is_empty() => Probe::skip(id, "no channel is configured"),
            _ => Probe::of_details(id, "every channel can start", "channels that do not start", details, VALIDATE),
        }
    }
}
