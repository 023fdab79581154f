//! The level `container`: an engine's container, entered by each command of its session.
//!
//! Invariants:
//! * A container belongs to one session and one sandbox; in the mode `ephemeral` to one run.
//! * One whose state is not certain is removed: what a call leaves in it ends with it.
//! * Each is labelled with the process that keeps it, whose lock goes with the process: the next one removes what is left.

mod engine;
mod entry;
mod instance;
mod live;
mod options;
mod reaper;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stakpak_agent_core::{Sandbox, SandboxUnavailable};
use stakpak_protocol::{RunId, SessionId};

pub use self::engine::container_engines;
pub(crate) use self::entry::{Entry, Inside, is_value};
use self::{
    engine::{Engine, Engines},
    instance::Instance,
    live::{Container, Order},
};
use super::{private_home::Owner, roots::Roots};

/// How long a container is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerMode {
    /// For its session, until nothing has run in it for a while.
    #[default]
    Persistent,
    /// For one run.
    Ephemeral,
}

/// Containers of this process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainersConfig {
    /// Whose containers are whose: a lock a process. In the state directory.
    pub directory: PathBuf,
    /// How long they are kept.
    pub mode: ContainerMode,
    /// Without a command so long, a container goes.
    pub idle_after: Duration,
    /// Where engines are looked for, as `PATH`; none: in that of this process.
    pub path: Option<std::ffi::OsString>,
}

impl ContainersConfig {
    /// Kept for their sessions, half an hour beyond the last command.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, mode: ContainerMode::default(), idle_after: Duration::from_secs(30 * 60), path: None }
    }
}

/// The containers that this process keeps.
#[derive(Debug)]
pub(crate) struct Containers {
    config: ContainersConfig,
    engines: Engines,
    instance: OnceLock<Instance>,
    kept: Mutex<HashMap<Key, Arc<Slot>>>,
    is_watched: AtomicBool,
}

/// What a container is for: two commands share one when all of it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    session: SessionId,
    run: Option<RunId>,
    task: Option<String>,
    sandbox: Sandbox,
    options: Vec<String>,
}

/// One container at a time.
type Slot = Mutex<Option<Arc<Container>>>;

impl Containers {
    pub(crate) fn new(config: ContainersConfig) -> Self {
        let engines = Engines::new(config.path.clone());
        Self { config, engines, instance: OnceLock::new(), kept: Mutex::default(), is_watched: AtomicBool::new(false) }
    }

    /// What there is for this image, for people. Waits for the engine, for a few seconds at most.
    pub(crate) fn support(&self, sandbox: &Sandbox) -> Result<String, SandboxUnavailable> {
        self.engine(sandbox).map(|engine| engine.to_string())
    }

    /// Whether what is asked for can be put in options.
    pub(super) fn check(&self, sandbox: &Sandbox, roots: &Roots) -> Result<(), SandboxUnavailable> {
        options::options(self.engine(sandbox)?.as_ref(), sandbox, roots).map(drop)
    }

    /// The way into the container of these, which is started if there is none. Blocks.
    pub(super) fn enter(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        roots: &Roots,
        workspace: &Path,
        owner: Owner<'_>,
        user_home: Option<&Path>,
    ) -> Result<Entry, SandboxUnavailable> {
        let engine = self.engine(sandbox)?;
        let options = options::options(&engine, sandbox, roots)?;
        let (session, run, task) = match owner {
            Owner::Call(session, run) => (session, run, None),
            Owner::Task(session, task) => (session, None, Some(task.to_owned())),
            Owner::Containers(_) => return Err(SandboxUnavailable::new("a container is for a call or a task")),
        };
        let run = run.filter(|_| self.config.mode == ContainerMode::Ephemeral);
        let slot = {
            let key = Key { session, run, task, sandbox: sandbox.clone(), options: options.clone() };
            Arc::clone(lock(&self.kept).entry(key).or_default())
        };
        let mut slot = lock(&slot);
        if let Some(container) = slot.as_ref().filter(|container| !container.is_lost()) {
            container.used();
            return Ok(Entry::new(Arc::clone(container)));
        }
        *slot = None;
        let instance = self.instance(&engine)?;
        let order = Order { engine, instance, options, sandbox, roots, workspace, session, user_home };
        let container = Arc::new(Container::start(order)?);
        *slot = Some(Arc::clone(&container));
        self.watch();
        Ok(Entry::new(container))
    }

