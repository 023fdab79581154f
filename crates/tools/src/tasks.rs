//! Commands in the background: tasks, each kept by a shim, a process of ours.
//!
//! Invariants:
//! * What is known of a task is on disk: a server that starts anew knows as much as the one before.
//! * A task belongs to a session; no other session can tell that it exists.
//! * A task goes on until it ends, it is cancelled, its time is up, or its session ends.

mod order;
mod record;
mod shim;
mod show;
mod start;

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use stakpak_agent_core::{Secrets, ToolContext, ToolOutcome};
use stakpak_protocol::SessionId;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};

pub use self::shim::run_task_shim;
use self::{
    order::Order,
    record::{CONTROL, Draft, Record, Task, fresh_id},
    show::{Seen, table},
};
use crate::{
    arguments::{RunCommand, WaitForTasks},
    command::{Commands, create_for_task},
    error::ToolError,
    processes::TASK_ID,
    sandbox::ContainersConfig,
    secrets::VaultSecrets,
};

/// From the start of a task to the answer about it.
const FIRST_LOOK: Duration = Duration::from_millis(300);
/// Between looks at a task that is waited for.
const LOOK: Duration = Duration::from_millis(100);
const PROGRESS: Duration = Duration::from_secs(1);
const MAX_TIMEOUT_SECONDS: u64 = 24 * 3600;
const DEFAULT_WAIT_SECONDS: u64 = 600;
/// The group is gone after 2.4 s at most, then the end is recorded.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// Finished tasks of a session that are kept.
const KEPT: usize = 100;

/// Where tasks live, and how their shims are started.
#[derive(Debug, Clone)]
pub struct TasksConfig {
    /// A directory a session, of which a task has one.
    pub directory: PathBuf,
    /// The process that keeps a task.
    pub shim: TaskShim,
    /// Which of the programs that share the directory this one is.
    pub host: String,
}

/// A program that calls [`run_task_shim`] and nothing else.
#[derive(Debug, Clone)]
pub struct TaskShim {
    /// The program.
    pub program: PathBuf,
    /// What tells it to.
    pub arguments: Vec<OsString>,
}

/// The tasks of all sessions.
#[derive(Debug)]
pub(crate) struct Tasks {
    config: TasksConfig,
    commands: Arc<Commands>,
    secrets: VaultSecrets,
    artefacts: PathBuf,
    confines: Confines,
}

/// What the sandboxes of all tasks have in common.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Confines {
    /// What no sandbox opens.
    pub(crate) protected: Vec<PathBuf>,
    pub(crate) home: Option<PathBuf>,
    pub(crate) containers: ContainersConfig,
}

impl Tasks {
    pub(crate) fn new(
        config: TasksConfig,
        commands: Arc<Commands>,
        secrets: VaultSecrets,
        artefacts: PathBuf,
        confines: Confines,
    ) -> Self {
        Self { config, commands, secrets, artefacts, confines }
    }

    /// Starts one. `command` is the line as the call has it, without secrets.
    pub(crate) async fn start(
        &self,
        arguments: RunCommand,
        command: String,
        context: &ToolContext,
    ) -> Result<ToolOutcome, ToolError> {
        let session = context.session_id;
        // A client of the tools alone may write a secret itself.
        let command = self.secrets.hide(session, command).await;
        let description = match arguments.description.clone() {
            Some(description) => Some(self.secrets.hide(session, description).await),
            None => None,
        };
        let timeout = arguments.timeout.map(|seconds| u64::from(seconds).min(MAX_TIMEOUT_SECONDS));
        let tasks = self.of(session);
        let prepare = move || {
            start::make(&tasks)?;
            forget_finished(&tasks, session);
            Ok(fresh_id(&tasks))
        };
        let id = blocking(prepare).await.and_then(|id| id).map_err(not_kept)?;
        let line = self.commands.line(arguments, context, (TASK_ID, &id)).await?;
        let (tasks, kept, host) =
            (self.of(session), self.artefacts.join(session.to_string()), self.config.host.clone());
        let publish = move || {
            let output = create_for_task(kept, &id)?;
            let record = Record { id, command, description, start_time: Utc::now(), timeout, output, host };
            Draft::new(&tasks, record)?.publish(session, &tasks)
        };
        let (task, lock) = blocking(publish).await.and_then(|task| task).map_err(not_kept)?;
        let order = Order {
            session,
            record: task.record.clone(),
            directory: task.directory.clone(),
            line,
            withheld: self.commands.shell().withheld().to_vec(),
            sandbox: context.sandbox.clone(),
            workspace: context.cwd.clone(),
            confines: self.confines.clone(),
            vaults: self.secrets.portable(),
        };
        if let Err(error) = start::start(&self.config.shim, self.commands.shell(), &order, lock).await {
            blocking(move || task.remove()).await.ok();
            return Err(error);
        }
        tokio::select! {
            () = sleep(FIRST_LOOK) => {}
            () = context.cancel.cancelled() => {
                self.end(task).await.ok();
                return Ok(ToolOutcome::Cancelled);
            }
        }
        self.seen(task).await.map(|seen| ToolOutcome::text(seen.as_json()))
    }

