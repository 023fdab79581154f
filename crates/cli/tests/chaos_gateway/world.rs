//! The platforms, the model and the home of the binary; and the binary itself, as often as it is started.

use std::{
    fs::OpenOptions,
    process::Stdio,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use stakpak_test_support::{BotApi, FakeDiscord, ScriptedLlm, SlackApi};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::model::{Book, answering};

/// How long a start may take: far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);
/// After a kill, until the next start: what the dead process still had on its way has arrived by then.
pub const SETTLED: Duration = Duration::from_millis(50);

pub struct World {
    home: tempfile::TempDir,
    pub book: Arc<Book>,
    pub telegram: BotApi,
    pub slack: SlackApi,
    pub discord: FakeDiscord,
    /// Times of a history count from here.
    pub began: Instant,
    _llm: ScriptedLlm,
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
    /// From the start of the process to its ready line.
    pub took: Duration,
}

impl World {
    pub async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (telegram, slack, discord) = (BotApi::start().await, SlackApi::start().await, FakeDiscord::start().await);
        // Every start begins a new session, and there are many starts.
        discord.identify_every(Duration::ZERO);
        discord.identifies_left(u32::MAX);
        slack.set_ack_wait(Duration::from_secs(1));
        let home = tempfile::tempdir().unwrap();
        let (llm, book) = (ScriptedLlm::start().await, Arc::new(Book::new(home.path().join("witness"))));
        llm.answer_with(answering(&book));
        let config = format!(
            "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
            llm.base_url()
        );
        let open = "dm_policy = \"open\"\ngroup_policy = \"open\"\n";
        let channels = format!(
            "[channels.telegram]\ntoken = \"123:token\"\napi_base_url = \"{}\"\n{open}\
             [channels.slack]\nbot_token = \"{}\"\napp_token = \"{}\"\napi_base_url = \"{}\"\n{open}\
             [channels.discord]\ntoken = \"{}\"\napi_base_url = \"{}\"\n{open}",
            telegram.base_url(),
            SlackApi::BOT_TOKEN,
            SlackApi::APP_TOKEN,
            slack.base_url(),
            FakeDiscord::TOKEN,
            discord.base_url(),
        );
        std::fs::create_dir(home.path().join(".stakpak")).unwrap();
        std::fs::write(home.path().join(".stakpak/config.toml"), config).unwrap();
        std::fs::write(home.path().join(".stakpak/autopilot.toml"), channels).unwrap();
        Self { home, book, telegram, slack, discord, began: Instant::now(), _llm: llm }
    }

    /// Starts the binary; from here on it is the next epoch.
    pub fn spawn(&self) -> Starting {
        self.book.epoch.fetch_add(1, Ordering::SeqCst);
        let binary = std::env::var_os("STAKPAK_CHAOS_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_stakpak").into());
        let mut command = Command::new(binary);
        command.args(["up", "--json", "--bind", "127.0.0.1:0"]).current_dir(self.home.path());
        command.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var_os("PATH").unwrap());
        let log = OpenOptions::new().create(true).append(true).open(self.home.path().join("up.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Starting { child, lines, since: Instant::now() }
    }

    /// Starts the binary and waits until it is ready.
    pub async fn start(&self) -> Instance {
        match tokio::time::timeout(PATIENCE, self.spawn().ready()).await {
            Ok(Ok(instance)) => instance,
            Ok(Err(died)) => panic!("the binary did not start: {died}\n{}", self.log()),
            Err(_) => panic!("the binary was not ready in time\n{}", self.log()),
        }
    }

    pub fn epoch(&self) -> u64 {
        self.book.epoch.load(Ordering::SeqCst)
    }

    /// The end of what the binary said, for people.
    pub fn log(&self) -> String {
        let logs = ["up.log", ".stakpak/autopilot/logs/server.log", ".stakpak/autopilot/logs/gateway.log"];
        let tail = |name: &&str| {
            let text = std::fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- {name}\n{}", lines[lines.len().saturating_sub(60)..].join("\n"))
        };
        logs.iter().map(tail).collect::<Vec<_>>().join("\n")
    }
}

impl Starting {
    async fn ready(mut self) -> Result<Instance, String> {
        let Ok(Some(line)) = self.lines.next_line().await else {
            return Err(self.child.wait().await.unwrap().to_string());
        };
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["event"], "ready", "{ready}");
        let took = self.since.elapsed();
        let Self { child, mut lines, .. } = self;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Instance { child, took })
    }

    /// `kill -9`, ready or not.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

impl Instance {
    /// `kill -9`.
    pub async fn kill(mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.child.wait().await.unwrap();
    }
}
