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

mod container;
mod private_home;
mod roots;

use std::{
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use stakpak_agent_core::{Sandbox, SandboxLevel, SandboxUnavailable};
use stakpak_protocol::SessionId;
use tokio::process::Command;

pub use self::container::{ContainerMode, ContainersConfig, container_engines};
pub(crate) use self::{
    confinement::Confinement,
    container::{Containers, Entry, Inside, is_value},
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
    containers: Arc<Containers>,
}

/// A confined call, ready to start.
#[derive(Debug)]
pub(crate) enum Confined {
    /// By the kernel, with a home of its own.
    Kernel { confinement: Confinement, home: PrivateHome },
    /// In a container.
    Container(Entry),
}

/// What a confined process of its own needs until it has ended.
#[derive(Debug)]
pub struct ConfinedProcess {
    _home: PrivateHome,
}

impl Sandboxes {
    pub(crate) fn new(protected: Vec<PathBuf>, home: Option<PathBuf>, containers: ContainersConfig) -> Self {
        Self {
            guarded: Guarded::new(protected, home),
            landlock: OnceLock::new(),
            containers: Arc::new(Containers::new(containers)),
        }
    }

    pub(crate) fn containers(&self) -> &Arc<Containers> {
        &self.containers
    }

    /// What the sandbox's level can do here, for people.
    pub(crate) fn support(&self, asked: &Sandbox) -> Result<String, SandboxUnavailable> {
        match self.strongest(asked) {
            SandboxLevel::Off => Ok("no isolation is asked for".to_owned()),
            SandboxLevel::Landlock | SandboxLevel::Strongest => self.landlock().map(ToString::to_string),
            SandboxLevel::Container => self.containers.support(asked),
        }
    }

    /// The sandbox of a run: a level that exists, and everything it needs there.
    pub(crate) fn settle(&self, asked: &Sandbox, workspace: &Path) -> Result<Sandbox, SandboxUnavailable> {
        let settled = Sandbox { level: self.strongest(asked), ..asked.clone() };
        private_home::check(&settled.secrets)?;
        match settled.level {
            SandboxLevel::Off => {}
            SandboxLevel::Container => {
                let roots = Roots::granted(&settled, workspace, &self.guarded)?;
                self.containers.check(&settled, &roots)?;
            }
            SandboxLevel::Landlock | SandboxLevel::Strongest => {
                let roots = Roots::of(&settled, workspace, &self.guarded)?;
                Confinement::new(self.landlock()?, &roots, &settled)?;
            }
        }
        Ok(settled)
    }

    /// A container only where an image is named: an engine alone is no sandbox.
    fn strongest(&self, asked: &Sandbox) -> SandboxLevel {
        match asked.level {
            SandboxLevel::Strongest if asked.image.is_some() && self.containers.support(asked).is_ok() => {
                SandboxLevel::Container
            }
            SandboxLevel::Strongest => SandboxLevel::Landlock,
            level => level,
        }
    }

    /// Confines one command; none where the run has no sandbox. Blocks.
    pub(crate) fn for_command(
        &self,
        sandbox: &Sandbox,
        workspace: &Path,
        owner: Owner<'_>,
    ) -> Result<Option<Confined>, SandboxUnavailable> {
        match sandbox.level {
            SandboxLevel::Off => Ok(None),
            SandboxLevel::Container => {
                let roots = Roots::granted(sandbox, workspace, &self.guarded)?;
                let entry = self.containers.enter(sandbox, &roots, workspace, owner, self.guarded.home())?;
                Ok(Some(Confined::Container(entry)))
            }
            SandboxLevel::Landlock | SandboxLevel::Strongest => {
                let mut roots = Roots::of(sandbox, workspace, &self.guarded)?;
                let home = PrivateHome::new(owner, &sandbox.secrets, self.guarded.home())?;
                roots.write.push(home.path().to_owned());
                let confinement = Confinement::new(self.landlock()?, &roots, sandbox)?;
                Ok(Some(Confined::Kernel { confinement, home }))
            }
        }
    }

    /// Confines a process that belongs to no call. Blocks.
    pub(crate) fn for_process(
        &self,
        command: &mut Command,
        asked: &Sandbox,
        workspace: &Path,
    ) -> Result<ConfinedProcess, SandboxUnavailable> {
        if asked.level == SandboxLevel::Container {
            let message = "a tool server cannot be put in a container: use the level `landlock` for it";
            return Err(SandboxUnavailable::new(message));
        }
        let sandbox = self.settle(asked, workspace)?;
        let confined = self.for_command(&sandbox, workspace, Owner::Call(SessionId::random(), None))?;
        let Some(Confined::Kernel { mut confinement, home }) = confined else {
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
        let Some(mut roots) = self.roots(sandbox, workspace)? else { return Ok(None) };
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
        let Some(mut roots) = self.roots(sandbox, workspace)? else { return Ok(None) };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&backup)
            .map_err(|error| SandboxUnavailable::new(format!("no place for the backup could be made: {error}")))?;
        roots.write.push(backup);
        Confinement::new(self.landlock()?, &roots, sandbox).map(Some)
    }

    /// Of file tools. Those of a run in a container see what is mounted there, and are confined by the kernel here.
    fn roots(&self, sandbox: &Sandbox, workspace: &Path) -> Result<Option<Roots>, SandboxUnavailable> {
        match sandbox.level {
            SandboxLevel::Off => Ok(None),
            SandboxLevel::Container => Roots::granted(sandbox, workspace, &self.guarded).map(Some),
            SandboxLevel::Landlock | SandboxLevel::Strongest => {
                Roots::of(sandbox, workspace, &self.guarded).map(Roots::without_own_process).map(Some)
            }
        }
    }

    fn landlock(&self) -> Result<&Support, SandboxUnavailable> {
        self.landlock.get_or_init(Support::probe).as_ref().map_err(Clone::clone)
    }
}

/// What a sandbox comes to on this machine, for people; looks anew each time.
///
/// # Errors
/// It is not to be had here, and what is missing.
pub fn sandbox_support(asked: &Sandbox) -> Result<String, SandboxUnavailable> {
    Sandboxes::new(Vec::new(), None, ContainersConfig::new(PathBuf::new())).support(asked)
}
