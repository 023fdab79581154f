//! Container engines: which there are, whether they answer, and asking one for something.
//!
//! What an engine says is read to its end, and kept only so far. One that hangs is ended, with everything it started.

use std::{
    collections::HashMap,
    env,
    ffi::{OsStr, OsString},
    fmt,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, getegid, geteuid},
};
use stakpak_agent_core::SandboxUnavailable;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

use super::lock;

/// One that works answers within a tenth of it.
const PROBE_LIMIT: Duration = Duration::from_secs(3);
const REMOVE_LIMIT: Duration = Duration::from_secs(15);
/// For so long an engine that has answered is taken to be there, and one that has not to be gone.
const KNOWN: Duration = Duration::from_secs(30);
const UNKNOWN: Duration = Duration::from_secs(3);
const MOST_WORDS: u64 = 64 * 1024;
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Who made it: they differ in few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Docker,
    Podman,
}

/// An engine that has answered.
#[derive(Debug)]
pub(crate) struct Engine {
    kind: Kind,
    program: PathBuf,
    version: String,
    /// It has no more rights than the user.
    is_rootless: bool,
}

/// Why it did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error("it cannot be started: {0}")]
    Start(#[source] io::Error),
    #[error("it has not answered within {} seconds", .0.as_secs())]
    Silent(Duration),
    #[error("{0}")]
    Refused(String),
}

impl EngineError {
    fn is_nothing_there(&self) -> bool {
        matches!(self, Self::Refused(words) if words.to_ascii_lowercase().contains("no such"))
    }
}

/// Looks for engines, and remembers for a while what it found.
#[derive(Debug)]
pub(super) struct Engines {
    path: Option<OsString>,
    by_image: Mutex<HashMap<String, (Instant, Found)>>,
}

type Found = Result<Arc<Engine>, SandboxUnavailable>;

impl Engines {
    pub(super) fn new(path: Option<OsString>) -> Self {
        Self { path, by_image: Mutex::default() }
    }

    /// The first that answers and has the image.
    pub(super) fn with_image(&self, image: &str) -> Found {
        if let Some(found) = self.remembered(image) {
            return found;
        }
        // Not under the lock: who asks for another image does not wait for an engine that hangs.
        let found = without_holding_up(|| self.look(image));
        lock(&self.by_image).insert(image.to_owned(), (Instant::now(), found.clone()));
        found
    }

    fn remembered(&self, image: &str) -> Option<Found> {
        let by_image = lock(&self.by_image);
        let (at, found) = by_image.get(image)?;
        (at.elapsed() < if found.is_ok() { KNOWN } else { UNKNOWN }).then(|| found.clone())
    }

    fn look(&self, image: &str) -> Found {
        let path = self.path.clone().or_else(|| env::var_os("PATH")).unwrap_or_default();
        let mut missing = Vec::new();
        for (kind, program) in on(&path) {
            let name = kind.name();
            let found = Engine::probe(kind, program).and_then(|engine| engine.has(image).map(|()| engine));
            match found {
                Ok(engine) => return Ok(Arc::new(engine)),
                Err(why) => missing.push(format!("{name}: {why}")),
            }
        }
        if missing.is_empty() {
            missing.push("there is no docker and no podman on the PATH of this process".to_owned());
        }
        Err(SandboxUnavailable::new(format!("no container can be had: {}", missing.join("; "))))
    }
}

/// Those on the `PATH` of this process, the one that is asked first first.
#[must_use]
pub fn container_engines() -> Vec<PathBuf> {
    on(&env::var_os("PATH").unwrap_or_default()).into_iter().map(|(_, program)| program).collect()
}

fn on(path: &OsStr) -> Vec<(Kind, PathBuf)> {
    let first = |kind: Kind| {
        let mut programs = env::split_paths(path).map(|directory| directory.join(kind.name()));
        programs.find(|program| program.is_absolute() && program.is_file()).map(|program| (kind, program))
    };
    [Kind::Docker, Kind::Podman].into_iter().filter_map(first).collect()
}

/// Work that may take seconds; other work of this thread goes on elsewhere, if the runtime can do that.
fn without_holding_up<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => block_in_place(work),
        _ => work(),
    }
}

impl Engine {
    /// As it was when it was found.
    pub(super) fn recorded(kind: Kind, program: PathBuf) -> Self {
        Self { kind, program, version: String::new(), is_rootless: false }
    }