    pub(crate) async fn all(&self, session: SessionId) -> Result<String, ToolError> {
        let tasks = self.of(session);
        let look = move || {
            forget_finished(&tasks, session);
            table(&Task::all(&tasks, session).into_iter().map(Seen::of).collect::<Vec<_>>())
        };
        blocking(look).await.map_err(not_kept)
    }

    pub(crate) async fn details(&self, session: SessionId, id: &str) -> Result<String, ToolError> {
        let task = self.find(session, id).await?;
        let details = move || Seen::of(task).details();
        blocking(details).await.map_err(not_kept)
    }

    /// Until none of them runs, the time is up, or the user has something to say.
    pub(crate) async fn wait(&self, asked: WaitForTasks, context: &ToolContext) -> Result<ToolOutcome, ToolError> {
        let mut tasks = Vec::new();
        for id in asked.ids() {
            tasks.push(self.find(context.session_id, id).await?);
        }
        let seconds = asked.timeout.unwrap_or(DEFAULT_WAIT_SECONDS).min(MAX_TIMEOUT_SECONDS);
        let (began, mut told) = (Instant::now(), Instant::now());
        let until = began + Duration::from_secs(seconds);
        loop {
            let seen = look_at(tasks.clone()).await?;
            let running: Vec<&str> =
                seen.iter().filter(|seen| seen.status.is_running()).map(|seen| seen.task.record.id.as_str()).collect();
            let still = running.join(", ");
            let why = if running.is_empty() {
                None
            } else if context.steered.is_cancelled() {
                Some(format!("Still running: {still}. The user has sent a message, so this did not wait any longer"))
            } else if Instant::now() >= until {
                Some(format!("Still running after {seconds} seconds: {still}. Wait again, or look at them later"))
            } else {
                if told.elapsed() >= PROGRESS {
                    told = Instant::now();
                    let waited = began.elapsed().as_secs();
                    context.progress.try_send(format!("{waited} s: waiting for {still}\n")).ok();
                }
                tokio::select! {
                    () = context.cancel.cancelled() => return Ok(ToolOutcome::Cancelled),
                    () = context.steered.cancelled() => {}
                    () = sleep_until(until) => {}
                    () = sleep(LOOK) => {}
                }
                continue;
            };
            let text = [Some(blocking(move || table(&seen)).await.map_err(not_kept)?), why];
            return Ok(ToolOutcome::text(text.into_iter().flatten().collect::<Vec<_>>().join("\n\n")));
        }
    }

    pub(crate) async fn cancel(&self, session: SessionId, id: &str) -> Result<String, ToolError> {
        let task = self.find(session, id).await?;
        let before = self.seen(task.clone()).await?;
        if !before.status.is_running() {
            let message = format!("Task {id} is {} already: there is nothing to cancel", before.status.name());
            return Err(ToolError::new("CANCEL_TASK_ERROR", message));
        }
        let failed =
            |error: io::Error| ToolError::new("CANCEL_TASK_ERROR", format!("Task {id} was not cancelled: {error}"));
        let seen = self.end(task).await.map_err(failed)?;
        blocking(move || seen.details()).await.map_err(not_kept)
    }

