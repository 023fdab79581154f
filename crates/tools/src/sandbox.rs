//! Confinement of calls: what this machine can do, and a call's way into it.
//!
//! Fail closed: a level that cannot be set up whole is [`SandboxUnavailable`], never the host and never less of it.
//! Everything is built before the fork; between fork and exec there are system calls only. What a call may reach is
//! settled per call from the sandbox that is stored with its run.

#[cfg(target_os = "linux")]
mod confinement;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod seccomp;
#[cfg(target_os = "linux")]
mod system_calls;
#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(not(target_os = "linux"))]
use unsupported as confinement;

mod private_home;
mod roots;

use std::{
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use stakpak_agent_core::{Sandbox, SandboxLevel, SandboxUnavailable};
use stakpak_protocol::SessionId;
use tokio::process::Command;

pub(crate) use self::{
    confinement::Confinement,
    private_home::{Owner, PrivateHome, remove_leftovers},
};
use self::{
    confinement::Support,
    roots::{Guarded, Roots},
};

/// What the sandboxes of all runs have in common.
#[derive(Debug)]
pub(crate) struct Sandboxes {
    guarded: Guarded,
    /// Found out once, when first asked for.
    landlock: OnceLock<Result<Support, SandboxUnavailable>>,
}

/// A confined call, ready to start.
#[derive(Debug)]
pub(crate) struct Confined {
    pub(crate) confinement: Confinement,
    pub(crate) home: PrivateHome,
}

/// What a confined process of its own needs until it has ended.
#[derive(Debug)]
pub struct ConfinedProcess {
    _home: PrivateHome,
}

impl Sandboxes {
    pub(crate) fn new(protected: Vec<PathBuf>, home: Option<PathBuf>) -> Self {
        Self { guarded: Guarded::new(protected, home), landlock: OnceLock::new() }
    }

    /// What the level can do here, for people.
    pub(crate) fn support(&self, level: SandboxLevel) -> Result<String, SandboxUnavailable> {
        match level {
            SandboxLevel::Off => Ok("no isolation is asked for".to_owned()),
            SandboxLevel::Landlock | SandboxLevel::Strongest => self.landlock().map(ToString::to_string),
            SandboxLevel::Container => Err(no_containers()),
        }
    }

    /// The sandbox of a run: a level that exists, and everything it needs there.
    pub(crate) fn settle(&self, asked: &Sandbox, workspace: &Path) -> Result<Sandbox, SandboxUnavailable> {
        let level = match asked.level {
            SandboxLevel::Strongest => SandboxLevel::Landlock,
            level => level,
        };
        let settled = Sandbox { level, ..asked.clone() };
        match level {
            SandboxLevel::Off => return Ok(settled),
            SandboxLevel::Container => return Err(no_containers()),
            SandboxLevel::Landlock | SandboxLevel::Strongest => {}
        }
        private_home::check(&settled.secrets)?;
        let roots = Roots::of(&settled, workspace, &self.guarded)?;
        Confinement::new(self.landlock()?, &roots, &settled)?;
        Ok(settled)
    }

    /// Confines one command; none where the run has no sandbox. Blocks.
    pub(crate) fn for_command(
        &self,
        sandbox: &Sandbox,
        workspace: &Path,
        owner: Owner<'_>,
    ) -> Result<Option<Confined>, SandboxUnavailable> {
        let Some(mut roots) = self.roots(sandbox, workspace)? else { return Ok(None) };
        let home = PrivateHome::new(owner, &sandbox.secrets, self.guarded.home())?;
        roots.write.push(home.path().to_owned());
        let confinement = Confinement::new(self.landlock()?, &roots, sandbox)?;
        Ok(Some(Confined { confinement, home }))
    }

    /// Confines a process that belongs to no call. Blocks.
    pub(crate) fn for_process(
        &self,
        command: &mut Command,
        asked: &Sandbox,
        workspace: &Path,
    ) -> Result<ConfinedProcess, SandboxUnavailable> {
        let sandbox = self.settle(asked, workspace)?;
        let confined = self.for_command(&sandbox, workspace, Owner::Call(SessionId::random()))?;
        let Some(Confined { mut confinement, home }) = confined else {
            return Err(SandboxUnavailable::new("the level `off` confines nothing"));
        };
        command.envs(["HOME", "TMPDIR"].map(|name| (name, home.path())));
        #[expect(unsafe_code, reason = "there is no other way to enter between fork and exec")]
        // SAFETY: entering only makes system calls, which are async-signal-safe; it neither allocates nor locks.
        unsafe {
            command.pre_exec(move || confinement.enter());
        }
        Ok(ConfinedProcess { _home: home })
    }

    /// Confines the work of one file tool, which may also read what is kept of the session's outputs. Blocks.
    pub(crate) fn for_files(
        &self,
        sandbox: &Sandbox,
        workspace: &Path,
        kept: PathBuf,
    ) -> Result<Option<Confinement>, SandboxUnavailable> {
        let Some(roots) = self.roots(sandbox, workspace)? else { return Ok(None) };
        let mut roots = roots.without_own_process();
        if kept.is_dir() {
            roots.read.push(kept);
        }
        Confinement::new(self.landlock()?, &roots, sandbox).map(Some)
    }

    /// Confines a removal, which may also write to the backup of its call. Blocks.
    pub(crate) fn for_removal(
        &self,
        sandbox: &Sandbox,
        workspace: &Path,
        backup: PathBuf,
    ) -> Result<Option<Confinement>, SandboxUnavailable> {
        let Some(roots) = self.roots(sandbox, workspace)? else { return Ok(None) };
        let mut roots = roots.without_own_process();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&backup)
            .map_err(|error| SandboxUnavailable::new(format!("no place for the backup could be made: {error}")))?;
        roots.write.push(backup);
        Confinement::new(self.landlock()?, &roots, sandbox).map(Some)
    }

    fn roots(&self, sandbox: &Sandbox, workspace: &Path) -> Result<Option<Roots>, SandboxUnavailable> {
        match sandbox.level {
            SandboxLevel::Off => Ok(None),
            SandboxLevel::Landlock => Roots::of(sandbox, workspace, &self.guarded).map(Some),
            SandboxLevel::Container | SandboxLevel::Strongest => Err(no_containers()),
        }
    }

    fn landlock(&self) -> Result<&Support, SandboxUnavailable> {
        self.landlock.get_or_init(Support::probe).as_ref().map_err(Clone::clone)
    }
}

/// What a level comes to on this machine, for people; looks anew each time.
///
/// # Errors
/// It is not to be had here, and what is missing.
pub fn sandbox_support(level: SandboxLevel) -> Result<String, SandboxUnavailable> {
    Sandboxes::new(Vec::new(), None).support(level)
}

fn no_containers() -> SandboxUnavailable {
    SandboxUnavailable::new("the level `container` is not part of this version; use `landlock`")
}
