//! Which process owns the state directory: an OS lock, nothing else, decides.

use std::{
    fs::{File, OpenOptions},
    io,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use nix::{sys::signal::kill, unistd::Pid};
use serde::{Deserialize, Serialize};
use stakpak_config::write_private;

use crate::{args::Backend, home::Home};

/// How long a process that is just starting may take to say that it owns the state directory.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// What the owner tells people and scripts; never decides anything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) pid: u32,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) version: String,
    pub(crate) url: String,
    /// `up`, `serve`, or `gateway`.
    pub(crate) mode: String,
    pub(crate) profile: String,
    /// What keeps it running; none in a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<Backend>,
    /// The file that a standalone gateway was told to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<PathBuf>,
    /// Keys that have changed in the files since the start and take effect at the next one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) restart_required: Vec<String>,
}

/// What one process owns at a time: each has a lock, and facts about its owner.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seat {
    /// The journal.
    Server,
    /// The standalone gateway.
    Gateway,
    /// What keeps `up` running where there is no service manager.
    Supervisor,
}

impl Seat {
    fn lock(self) -> &'static str {
        match self {
            Self::Server => "autopilot.lock",
            Self::Gateway => "gateway.lock",
            Self::Supervisor => "supervisor.lock",
        }
    }

    fn facts(self) -> &'static str {
        match self {
            Self::Server => "runtime.json",
            Self::Gateway => "gateway.json",
            Self::Supervisor => "supervisor.json",
        }
    }
}

/// Ownership of the state directory, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "holding the file is holding the lock")] File);

/// What asking for the lock came to.
pub(crate) enum Owner {
    /// This process.
    Us(Lock),
    /// Another one; its facts, once it has written them.
    Other(Option<Facts>),
}

impl Lock {
    pub(crate) fn acquire(home: &Home, seat: Seat) -> Result<Owner> {
        let path = home.autopilot(seat.lock());
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Owner::Us(Self(file))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(Owner::Other(Facts::read(home, seat))),
            Err(std::fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

impl Lock {
    /// Asks again for a while as long as nobody says that the lock is theirs: a process that is starting has not written its
    /// facts yet. And always once more: one that only looks is in the way for a moment, and the facts may be of a process
    /// that was killed.
    pub(crate) async fn acquire_patiently(home: &Home, seat: Seat) -> Result<Owner> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut is_sure = false;
        loop {
            match Self::acquire(home, seat)? {
                Owner::Other(None) if tokio::time::Instant::now() < deadline => {}
                Owner::Other(Some(_)) if !is_sure => is_sure = true,
                owner => return Ok(owner),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Facts {
    /// Facts of a process that is gone are none.
    fn read(home: &Home, seat: Seat) -> Option<Self> {
        let facts: Self = serde_json::from_slice(&std::fs::read(home.autopilot(seat.facts())).ok()?).ok()?;
        let pid = Pid::from_raw(i32::try_from(facts.pid).ok()?);
        kill(pid, None).is_ok().then_some(facts)
    }

    /// The facts of the instance that lives; none when none does.
    pub(crate) fn of_running(home: &Home) -> Result<Option<Self>> {
        Self::of(home, Seat::Server)
    }

    /// The same of the standalone gateway.
    pub(crate) fn of_gateway(home: &Home) -> Result<Option<Self>> {
        Self::of(home, Seat::Gateway)
    }

    fn of(home: &Home, seat: Seat) -> Result<Option<Self>> {
        Ok(if is_free(home, seat)? { None } else { Self::read(home, seat) })
    }

    /// The facts of the instance that lives, once it has written them; none when none lives.
    pub(crate) async fn of_starting(home: &Home) -> Result<Option<Self>> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !is_free(home, Seat::Server)? {
            if let Some(facts) = Self::read(home, Seat::Server) {
                return Ok(Some(facts));
            }
            if tokio::time::Instant::now() > deadline {
                bail!("another process holds {}", Home::show(&home.autopilot(Seat::Server.lock())));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(None)
    }

    pub(crate) fn write(&self, home: &Home) -> Result<()> {
        self.write_as(home, Seat::Server)?;
        write_private(&home.autopilot("autopilot.pid"), format!("{}\n", self.pid).as_bytes())?;
        Ok(())
    }

    pub(crate) fn write_as(&self, home: &Home, seat: Seat) -> Result<()> {
        Ok(write_private(&home.autopilot(seat.facts()), &serde_json::to_vec_pretty(self)?)?)
    }

    pub(crate) fn remove(home: &Home) {
        Self::remove_as(home, Seat::Server);
        remove_file(home, "autopilot.pid");
    }

    pub(crate) fn remove_as(home: &Home, seat: Seat) {
        remove_file(home, seat.facts());
    }
}

/// Whether nobody holds the lock. Any number of processes may look at the same time.
fn is_free(home: &Home, seat: Seat) -> Result<bool> {
    let path = home.autopilot(seat.lock());
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => file.with_context(|| format!("cannot open {}", path.display()))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn remove_file(home: &Home, name: &str) {
    if let Err(error) = std::fs::remove_file(home.autopilot(name)) {
        tracing::debug!(name, %error, "not removed");
    }
}

/// Why the address cannot be had, and which process to look for.
pub(crate) fn explain_bind_error(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    if error.kind() != io::ErrorKind::AddrInUse {
        return anyhow::anyhow!("cannot listen on {address}: {error}");
    }
    let port = address.port();
    let owner = match port_owner(port) {
        Some((pid, command)) => format!("process {pid} ({command})"),
        None => format!("another process; find it with `ss -ltnp 'sport = :{port}'`"),
    };
    anyhow::anyhow!("port {port} is taken by {owner}; stop it, or choose another address with --bind")
}

/// The process that listens on this port, as far as /proc shows it to us.
fn port_owner(port: u16) -> Option<(u32, String)> {
    let suffix = format!(":{port:04X}");
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = std::fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = *fields.get(3)? == "0A" && fields.get(1)?.ends_with(&suffix);
            listens.then(|| (*fields.get(9).unwrap_or(&"")).to_owned())
        })
    })?;
    let socket = format!("socket:[{inode}]");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut descriptors = std::fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        descriptors.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == socket.as_str())).then(
            || {
                let command = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                (pid, command.trim().to_owned())
            },
        )
    })
}
