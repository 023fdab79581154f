//! A command's way into a container, and out of it.
//!
//! The engine's client is a process of ours, the command is not: ending the client ends nothing inside. So a shell inside
//! watches the command; it ends everything when its standard input is closed, as it is when this process dies, and tells
//! how the command ended. Where it has not told, the container is removed.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, ChildStdin, Command},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{instance::random_id, live::Container};
use crate::{
    processes::{Processes, in_span},
    sandbox::private_home::PrivateHome,
};

/// How the names of values begin, on their way.
const VALUE: &str = "STAKPAK_VALUE_";
const INSIDE: &str = include_str!("inside.sh");
/// From the closed input to giving up on the shell inside: SIGTERM, two seconds, SIGKILL.
const END_LIMIT: Duration = Duration::from_millis(2400);
/// From the end of the client to the end of what it tells.
const LAST_WORDS: Duration = Duration::from_secs(1);
const MOST_WORDS: usize = 64 * 1024;

/// A command's way in.
#[derive(Debug)]
pub(crate) struct Entry {
    container: Arc<Container>,
}

/// A command that was let in. Dropped before its end is known, the container goes.
#[derive(Debug)]
pub(crate) struct Inside {
    container: Arc<Container>,
    mark: String,
    lifeline: Option<ChildStdin>,
    words: Option<JoinHandle<String>>,
    is_over: bool,
}

/// What is known of a command that was let in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) has_started: bool,
    /// None: nobody knows how it ended, but nothing of it is left.
    pub(crate) code: Option<i32>,
    /// What was left of it.
    pub(crate) ended: Processes,
    /// What the engine says.
    pub(crate) complaint: String,
}

impl Entry {
    pub(super) fn new(container: Arc<Container>) -> Self {
        Self { container }
    }

    /// `HOME` and `TMPDIR` of the command.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.container.home().map(PrivateHome::path)
    }

    /// Whether a variable of this process is the command's by `sandbox.secrets`.
    pub(crate) fn grants(&self, variable: &str) -> bool {
        self.container.home().is_some_and(|home| home.grants(variable))
    }

    /// This directory as it is inside; none if it is not there.
    pub(crate) fn directory(&self, directory: &Path) -> Option<PathBuf> {
        let place = directory.canonicalize().ok()?;
        self.container.shows(&place).then_some(place)
    }

    /// The client that lets `line` in. Values are in its environment under names of ours: what the command gets is nothing to
    /// the client, and in no argument list.
    pub(crate) fn client(
        self,
        line: &str,
        directory: &Path,
        variables: &BTreeMap<String, String>,
    ) -> io::Result<(Command, Inside)> {
        if let Some(name) = variables.keys().find(|name| !is_name(name)) {
            let message = format!("{name:?} is no name that a shell knows, so it cannot be set in a container");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mark = random_id();
        let values: Vec<_> = [line].into_iter().chain(variables.values().map(String::as_str)).enumerate().collect();
        let named = |number: usize| format!("{VALUE}{number}");
        let mut command = Command::new(self.container.program());
        command.args(["exec", "--interactive", "--workdir"]).arg(directory);
        for (number, value) in values {
            command.args(["--env", &named(number)]).env(named(number), value);
        }
        command.args([self.container.name(), "/bin/sh", "-c", INSIDE, "sh", &mark]).args(variables.keys());
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let inside = Inside { container: self.container, mark, lifeline: None, words: None, is_over: true };
        Ok((command, inside))
    }
}

/// Whether a variable of the client is there for what it lets in.
pub(crate) fn is_value(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(VALUE.as_bytes())
}

/// Letters, digits, underscores; no digit first.
fn is_name(name: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(is_fit) && !name.starts_with(|first: char| first.is_ascii_digit())
}

impl Inside {
    /// From here on something may run.
    pub(crate) fn started(&mut self, client: &mut Child) {
        self.is_over = false;
        self.lifeline = client.stdin.take();
        self.words = client.stderr.take().map(|words| tokio::spawn(listen(words)));
    }

    /// Ends what still runs. When it returns nothing does.
    pub(crate) async fn end(mut self, client: &mut Child) -> Report {
        drop(self.lifeline.take());
        let is_gone = timeout(END_LIMIT, client.wait()).await.is_ok();
        let words = match self.words.as_mut() {
            Some(words) if is_gone => timeout(LAST_WORDS, words).await.ok().and_then(Result::ok),
            _ => None,
        };
        let report = Report::of(&words.unwrap_or_default(), &self.mark);
        if report.code.is_none() {
            let container = Arc::clone(&self.container);
            spawn_blocking(in_span(move || container.remove())).await.ok();
        }
        self.container.used();
        self.is_over = true;
        report
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.is_over || self.container.is_lost() {
            return;
        }
        let container = Arc::clone(&self.container);
        // Without a thread the shell inside ends it, because its input is closed.
        drop(thread::Builder::new().name("end-call".to_owned()).spawn(in_span(move || container.remove())));
    }
}

/// Reads all of it and keeps the beginning and the end.
async fn listen(mut words: ChildStderr) -> String {
    let (mut kept, mut chunk) = (Vec::new(), vec![0; 4096]);
    while let Ok(size @ 1..) = words.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..size]);
        if kept.len() > MOST_WORDS {
            kept.drain(MOST_WORDS / 4..kept.len() - MOST_WORDS / 2);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

impl Report {
    fn of(words: &str, mark: &str) -> Self {
        let mut report = Self::default();
        for line in words.lines() {
            let Some(told) = line.strip_prefix(mark).and_then(|told| told.strip_prefix(' ')) else {
                report.complaint.push_str(line.trim());
                report.complaint.push(' ');
                continue;
            };
            match told.split_once(' ').unwrap_or((told, "")) {
                ("started", _) => report.has_started = true,
                ("exit", code) => report.code = code.parse().ok(),
                ("ended", process) => {
                    let (pid, line) = process.split_once(' ').unwrap_or((process, ""));
                    let line = line.trim().chars().take(80).collect();
                    report.ended.extend(pid.parse::<i32>().ok().map(|pid| (pid, line)));
                }
                _ => {}
            }
        }
        report.complaint.truncate(report.complaint.trim_end().len());
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_inside_tells_and_what_the_engine_says() {
        let words = "abc started\nabc ended 7 sleep 100 \nabc exit 3\nabcd exit 4\nError: no such container\n";
        let report = Report::of(words, "abc");
        let expected = Report {
            has_started: true,
            code: Some(3),
            ended: [(7, "sleep 100".to_owned())].into(),
            complaint: "abcd exit 4 Error: no such container".to_owned(),
        };
        assert_eq!(report, expected);
        assert_eq!(Report::of("", "abc"), Report::default());
    }

    #[test]
    fn only_names_of_variables_reach_a_shell() {
        for name in ["A", "_a1", "LD_PRELOAD"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "1A", "A B", "A=B", "A;id", "$(id)", "É"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