    /// Ends all tasks of a session.
    pub(crate) async fn end_session(&self, session: SessionId) -> io::Result<()> {
        let tasks = self.of(session);
        let running = blocking(move || {
            let all = Task::all(&tasks, session).into_iter();
            all.filter(|task| task.status().is_running()).collect::<Vec<_>>()
        });
        for ended in join_all(running.await?.into_iter().map(|task| self.end(task))).await {
            ended?;
        }
        Ok(())
    }

    /// Ends all tasks of all sessions that this host has started; how many there were.
    pub(crate) async fn end_all(&self) -> io::Result<usize> {
        let (root, host) = (self.config.directory.clone(), self.config.host.clone());
        let running = blocking(move || {
            let all =
                sessions(&root).into_iter().flat_map(|session| Task::all(&root.join(session.to_string()), session));
            all.filter(|task| task.record.host == host && task.status().is_running()).collect::<Vec<_>>()
        });
        let running = running.await?;
        let count = running.len();
        for ended in join_all(running.into_iter().map(|task| self.end(task))).await {
            ended?;
        }
        Ok(count)
    }

    /// Those with a task that runs. A task whose shim has died meanwhile is brought to its end on the way.
    pub(crate) async fn sessions(&self) -> Vec<SessionId> {
        let root = self.config.directory.clone();
        let look = move || {
            let runs = |session: &SessionId| {
                let all = Task::all(&root.join(session.to_string()), *session);
                all.iter().filter(|task| task.status().is_running()).count() > 0
            };
            sessions(&root).into_iter().filter(runs).collect()
        };
        blocking(look).await.unwrap_or_default()
    }

    /// Ends all tasks of a session, and nothing is left of them.
    pub(crate) async fn forget_session(&self, session: SessionId) -> io::Result<()> {
        self.end_session(session).await?;
        match tokio::fs::remove_dir_all(self.of(session)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn of(&self, session: SessionId) -> PathBuf {
        self.config.directory.join(session.to_string())
    }

    async fn find(&self, session: SessionId, id: &str) -> Result<Task, ToolError> {
        let (tasks, wanted) = (self.of(session), id.to_owned());
        let task = blocking(move || Task::find(&tasks, session, &wanted)).await.map_err(not_kept)?;
        task.ok_or_else(|| {
            ToolError::new(
                "TASK_NOT_FOUND",
                format!("This session has no task {id:?}: see get_all_tasks for what it has"),
            )
        })
    }

    async fn seen(&self, task: Task) -> Result<Seen, ToolError> {
        blocking(move || Seen::of(task)).await.map_err(not_kept)
    }

    /// Tells its shim to end the task and waits until it has ended.
    async fn end(&self, task: Task) -> io::Result<Seen> {
        let until = Instant::now() + CANCEL_LIMIT;
        let told = task.clone();
        blocking(move || tell_to_end(&told.directory)).await??;
        loop {
            let looked = task.clone();
            let seen = blocking(move || Seen::of(looked)).await?;
            if !seen.status.is_running() {
                return Ok(seen);
            }
            if Instant::now() >= until {
                return Err(io::Error::other("it was told to end and still runs; look at it again"));
            }
            sleep(LOOK).await;
        }
    }
}

async fn look_at(tasks: Vec<Task>) -> Result<Vec<Seen>, ToolError> {
    blocking(move || tasks.into_iter().map(Seen::of).collect()).await.map_err(not_kept)
}

/// All that ever had a task and are not forgotten.
fn sessions(root: &Path) -> Vec<SessionId> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A shim that is gone needs no word.
fn tell_to_end(task: &Path) -> io::Result<()> {
    let control = File::options().write(true).custom_flags(nix::libc::O_NONBLOCK).open(task.join(CONTROL));
    match control.and_then(|mut control| control.write_all(b"x")) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO) => Ok(()),
        told => told,
    }
}

/// Beyond the number that is kept, the oldest go.
fn forget_finished(tasks: &Path, session: SessionId) {
    let all = Task::all(tasks, session);
    if all.len() <= KEPT {
        return;
    }
    for task in all.into_iter().filter(|task| !task.status().is_running()).skip(KEPT) {
        if let Err(error) = task.remove() {
            tracing::warn!(%error, task = task.record.id, "an old task cannot be removed");
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
fn not_kept(error: io::Error) -> ToolError {
    ToolError::new("AWAIT_TASKS_ERROR", format!("The tasks cannot be read or written: {error}"))
}
