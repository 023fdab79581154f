//! The built binary with its home, its model, and where it can be reached at the moment.

use std::{
    fs::OpenOptions,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use stakpak_test_support::ScriptedLlm;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::watch,
};

use crate::{
    actor::PAUSE,
    model::{Book, answering},
};

/// How long a start, or a run that is not held up, may take: far beyond what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Home, model, and the address of the instance that runs.
pub struct World {
    home: tempfile::TempDir,
    pub book: Arc<Book>,
    pub http: reqwest::Client,
    _llm: ScriptedLlm,
    target: watch::Sender<Option<Target>>,
    pulse: watch::Sender<u64>,
}

/// Where the instance is reached.
#[derive(Debug, Clone)]
pub struct Target {
    pub url: String,
    pub token: String,
}

/// A process of the binary that may not be ready yet. Killed when dropped.
pub struct Starting {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    since: Instant,
}

/// A process of the binary that answers. Killed when dropped.
pub struct Instance {
    child: Child,
    /// The binary's own; `child` may be what it runs under.
    pid: Pid,
    /// From the start of the process to its ready line.
    pub took: Duration,
}

impl World {
    pub async fn new() -> Arc<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let home = tempfile::tempdir().unwrap();
        let llm = ScriptedLlm::start().await;
        let config = format!(
            "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
            llm.base_url()
        );
        std::fs::create_dir(home.path().join(".stakpak")).unwrap();
        std::fs::write(home.path().join(".stakpak/config.toml"), config).unwrap();
        let (book, pulse) = (Arc::new(Book::default()), watch::Sender::new(0));
        let witnesses = home.path().to_owned();
        let asked = pulse.clone();
        llm.answer_with(answering(
            &book,
            move |session| witness(&witnesses, session).display().to_string(),
            move || asked.send_modify(|count| *count += 1),
        ));
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
        Arc::new(Self { home, book, http, _llm: llm, target: watch::Sender::new(None), pulse })
    }

    /// Starts the binary; `under` is what it runs under, as `strace` and its options.
    pub fn spawn(&self, under: &[String]) -> Starting {
        let mut words = under.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_stakpak")]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(["up", "--json", "--bind", "127.0.0.1:0"]).current_dir(self.home.path());
        command.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var_os("PATH").unwrap());
        let log = OpenOptions::new().create(true).append(true).open(self.home.path().join("up.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Starting { child, lines, since: Instant::now() }
    }

    /// Starts the binary and waits until it is ready; from then on clients find it.
    pub async fn start(&self) -> Instance {
        let starting = self.spawn(&[]);
        match tokio::time::timeout(PATIENCE, starting.ready(self)).await {
            Ok(Ok(instance)) => instance,
            Ok(Err(died)) => panic!("the binary did not start: {died}\n{}", self.log()),
            Err(_) => panic!("the binary was not ready in time\n{}", self.log()),
        }
    }

    /// No instance runs: clients wait for the next.
    pub fn down(&self) {
        self.target.send_replace(None);
    }

    /// Where the instance is, as soon as one runs.
    pub async fn target(&self) -> Target {
        let mut target = self.target.subscribe();
        let found = target.wait_for(Option::is_some).await.unwrap();
        found.clone().unwrap()
    }

    /// Something was seen by somebody: an event, an answer, a question to the model.
    pub fn beat(&self) {
        self.pulse.send_modify(|count| *count += 1);
    }

    pub fn pulse(&self) -> watch::Receiver<u64> {
        self.pulse.subscribe()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What the session's commands have written.
    pub fn witness(&self, session: &str) -> Vec<String> {
        let text = std::fs::read_to_string(witness(self.home.path(), session)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The end of what the binary said, for people.
    pub fn log(&self) -> String {
        let logs = ["up.log", ".stakpak/autopilot/logs/server.log"];
        let tail = |name: &&str| {
            let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- {name}\n{}", lines[lines.len().saturating_sub(60)..].join("\n"))
        };
        logs.iter().map(tail).collect::<Vec<_>>().join("\n")
    }
}

fn witness(home: &std::path::Path, session: &str) -> PathBuf {
    home.join(format!("witness-{session}"))
}

impl Starting {
    /// Waits for the ready line.
    ///
    /// # Errors
    /// How the process ended instead.
    pub async fn ready(mut self, world: &World) -> Result<Instance, String> {
        let Ok(Some(line)) = self.lines.next_line().await else {
            return Err(self.child.wait().await.unwrap().to_string());
        };
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["event"], "ready", "{ready}");
        let took = self.since.elapsed();
        let token = std::fs::read_to_string(world.path(".stakpak/autopilot/token")).unwrap();
        let target = Target { url: ready["url"].as_str().unwrap().to_owned(), token: token.trim().to_owned() };
        let Self { child, mut lines, .. } = self;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        world.target.send_replace(Some(target));
        let pid = Pid::from_raw(i32::try_from(ready["pid"].as_i64().unwrap()).unwrap());
        Ok(Instance { child, pid, took })
    }

    /// `kill -9`, ready or not.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

impl Instance {
    /// `kill -9`.
    pub async fn kill(mut self, world: &World) {
        let _ = kill(self.pid, Signal::SIGKILL);
        self.child.wait().await.unwrap();
        world.down();
    }

    /// Waits until it dies by itself. What it runs under would wait for the processes of its calls too; it is ended.
    pub async fn died(&mut self, world: &World) {
        while kill(self.pid, None).is_ok() {
            tokio::time::sleep(PAUSE).await;
        }
        world.down();
        self.child.kill().await.unwrap();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Once it was waited for, its number may be another's.
        if self.child.id().is_some() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}
