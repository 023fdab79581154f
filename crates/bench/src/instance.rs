//! The release binary, started as a user would: `stakpak up` on a home of its own, with the scripted model as its provider.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    companion::Companion,
    process::Process,
    target::{PATIENCE, Target, text},
};

/// What is measured, where, and how often.
#[derive(Debug)]
pub(crate) struct Setting {
    stakpak: PathBuf,
    directory: PathBuf,
    /// How often.
    pub(crate) repeat: u32,
}

/// A state directory of an instance; removed when dropped.
#[derive(Debug)]
pub(crate) struct Home<'a> {
    setting: &'a Setting,
    directory: TempDir,
}

/// A running instance; killed when dropped.
#[derive(Debug)]
pub(crate) struct Instance {
    child: Child,
    pub(crate) target: Target,
    /// From before the process was made until it said that it is ready.
    pub(crate) ready_after: Duration,
}

impl Setting {
    pub(crate) fn new(stakpak: Option<PathBuf>, directory: Option<PathBuf>, repeat: u32) -> Result<Self> {
        let here = std::env::current_exe()?;
        let beside = here.parent().context("this binary is in no directory")?.to_owned();
        let stakpak = stakpak.unwrap_or_else(|| beside.join("stakpak"));
        if !stakpak.is_file() {
            bail!("{} is not there: build it, or name it with --stakpak", stakpak.display());
        }
        Ok(Self { stakpak, directory: directory.unwrap_or(beside), repeat })
    }

    /// An empty directory on the disk that is measured.
    pub(crate) fn scratch(&self) -> Result<TempDir> {
        let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(&self.directory);
        scratch.with_context(|| format!("no directory can be made in {}", self.directory.display()))
    }

    /// A home whose one provider is `model`.
    pub(crate) fn home(&self, model: &Companion) -> Result<Home<'_>> {
        let directory = self.scratch()?;
        let model = model.address;
        let config = format!(
            "[profiles.default]\nmodel = \"bench/mock-1\"\n\n[profiles.default.providers.bench]\ntype = \"custom\"\n\
             api_endpoint = \"http://{model}/v1\"\n"
        );
        std::fs::write(directory.path().join("config.toml"), config)?;
        Ok(Home { setting: self, directory })
    }
}

impl Home<'_> {
    /// Puts chat platforms and the like into `autopilot.toml`.
    pub(crate) fn configure(&self, autopilot: &str) -> Result<()> {
        Ok(std::fs::write(self.path().join("autopilot.toml"), autopilot)?)
    }

    /// The journal of its instance.
    pub(crate) fn journal(&self) -> PathBuf {
        self.directory.path().join("autopilot/journal.db")
    }

    /// Bytes of the journal's files.
    pub(crate) fn journal_bytes(&self) -> u64 {
        let length = |suffix| std::fs::metadata(self.directory.path().join(format!("autopilot/journal.db{suffix}")));
        ["", "-wal"].into_iter().filter_map(|suffix| length(suffix).ok()).map(|file| file.len()).sum()
    }

    /// An instance on it, ready.
    pub(crate) async fn up(&self) -> Result<Instance> {
        let started = Instant::now();
        let mut child = self.command().spawn().context("stakpak cannot be started")?;
        let mut stdout = BufReader::new(child.stdout.take().context("a child has a stdout")?);
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, stdout.read_line(&mut line)).await.context("stakpak does not get ready")??;
        let ready_after = started.elapsed();
        let ready: Value = serde_json::from_str(&line).with_context(|| format!("stakpak said {line:?}"))?;
        tokio::spawn(async move { stdout.read_to_end(&mut Vec::new()).await });
        let pid = child.id().context("stakpak has ended")?;
        let url = text(&ready, "url")?;
        let address: SocketAddr = url.strip_prefix("http://").context("the URL is not plain HTTP")?.parse()?;
        let token = std::fs::read_to_string(self.path().join("autopilot/token"))?.trim().to_owned();
        Ok(Instance { child, target: Target { address, token, process: Process(pid) }, ready_after })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.setting.stakpak);
        command.arg("--json").arg("--home").arg(self.path()).arg("--workdir").arg(self.path());
        command.args(["up", "--bind", "127.0.0.1:0"]).current_dir(self.path());
        command.env_clear().env("HOME", self.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }
}

impl Instance {
    /// SIGTERM, and the end of the process.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().context("stakpak has ended by itself")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        tokio::time::timeout(PATIENCE, self.child.wait()).await.context("stakpak does not stop")??;
        Ok(())
    }
}
