//! What a shim is told, and what it answers. Both go through its standard input, which is a socket: no file and no argument
//! list holds them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stakpak_agent_core::Sandbox;
use stakpak_protocol::SessionId;
use stakpak_redact::PortableVaults;

use super::{Confines, record::Record};
use crate::command::Line;

/// Everything a shim needs: its task must not depend on the server from here on.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) session: SessionId,
    pub(super) record: Record,
    /// The task's.
    pub(super) directory: PathBuf,
    pub(super) line: Line,
    /// Variables that no child sees, beside those that never do.
    pub(super) withheld: Vec<String>,
    /// As it was settled for the run.
    pub(super) sandbox: Sandbox,
    /// The working directory of the run.
    pub(super) workspace: PathBuf,
    pub(super) confines: Confines,
    pub(super) vaults: PortableVaults,
}

/// Whether the task runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Started,
    Refused { code: String, message: String },
}
