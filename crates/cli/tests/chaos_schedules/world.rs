//! The home of the binary, its model and its clock; and the binary itself, as often as it is started.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use stakpak_test_support::{ScriptedLlm, write_executable};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    history::{Process, Sample, Times},
    model::{Book, answering},
    schedules::{CHECK, Millis, Schedule, file},
};

/// How long a start may take: far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The host's clock.
pub fn host_millis() -> Millis {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub struct World {
    home: tempfile::TempDir,
    pub book: Arc<Book>,
    /// The simulated time is the host's and this.
    offset: Millis,
    shown_since: Millis,
    pub times: Times,
    pub processes: Vec<Process>,
    pub samples: Vec<Sample>,
    _llm: ScriptedLlm,
}

/// A process of the binary that may not be ready yet. Killed when dropped.
pub struct Instance {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    from: Millis,
}

impl World {
    pub async fn new(schedules: &[Schedule], start: Millis) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (llm, book) = (ScriptedLlm::start().await, Arc::new(Book::new(home.path().join("commands"))));
        llm.answer_with(answering(&book));
        let config = format!(
            "[profiles.default]\nmodel = \"my/test\"\nauto_approve = [\"run_command\"]\n\
             [profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
            llm.base_url()
        );
        std::fs::create_dir(home.path().join(".stakpak")).unwrap();
        std::fs::write(home.path().join(".stakpak/config.toml"), config).unwrap();
        std::fs::write(home.path().join(".stakpak/autopilot.toml"), file(schedules)).unwrap();
        let check = home.path().join("check.sh");
        write_executable(&check, CHECK);
        let (times, processes, samples) = (Times::default(), Vec::new(), Vec::new());
        let mut world = Self { home, book, offset: 0, shown_since: start, times, processes, samples, _llm: llm };
        world.set(start);
        world.times.shown.clear();
        world
    }

    /// The simulated time.
    pub fn now(&self) -> Millis {
        host_millis() + self.offset
    }

    /// Sets it, forward or back.
    pub fn set(&mut self, time: Millis) {
        let (before, since) = (self.now(), self.shown_since);
        if time < before {
            self.times.again.push((time, before));
        }
        self.offset += time - before;
        self.shown_since = self.now();
        let (file, fresh) = (self.clock(), self.home.path().join("clock.fresh"));
        std::fs::write(&fresh, self.offset.to_string()).unwrap();
        std::fs::rename(fresh, file).unwrap();
        // Until now the old one could be read.
        self.times.shown.push((since, self.now() - (time - before)));
    }

    /// What the clock showed last is over.
    pub fn stop_the_clock(&mut self) {
        self.set(self.now());
        self.times.now = self.now();
    }

    fn clock(&self) -> PathBuf {
        self.home.path().join("clock")
    }

    /// Starts the binary; from here on it is the next epoch.
    pub fn spawn(&self) -> Instance {
        self.book.epoch.fetch_add(1, Ordering::SeqCst);
        let mut command = Command::new(env!("CARGO_BIN_EXE_stakpak"));
        command.args(["up", "--json", "--bind", "127.0.0.1:0"]).current_dir(self.home.path());
        command.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var_os("PATH").unwrap());
        command.env("STAKPAK_CAMPAIGN_CLOCK", self.clock());
        let log = OpenOptions::new().create(true).append(true).open(self.home.path().join("up.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Instance { child, lines: Some(lines), from: host_millis() }
    }

    /// Starts the binary and waits until it is ready.
    pub async fn start(&self) -> Instance {
        let mut instance = self.spawn();
        match tokio::time::timeout(PATIENCE, instance.ready()).await {
            Ok(Ok(())) => instance,
            Ok(Err(died)) => panic!("the binary did not start: {died}\n{}", self.log()),
            Err(_) => panic!("the binary was not ready in time\n{}", self.log()),
        }
    }

    /// `kill -9`, ready or not.
    pub async fn kill(&mut self, mut instance: Instance) {
        self.sample(&instance);
        let to = host_millis();
        self.processes.push(Process { pid: instance.pid().as_raw().into(), from: instance.from, to });
        instance.child.kill().await.unwrap();
    }

    /// Notes what a process uses.
    pub fn sample(&mut self, instance: &Instance) {
        let process = PathBuf::from(format!("/proc/{}", instance.pid()));
        let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        let memory =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        let Some(memory) = memory.filter(|_| instance.lines.is_none()) else { return };
        let files = std::fs::read_dir(process.join("fd")).map_or(0, Iterator::count);
        self.samples.push(Sample { memory, files });
    }

    pub fn ledger(&self) -> PathBuf {
        self.home.path().join(".stakpak/autopilot/autopilot.db")
    }

    /// What checks or commands wrote.
    pub fn written(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.path().join(name)).unwrap_or_default()
    }

    /// The end of what the binary said, for people.
    pub fn log(&self) -> String {
        let logs = ["up.log", ".stakpak/autopilot/logs/scheduler.log", ".stakpak/autopilot/logs/server.log"];
        logs.iter()
            .map(|name| format!("--- {name}\n{}", tail(&self.home.path().join(name))))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn tail(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

impl Instance {
    async fn ready(&mut self) -> Result<(), String> {
        let mut lines = self.lines.take().unwrap();
        let Ok(Some(line)) = lines.next_line().await else {
            return Err(self.child.wait().await.unwrap().to_string());
        };
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["event"], "ready", "{ready}");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap())
    }

    /// The host falls asleep, as this process sees it.
    pub fn stop(&self) {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
    }

    /// And wakes up.
    pub fn go_on(&self) {
        kill(self.pid(), Signal::SIGCONT).unwrap();
    }
}
