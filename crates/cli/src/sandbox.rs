//! Sandboxes of profiles: from the file to the agent's terms, and how they go in `/v1/ready`.

use stakpak_agent_core::{Sandbox, SandboxLevel};
use stakpak_config::{ConfigFile, SandboxConfig, SandboxLevel as Level};
use stakpak_protocol::CheckState;
use stakpak_server::{Check, Part};
use stakpak_tools::LocalTools;

/// What a profile asks for; nothing where it says nothing.
pub(crate) fn of_profile(config: Option<&SandboxConfig>) -> Sandbox {
    let Some(SandboxConfig { level, read, write, network, unix_sockets, secrets }) = config else {
        return Sandbox::default();
    };
    Sandbox {
        level: of_level(*level),
        read: read.clone(),
        write: write.clone(),
        network: *network,
        unix_sockets: *unix_sockets,
        secrets: secrets.clone(),
    }
}

/// A level this version does not know is none that a run could get by mistake.
fn of_level(level: Level) -> SandboxLevel {
    match level {
        Level::Off => SandboxLevel::Off,
        Level::Landlock => SandboxLevel::Landlock,
        Level::Container => SandboxLevel::Container,
        _ => SandboxLevel::Strongest,
    }
}

/// The levels that profiles ask for in the file, each with the profile's name. `readonly` takes what there is.
pub(crate) fn levels(file: &ConfigFile) -> Vec<(String, SandboxLevel)> {
    let asked = |name: &str| Some((name.to_owned(), of_level(file.profile(name).ok()?.sandbox?.level)));
    let is_needed = |level| matches!(level, SandboxLevel::Landlock | SandboxLevel::Container);
    file.names().filter_map(asked).filter(|(_, level)| is_needed(*level)).collect()
}

/// Whether every level that a profile asks for is there.
pub(crate) struct SandboxPart {
    tools: LocalTools,
    levels: Vec<(String, SandboxLevel)>,
}

impl SandboxPart {
    /// What is missing is told once, in the log.
    pub(crate) fn new(tools: LocalTools, levels: Vec<(String, SandboxLevel)>) -> Self {
        for (profile, level) in &levels {
            if let Err(error) = tools.sandbox_support(*level) {
                tracing::error!(profile, ?level, %error, "the sandbox of a profile cannot be had: its runs are refused");
            }
        }
        Self { tools, levels }
    }
}

impl Part for SandboxPart {
    fn check(&self) -> Option<(Check, CheckState)> {
        let state = match self.levels.as_slice() {
            [] => CheckState::Off,
            levels if levels.iter().all(|(_, level)| self.tools.sandbox_support(*level).is_ok()) => CheckState::Ok,
            _ => CheckState::Failed,
        };
        Some((Check::Sandbox, state))
    }
}
