//! The processes of a call or task: finding them and ending them.
//!
//! A process belongs to a call when it is in the group of the call's shell, or when it was started with the call's marks in
//! its environment. The marks find what has left the group (`setsid`, a double fork). A zombie is no longer there.
//! Without a `/proc` (macOS) only the group can be found.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use stakpak_protocol::{SessionId, ToolCallId};

/// Carries the call's id.
pub(crate) const CALL_ID: &str = "STAKPAK_CALL_ID";
/// Carries the session's id: a call's id is unique only in its session.
pub(crate) const SESSION_ID: &str = "STAKPAK_SESSION_ID";

/// Carries the id of a task, which is unique only in its session. Its processes carry no call's: they outlive the call.
pub(crate) const TASK_ID: &str = "STAKPAK_TASK_ID";

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// From SIGTERM to giving up. Only a process in an uninterruptible wait is still there then.
const LIMIT: Duration = Duration::from_millis(2400);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What a call's processes have in common.
#[derive(Debug, Clone)]
pub(crate) struct Belongings {
    /// Lines of the environment, all of which a process must carry.
    marks: Vec<Vec<u8>>,
    group: Option<Pid>,
}

/// Process ids and command lines.
pub(crate) type Processes = BTreeMap<i32, String>;

impl Belongings {
    /// Of a call; `group` is its shell, if this process started it.
    pub(crate) fn of_call(call: &ToolCallId, session: SessionId, group: Option<Pid>) -> Self {
        Self { marks: vec![mark(CALL_ID, call.as_str()), mark(SESSION_ID, &session.to_string())], group }
    }

    /// Of a task; `group` is its shell, if this process started it.
    pub(crate) fn of_task(task: &str, session: SessionId, group: Option<Pid>) -> Self {
        Self { marks: vec![mark(TASK_ID, task), mark(SESSION_ID, &session.to_string())], group }
    }

    /// Ends them all: SIGTERM, two seconds, SIGKILL. Blocks until they are gone, 2.4 s at most. Which they were.
    pub(crate) fn end(&self) -> Processes {
        let mut ended = Processes::new();
        let started = Instant::now();
        let mut pause = Duration::from_millis(5);
        let mut alive = self.living();
        self.signal(&alive, Signal::SIGTERM);
        while !alive.is_empty() || self.group_lives_unseen() {
            ended.append(&mut alive);
            if started.elapsed() >= LIMIT {
                tracing::warn!(processes = ?self.living(), "processes of a call do not end");
                break;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            alive = self.living();
            if started.elapsed() >= GRACE {
                self.signal(&alive, Signal::SIGKILL);
            }
        }
        ended
    }

    /// Blocks while some are alive, `at_most` so long.
    fn wait(&self, at_most: Duration) {
        let started = Instant::now();
        while started.elapsed() < at_most && !self.living().is_empty() {
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The group as a whole, because a member may fork between the look and the signal; the others one by one.
    fn signal(&self, alive: &Processes, signal: Signal) {
        if let Some(group) = self.group
            // The number of a group without members may already be another's.
            && (self.group_lives_unseen() || alive.keys().any(|pid| stat(*pid).is_some_and(|stat| stat.group == group.as_raw())))
        {
            killpg(group, signal).ok();
        }
        for pid in alive.keys() {
            kill(Pid::from_raw(*pid), signal).ok();
        }
    }

    fn group_lives_unseen(&self) -> bool {
        !cfg!(target_os = "linux") && self.group.is_some_and(|group| killpg(group, None).is_ok())
    }

    fn living(&self) -> Processes {
        let own = std::process::id().cast_signed();
        process_ids().filter(|pid| *pid != own && self.owns(*pid)).map(|pid| (pid, command_line(pid))).collect()
    }

    fn owns(&self, pid: i32) -> bool {
        let Some(stat) = stat(pid) else { return false };
        if matches!(stat.state, b'Z' | b'X') {
            return false;
        }
        self.group.is_some_and(|group| group.as_raw() == stat.group) || self.marked(pid)
    }

    fn marked(&self, pid: i32) -> bool {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
        let carries = |mark: &Vec<u8>| environment.split(|byte| *byte == 0).any(|line| line == mark);
        self.marks.iter().all(carries)
    }
}

/// The processes of a running call. Dropped before [`Group::end_after`], it ends them by itself, off the dropping thread.
#[derive(Debug)]
pub(crate) struct Group {
    belongings: Option<Belongings>,
}

impl Group {
    pub(crate) fn new(belongings: Belongings) -> Self {
        Self { belongings: Some(belongings) }
    }

    /// As [`Belongings::end`], of those that have not ended by themselves after a while.
    pub(crate) fn end_after(mut self, leaving: Duration) -> Processes {
        let Some(belongings) = self.belongings.take() else { return Processes::default() };
        belongings.wait(leaving);
        belongings.end()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(belongings) = self.belongings.take() else { return };
        // A thread of its own, not a task: the runtime may be on its way down.
        let thread = thread::Builder::new().name("end-call".to_owned()).spawn({
            let belongings = belongings.clone();
            in_span(move || belongings.end())
        });
        if let Err(error) = thread {
            tracing::error!(%error, "no thread to end the processes of a call; ending them in place");
            belongings.end();
        }
    }
}

/// Work for another thread whose log lines carry the ids of the call that it is for.
pub(crate) fn in_span<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let span = tracing::Span::current();
    move || span.in_scope(work)
}

/// Every call that has living processes, this process left aside.
pub(crate) fn calls_with_processes() -> Vec<(SessionId, ToolCallId)> {
    let own = std::process::id().cast_signed();
    let mut calls: Vec<_> = process_ids().filter(|pid| *pid != own).filter_map(call_of).collect();
    calls.sort();
    calls.dedup();
    calls
}

/// What the marks of a living process say.
fn call_of(pid: i32) -> Option<(SessionId, ToolCallId)> {
    stat(pid).filter(|stat| !matches!(stat.state, b'Z' | b'X'))?;
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |name: &str| {
        let lines = environment.split(|byte| *byte == 0);
        let text = lines.filter_map(|line| std::str::from_utf8(line).ok());
        text.filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).next()
    };
    Some((value(SESSION_ID)?.parse().ok()?, ToolCallId(value(CALL_ID)?.to_owned())))
}

fn process_ids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

struct Stat {
    state: u8,
    group: i32,
}

/// `proc_pid_stat(5)`: the name in parentheses may itself hold blanks and parentheses.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end_of_name = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end_of_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let group = fields.nth(1)?.parse().ok()?;
    Some(Stat { state, group })
}

/// For people, cut to 80 characters.
fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    text.trim().chars().take(80).collect()
}

fn mark(name: &str, value: &str) -> Vec<u8> {
    format!("{name}={value}").into_bytes()
}
