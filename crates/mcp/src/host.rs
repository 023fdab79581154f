//! What servers get of the process that they belong to.

use std::{
    any::Any,
    path::{Path, PathBuf},
    sync::Arc,
};

use stakpak_agent_core::{SandboxUnavailable, Secrets};
use stakpak_config::SandboxConfig;
use stakpak_redact::Redactor;
use tokio::process::Command;

/// Where things are kept, all of them in the state directory.
#[derive(Debug, Clone)]
pub struct Places {
    /// Lists and approvals.
    pub state: PathBuf,
    /// What servers write to stderr.
    pub logs: PathBuf,
    /// A directory a session: results that are too long.
    pub artefacts: PathBuf,
}

/// What servers get of the process that they belong to.
#[derive(Clone)]
pub struct Host {
    /// Where things are kept.
    pub places: Places,
    /// The directory of a confined server that names none.
    pub workdir: PathBuf,
    /// Hides what the process knows to be secret.
    pub redactor: Redactor,
    /// Hides what a session has met, and gives it back where it is granted.
    pub secrets: Arc<dyn Secrets>,
    /// Confines the processes of servers that ask for it.
    pub confine: Arc<dyn Confine>,
}

/// Confines processes.
pub trait Confine: Send + Sync {
    /// Has `command` enter the sandbox before its program starts. What comes back is kept until the process has ended. Blocks.
    ///
    /// # Errors
    /// The sandbox cannot be set up whole: nothing may be started.
    fn confine(
        &self,
        command: &mut Command,
        sandbox: &SandboxConfig,
        workspace: &Path,
    ) -> Result<Box<dyn Any + Send + Sync>, SandboxUnavailable>;
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("places", &self.places).field("workdir", &self.workdir).finish_non_exhaustive()
    }
}