    fn probe(kind: Kind, program: PathBuf) -> Result<Self, String> {
        let format = match kind {
            Kind::Docker => "{{.ServerVersion}}|{{.SecurityOptions}}|{{.MemoryLimit}} {{.PidsLimit}} {{.CPUCfsQuota}}",
            Kind::Podman => {
                "{{.Version.Version}}|{{.Host.Security.Rootless}}|{{.Host.CgroupsVersion}} {{.Host.CgroupControllers}}"
            }
        };
        let engine = Self::recorded(kind, program);
        let said = engine.ask(&["info", "--format", format].map(str::to_owned), PROBE_LIMIT);
        let said = said.map_err(|error| format!("it does not answer: {error}"))?;
        let mut parts = said.trim().splitn(3, '|');
        let (Some(version), Some(security), Some(limits)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("its answer is not understood: {said}"));
        };
        let (is_rootless, has_limits) = match kind {
            Kind::Docker => (security.contains("name=rootless"), !limits.contains("false")),
            Kind::Podman => {
                let has_all = ["cpu", "memory", "pids"].iter().all(|controller| limits.contains(controller));
                (security == "true", has_all && (security != "true" || limits.starts_with("v2")))
            }
        };
        if version.is_empty() {
            return Err("it does not answer: its daemon does not run".to_owned());
        }
        if !has_limits {
            return Err(format!("it cannot bound memory, processors and processes here ({limits})"));
        }
        Ok(Self { version: version.to_owned(), is_rootless, ..engine })
    }

    fn has(&self, image: &str) -> Result<(), String> {
        let inspect = ["image", "inspect", "--format", "{{.Id}}", image].map(str::to_owned);
        match self.ask(&inspect, PROBE_LIMIT) {
            Ok(_) => Ok(()),
            Err(EngineError::Refused(_)) => Err(format!("it has no image {image}: run `{} pull {image}`", self.name())),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Who processes inside are: on the host, this process's user.
    pub(super) fn user(&self) -> Vec<String> {
        let own = format!("{}:{}", geteuid(), getegid());
        // Podman would hand on proxies with their passwords.
        let user = match (self.kind, self.is_rootless) {
            // Its root is this user.
            (Kind::Docker, true) => vec!["--user", "0:0"],
            (Kind::Docker, false) => vec!["--user", &own],
            (Kind::Podman, true) => vec!["--http-proxy=false", "--userns", "keep-id", "--user", &own],
            (Kind::Podman, false) => vec!["--http-proxy=false", "--user", &own],
        };
        user.into_iter().map(str::to_owned).collect()
    }

    /// Removes containers with everything in them; one that is not there is removed.
    pub(super) fn remove(&self, names: &[String]) -> Result<(), EngineError> {
        let at_once: &[&str] = if self.kind == Kind::Podman { &["--time", "0"] } else { &[] };
        let options = ["rm", "--force"].iter().chain(at_once).map(|option| (*option).to_owned());
        let arguments: Vec<_> = options.chain(names.iter().cloned()).collect();
        match self.ask(&arguments, REMOVE_LIMIT) {
            Err(error) if !error.is_nothing_there() => Err(error),
            _ => Ok(()),
        }
    }

    /// Ids of containers with this label.
    pub(super) fn labelled(&self, label: &str) -> Result<Vec<String>, EngineError> {
        let filter = format!("label={label}");
        let listed =
            self.ask(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter].map(str::to_owned), PROBE_LIMIT)?;
        Ok(listed.split_whitespace().map(str::to_owned).collect())
    }

    /// What it says to this. Blocks for at most so long.
    pub(super) fn ask(&self, arguments: &[String], limit: Duration) -> Result<String, EngineError> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(EngineError::Start)?;
        let (said, complained) = (child.stdout.take().map(listen), child.stderr.take().map(listen));
        let Some(is_success) = wait(&mut child, limit) else {
            let group = Pid::from_raw(child.id().cast_signed());
            killpg(group, Signal::SIGKILL).ok();
            child.wait().ok();
            return Err(EngineError::Silent(limit));
        };
        let words = |heard: Option<mpsc::Receiver<String>>| {
            heard.and_then(|heard| heard.recv_timeout(LAST_WORDS).ok()).unwrap_or_default()
        };
        let said = words(said);
        if is_success {
            return Ok(said);
        }
        let complaint = format!("{}\n{said}", words(complained));
        Err(EngineError::Refused(complaint.split_whitespace().collect::<Vec<_>>().join(" ")))
    }
}

/// Whether it has ended well; none if it has not ended.
fn wait(child: &mut Child, limit: Duration) -> Option<bool> {
    let until = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
            Ok(None) => return None,
            Err(_) => return Some(false),
        }
    }
}

/// Reads all of it and keeps the beginning.
fn listen(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (heard, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut words = Vec::new();
        drop(pipe.by_ref().take(MOST_WORDS).read_to_end(&mut words));
        drop(io::copy(&mut pipe, &mut io::sink()));
        drop(heard.send(String::from_utf8_lossy(&words).into_owned()));
    });
    receiver
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rootless = if self.is_rootless { ", rootless" } else { "" };
        write!(f, "{} {}{rootless}", self.name(), self.version)
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "docker" => Some(Self::Docker),
            "podman" => Some(Self::Podman),
            _ => None,
        }
    }
}
