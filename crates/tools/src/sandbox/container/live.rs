//! One container, from its start to its removal.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use stakpak_agent_core::{Sandbox, SandboxUnavailable};
use stakpak_protocol::SessionId;

use super::{
    engine::{Engine, EngineError},
    instance::{Instance, random_id},
    lock,
    options::start_arguments,
};
use crate::{
    processes::in_span,
    sandbox::{
        private_home::{Owner, PrivateHome},
        roots::Roots,
    },
};

/// An image that is there starts within a second; a machine that is busy takes longer.
const START_LIMIT: Duration = Duration::from_secs(30);
/// What the shell inside needs, and that what is to be written to can be.
const CHECK: &str = "for program in grep sleep tr; do command -v \"$program\" >/dev/null || \
                     { echo \"the image has no $program\"; exit 1; }; done; \
                     for place; do test -w \"$place\" || { echo \"$place cannot be written to\"; exit 1; }; done";

/// A container to start.
pub(super) struct Order<'a> {
    pub(super) engine: Arc<Engine>,
    pub(super) instance: &'a Instance,
    pub(super) options: Vec<String>,
    pub(super) sandbox: &'a Sandbox,
    pub(super) roots: &'a Roots,
    pub(super) workspace: &'a Path,
    pub(super) session: SessionId,
    pub(super) user_home: Option<&'a Path>,
}

/// One that runs. Dropped, it is removed, off the dropping thread.
#[derive(Debug)]
pub(crate) struct Container {
    engine: Arc<Engine>,
    name: String,
    /// `HOME` and `TMPDIR` of its processes; taken when the container is dropped.
    home: Option<PrivateHome>,
    mounted: Vec<PathBuf>,
    last_used: Mutex<Instant>,
    is_lost: AtomicBool,
}

impl Container {
    /// Blocks.
    pub(super) fn start(order: Order<'_>) -> Result<Self, SandboxUnavailable> {
        let Order { engine, instance, options, sandbox, roots, workspace, session, user_home } = order;
        let home = PrivateHome::new(Owner::Containers(instance.id()), &sandbox.secrets, user_home)?;
        let name = format!("stakpak-{}", random_id());
        let workspace = &workspace.canonicalize().unwrap_or_else(|_| workspace.to_owned());
        let image = sandbox.image.as_deref().unwrap_or_default();
        let arguments = start_arguments(options, &name, &instance.labels(session), home.path(), workspace, image);
        let writable: Vec<_> = roots.write.iter().chain([&home.path().to_owned()]).cloned().collect();
        // From here on it is removed, whatever happens.
        let container = Self {
            engine,
            name,
            home: Some(home),
            mounted: roots.read.iter().chain(&roots.write).cloned().collect(),
            last_used: Mutex::new(Instant::now()),
            is_lost: AtomicBool::new(false),
        };
        let not_started = |what: &str, error: EngineError| {
            SandboxUnavailable::new(format!("{what} with {}: {error}", container.engine.name()))
        };
        let started = container.engine.ask(&arguments, START_LIMIT);
        started.map_err(|error| not_started("no container could be started", error))?;
        let checked = container.engine.ask(&container.check(&writable), START_LIMIT);
        checked.map_err(|error| not_started("the container cannot be used", error))?;
        Ok(container)
    }

    fn check(&self, writable: &[PathBuf]) -> Vec<String> {
        let places = writable.iter().map(|place| place.display().to_string());
        let check = ["exec", &self.name, "/bin/sh", "-c", CHECK, "sh"].map(str::to_owned);
        check.into_iter().chain(places).collect()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The client that lets commands in.
    pub(super) fn program(&self) -> &Path {
        self.engine.program()
    }

    pub(super) fn home(&self) -> Option<&PrivateHome> {
        self.home.as_ref()
    }

    /// Whether something is there inside as it is here.
    pub(super) fn shows(&self, place: &Path) -> bool {
        self.mounted.iter().any(|mounted| place.starts_with(mounted))
    }

    pub(super) fn used(&self) {
        *lock(&self.last_used) = Instant::now();
    }

    pub(super) fn idle_for(&self) -> Duration {
        lock(&self.last_used).elapsed()
    }

    /// Nothing may enter it any more.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// It is removed when this returns, with everything in it. Blocks.
    pub(super) fn remove(&self) {
        if self.is_lost.swap(true, Ordering::AcqRel) {
            return;
        }
        remove(&self.engine, &self.name);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.is_lost.swap(true, Ordering::AcqRel) {
            return;
        }
        let (engine, name, home) = (Arc::clone(&self.engine), std::mem::take(&mut self.name), self.home.take());
        let end = in_span(move || {
            remove(&engine, &name);
            drop(home);
        });
        // Without a thread the next start removes it.
        drop(thread::Builder::new().name("remove-container".to_owned()).spawn(end));
    }
}

fn remove(engine: &Engine, name: &str) {
    if let Err(error) = engine.remove(&[name.to_owned()]) {
        tracing::error!(%error, container = name, "a container cannot be removed; the next start removes it");
    }
}
