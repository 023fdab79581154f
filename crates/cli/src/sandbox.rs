//! Sandboxes of profiles and of tool servers: from the file to the agent's terms, and how they go in `/v1/ready`.

use std::{
    any::Any,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use stakpak_agent_core::{Sandbox, SandboxLevel, SandboxUnavailable};
use stakpak_config::{ConfigFile, SandboxConfig, SandboxLevel as Level};
use stakpak_mcp::Confine;
use stakpak_protocol::CheckState;
use stakpak_server::{Check, Part};
use stakpak_tools::LocalTools;

/// What a profile asks for; nothing where it says nothing.
pub(crate) fn of_profile(config: Option<&SandboxConfig>) -> Sandbox {
    let Some(config) = config else {
        return Sandbox::default();
    };
    let SandboxConfig { level, read, write, network, unix_sockets, secrets, image, memory, cpus } = config;
    Sandbox {
        level: of_level(*level),
        read: read.clone(),
        write: write.clone(),
        network: *network,
        unix_sockets: *unix_sockets,
        secrets: secrets.clone(),
        image: image.clone(),
        memory: memory.clone(),
        cpus: *cpus,
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

/// Confines tool servers as the commands of runs are.
pub(crate) struct AsCommands(pub(crate) LocalTools);

impl Confine for AsCommands {
    fn confine(
        &self,
        command: &mut tokio::process::Command,
        sandbox: &SandboxConfig,
        workspace: &Path,
    ) -> Result<Box<dyn Any + Send + Sync>, SandboxUnavailable> {
        let confined = self.0.confine(command, &of_profile(Some(sandbox)), workspace)?;
        Ok(Box::new(confined))
    }
}

/// The sandboxes that profiles ask for in the file, each with the profile's name. `readonly` takes what there is.
pub(crate) fn asked_for(file: &ConfigFile) -> Vec<(String, Sandbox)> {
    let asked = |name: &str| Some((name.to_owned(), of_profile(Some(&file.profile(name).ok()?.sandbox?))));
    let is_needed = |level| matches!(level, SandboxLevel::Landlock | SandboxLevel::Container);
    file.names().filter_map(asked).filter(|(_, sandbox)| is_needed(sandbox.level)).collect()
}

/// Who asks for what, as the files are at the time.
pub(crate) type Levels = Arc<dyn Fn() -> Vec<(String, Sandbox)> + Send + Sync>;

/// Whether every level that a profile asks for is there.
pub(crate) struct SandboxPart {
    tools: LocalTools,
    levels: Levels,
    /// What is missing, as it was told last.
    told: Mutex<Vec<String>>,
}

impl SandboxPart {
    pub(crate) fn new(tools: LocalTools, levels: Levels) -> Self {
        let part = Self { tools, levels, told: Mutex::default() };
        part.missing(&(part.levels)());
        part
    }

    /// Whether anything is missing; what is new of it is told in the log.
    fn missing(&self, levels: &[(String, Sandbox)]) -> bool {
        let missing = levels.iter().filter_map(|(profile, sandbox)| {
            let error = self.tools.sandbox_support(sandbox).err()?;
            Some(format!("profile {profile}: {error}"))
        });
        let missing: Vec<String> = missing.collect();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for line in missing.iter().filter(|line| !told.contains(line)) {
            tracing::error!("the sandbox of a profile cannot be had, its runs are refused: {line}");
        }
        *told = missing;
        !told.is_empty()
    }
}

impl Part for SandboxPart {
    fn check(&self) -> Option<(Check, CheckState)> {
        let levels = (self.levels)();
        let state = match (levels.is_empty(), self.missing(&levels)) {
            (true, _) => CheckState::Off,
            (false, false) => CheckState::Ok,
            (false, true) => CheckState::Failed,
        };
        Some((Check::Sandbox, state))
    }
}
