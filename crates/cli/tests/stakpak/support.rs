//! The built binary in a home of its own.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use stakpak_client::StakpakClient;

use crate::disk::SmallDisk;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An empty home directory, like a newcomer's.
pub struct Home {
    pub directory: tempfile::TempDir,
    /// What is mounted over it.
    pub disk: Option<SmallDisk>,
}

impl Home {
    pub fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { directory: tempfile::tempdir().unwrap(), disk: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.disk.as_ref().map_or(self.directory.path().to_owned(), SmallDisk::path).join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(&format!(".stakpak/{name}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_stakpak");
        let mut command = self.disk.as_ref().map_or_else(|| Command::new(program), |disk| disk.command(program));
        command.args(arguments).current_dir(self.directory.path());
        command.env_clear().env("HOME", self.directory.path()).env("PATH", std::env::var_os("PATH").unwrap());
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// `up` on a free port, ready.
    pub fn up(&self) -> Up {
        self.up_with(&[])
    }

    pub fn up_with(&self, more: &[&str]) -> Up {
        let mut arguments = vec!["up", "--json", "--bind", "127.0.0.1:0"];
        arguments.extend(more);
        self.start(self.command(&arguments))
    }

    /// `up` that is not killed when it may not write to a file any more, but told, as on a full disk.
    pub fn up_ignoring_file_limits(&self) -> Up {
        let up = self.command(&["up", "--json", "--bind", "127.0.0.1:0"]);
        let environment = up.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(up.get_program()).args(up.get_args());
        shell.env_clear().envs(environment).stdin(Stdio::null()).current_dir(self.directory.path());
        self.start(shell)
    }

    /// Whatever says that it is ready.
    pub fn start(&self, mut command: Command) -> Up {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next();
        let Some(Ok(line)) = first else {
            let output = child.wait_with_output().unwrap();
            panic!("up did not start: {}", String::from_utf8_lossy(&output.stderr));
        };
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["event"], "ready", "{ready}");
        std::thread::spawn(move || lines.for_each(drop));
        let token = std::fs::read_to_string(self.path(".stakpak/autopilot/token")).unwrap_or_default();
        Up { child, url: ready["url"].as_str().unwrap().to_owned(), token: token.trim().to_owned(), ready }
    }
}

/// A running instance; killed when dropped.
pub struct Up {
    pub child: Child,
    pub url: String,
    pub token: String,
    pub ready: Value,
}

impl Up {
    pub fn client(&self) -> StakpakClient {
        StakpakClient::new(&self.url, &self.token)
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the drain does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until `found` finds something.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