    /// Removes what processes that are gone have left. Blocks.
    pub(crate) fn reap(&self) {
        reaper::reap(&self.config.directory);
    }

    /// Those of a session, or with none all, are removed when it returns. Blocks.
    pub(crate) fn end(&self, session: Option<SessionId>) {
        let ends = |key: &Key| session.is_none_or(|session| key.session == session);
        for container in self.take(ends) {
            container.remove();
        }
    }

    /// In the mode `ephemeral`, those of a session that has no run any more go.
    pub(crate) fn at_rest(&self, session: SessionId) {
        if self.config.mode == ContainerMode::Ephemeral {
            drop(self.take(|key| key.session == session && key.run.is_some()));
        }
    }

    fn take(&self, which: impl Fn(&Key) -> bool) -> Vec<Arc<Container>> {
        let mut kept = lock(&self.kept);
        let slots: Vec<_> = kept.extract_if(|key, _| which(key)).map(|(_, slot)| slot).collect();
        drop(kept);
        slots.iter().filter_map(|slot| lock(slot).take()).collect()
    }

    fn engine(&self, sandbox: &Sandbox) -> Result<Arc<Engine>, SandboxUnavailable> {
        let missing = || {
            SandboxUnavailable::new(
                "the level `container` needs an image: name one that is there in the profile's sandbox, as \
                 `sandbox = { level = \"container\", image = \"debian:12\" }`",
            )
        };
        self.engines.with_image(sandbox.image.as_deref().ok_or_else(missing)?)
    }

    fn instance(&self, engine: &Engine) -> Result<&Instance, SandboxUnavailable> {
        if let Some(instance) = self.instance.get() {
            return Ok(instance);
        }
        let failed = |error| SandboxUnavailable::new(format!("{}: {error}", self.config.directory.display()));
        let instance = Instance::new(&self.config.directory, engine).map_err(failed)?;
        Ok(self.instance.get_or_init(|| instance))
    }

    /// Has what is idle removed, on a thread that ends with the last container.
    fn watch(self: &Arc<Self>) {
        if self.is_watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let (containers, idle_after) = (Arc::downgrade(self), self.config.idle_after);
        let look = move || {
            while let Some(idle) = Weak::upgrade(&containers).and_then(|containers| containers.idle()) {
                drop(idle);
                thread::sleep(idle_after / 4);
            }
        };
        // Without it, containers stay until their session ends.
        drop(thread::Builder::new().name("idle-containers".to_owned()).spawn(look));
    }

    /// What nobody is in and nobody has been in for long; nothing when there is none to look at.
    fn idle(&self) -> Option<Vec<Arc<Container>>> {
        let is_idle = |slot: &Arc<Slot>| {
            let Ok(slot) = slot.try_lock() else { return false };
            let in_use = |container: &Arc<Container>| {
                Arc::strong_count(container) > 1 || container.idle_for() < self.config.idle_after
            };
            !slot.as_ref().is_some_and(in_use)
        };
        let mut kept = lock(&self.kept);
        let slots: Vec<_> = kept.extract_if(|_, slot| is_idle(slot)).map(|(_, slot)| slot).collect();
        let is_over = kept.is_empty() && slots.is_empty();
        if is_over {
            self.is_watched.store(false, Ordering::Release);
        }
        drop(kept);
        (!is_over).then(|| slots.iter().filter_map(|slot| lock(slot).take()).collect())
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
