//! `run_command`: one shell command from start to the last of its processes. A task is the same in a process of its own.
//!
//! The shell's exit ends the call. What holds the pipe open gets [`LAST_OUTPUT`] more; what is still there then is ended.
//! Timeout and cancel end all of it at once. If the future is dropped, [`Group`] ends it.

mod decoder;
mod kept;
mod output;
mod pieces;
mod secrets;
mod shell;
mod spool;

use std::{os::unix::process::ExitStatusExt, path::PathBuf, process::ExitStatus, time::Duration};

use nix::unistd::Pid;
use stakpak_agent_core::{Secrets, ToolContext, ToolOutcome};
use stakpak_protocol::ToolCallId;
use tokio::{
    net::unix::pipe::Receiver,
    process::Child,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    decoder::Decoder,
    kept::{Kept, Overflow},
    output::Output,
    shell::{Line, Shell},
    spool::{ARTEFACT_PREFIX, Spool, create_for_task, file_name, keep_page, keep_text},
};
use crate::{
    arguments::RunCommand,
    error::ToolError,
    processes::{Belongings, CALL_ID, Group, Processes, SESSION_ID, in_span},
    sandbox::{Confined, Inside, PrivateHome},
    secrets::VaultSecrets,
};

const DEFAULT_TIMEOUT_SECONDS: u64 = 300;
const MAX_TIMEOUT_SECONDS: u64 = 3600;
/// From the exit of the shell to the end of the pipe.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// From the end of the pipe to the signals: what closes its output is mostly on its way out.
const LEAVING: Duration = Duration::from_millis(250);
/// From the end of the last process to the end of the pipe: it is there already, unless a process that has shed its marks
/// or cannot be ended holds the pipe open.
const AFTER_END: Duration = Duration::from_millis(50);

/// Runs commands.
#[derive(Debug)]
pub(crate) struct Commands {
    shell: Shell,
    secrets: VaultSecrets,
    /// A directory a session.
    artefacts: PathBuf,
    profile: Option<String>,
}

/// How the shell ended.
#[derive(Debug)]
pub(crate) enum End {
    Exited(std::io::Result<ExitStatus>),
    TimedOut,
    Cancelled,
    /// The container's engine has lost it; nothing of it is left.
    Lost {
        has_started: bool,
        complaint: String,
    },
}

/// A shell that has been started.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pipe: Receiver,
    /// In a container; the child is the engine's client then.
    inside: Option<Inside>,
    /// Must live as long as the processes.
    home: Option<PrivateHome>,
}

impl Commands {
    pub(crate) fn new(
        withheld: Vec<String>,
        secrets: VaultSecrets,
        artefacts: PathBuf,
        profile: Option<String>,
    ) -> Self {
        Self { shell: Shell::find(withheld), secrets, artefacts, profile }
    }

    /// The shell that runs them.
    pub(crate) fn shell(&self) -> &Shell {
        &self.shell
    }

    /// Runs one, confined if it is given a confinement. Its text is clean and redacted.
    pub(crate) async fn run(
        &self,
        arguments: RunCommand,
        call: &ToolCallId,
        context: ToolContext,
        confined: Option<Confined>,
    ) -> Result<ToolOutcome, ToolError> {
        let seconds = arguments.timeout.map_or(DEFAULT_TIMEOUT_SECONDS, u64::from).min(MAX_TIMEOUT_SECONDS);
        let line = self.line(arguments, &context, (CALL_ID, call.as_str())).await?;
        let running = start(&self.shell, &line, confined)?;
        let group = Group::new(Belongings::of_call(call, context.session_id, running.group()));
        let spool = Spool::new(self.artefacts.join(context.session_id.to_string()), call.clone());
        let output = Output::new(self.secrets.clone(), context.session_id, spool, context.progress);
        let limit = Some(Duration::from_secs(seconds));
        let (end, ended, text) = supervise(running, group, limit, &context.cancel, output).await;
        let note = self.secrets.hide(context.session_id, note(&ended)).await;
        outcome(&end, seconds, &text, &note)
    }

    /// What the shell is given, with the call's secrets. Processes carry `mark`, and the session's.
    pub(crate) async fn line(
        &self,
        arguments: RunCommand,
        context: &ToolContext,
        mark: (&str, &str),
    ) -> Result<Line, ToolError> {
        let directory = arguments.cwd.map_or_else(|| context.cwd.clone(), |cwd| context.cwd.join(cwd));
        if !tokio::fs::metadata(&directory).await.is_ok_and(|metadata| metadata.is_dir()) {
            let message = format!("There is no directory {}: give another cwd", directory.display());
            return Err(ToolError::new("FILE_NOT_FOUND", message));
        }
        let (mark, id) = mark;
        let mut variables =
            vec![(mark.to_owned(), id.to_owned()), (SESSION_ID.to_owned(), context.session_id.to_string())];
        variables.extend(self.profile.clone().map(|profile| ("STAKPAK_PROFILE".to_owned(), profile)));
        let mut asked_for = arguments.env.unwrap_or_default();
        let value = |placeholder: &str| self.secrets.value(context.session_id, placeholder);
        let restored = secrets::with_variables(&arguments.command, value)
            .map_err(|error| ToolError::new(error.code(), error.to_string()))?;
        asked_for.extend(restored.variables);
        Ok(Line { text: restored.text, directory, asked_for, variables })
    }
}

/// Starts a line.
pub(crate) fn start(shell: &Shell, line: &Line, confined: Option<Confined>) -> Result<Running, ToolError> {
    let failed = |code: &'static str| {
        move |error: std::io::Error| ToolError::new(code, format!("The shell could not be started: {error}"))
    };
    match confined {
        None => {
            let (child, pipe) = shell.start(line, None).map_err(failed("COMMAND_FAILED"))?;
            Ok(Running { child, pipe, inside: None, home: None })
        }
        Some(Confined::Kernel { confinement, home }) => {
            // Between fork and exec only a number comes back: of a confined shell it may be of either.
            let (child, pipe) = shell.start(line, Some((confinement, &home))).map_err(failed("SANDBOX_UNAVAILABLE"))?;
            Ok(Running { child, pipe, inside: None, home: Some(home) })
        }
        Some(Confined::Container(entry)) => {
            let Some(directory) = entry.directory(&line.directory) else {
                let message = format!(
                    "{} is not mounted in the container: give a cwd in the working directory",
                    line.directory.display()
                );
                return Err(ToolError::new("PATH_DENIED", message));
            };
            let (child, pipe, inside) =
                shell.start_inside(line, &directory, entry).map_err(failed("SANDBOX_UNAVAILABLE"))?;
            Ok(Running { child, pipe, inside: Some(inside), home: None })
        }
    }
}

impl Running {
    /// The shell, or its engine's client, leads its group. It has an id until its exit has been awaited.
    pub(crate) fn group(&self) -> Option<Pid> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)
    }
}

/// Reads the output of a shell until it has ended and everything that was left then is gone; without a limit, for ever.
pub(crate) async fn supervise(
    running: Running,
    group: Group,
    limit: Option<Duration>,
    cancel: &CancellationToken,
    output: Output,
) -> (End, Processes, String) {
    let Running { child, pipe, inside, home } = running;
    let (eof, stop) = (CancellationToken::new(), CancellationToken::new());
    let ended = until_all_ended((child, inside), group, limit, cancel, &eof, &stop);
    let ((end, ended), text) = tokio::join!(ended, output.drain(pipe, &eof, &stop));
    spawn_blocking(move || drop(home)).await.ok();
    (end, ended, text)
}

/// Waits for the end of the shell and ends everything that is left then.
async fn until_all_ended(
    (mut child, inside): (Child, Option<Inside>),
    group: Group,
    limit: Option<Duration>,
    cancel: &CancellationToken,
    eof: &CancellationToken,
    stop: &CancellationToken,
) -> (End, Processes) {
    let time_is_up = async {
        match limit {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        biased;
        status = child.wait() => End::Exited(status),
        () = cancel.cancelled() => End::Cancelled,
        () = time_is_up => End::TimedOut,
    };
    let (end, mut ended) = match inside {
        Some(inside) => end_inside(inside, end, &mut child).await,
        None => (end, Processes::default()),
    };
    if matches!(end, End::Exited(_)) {
        tokio::select! {
            () = eof.cancelled() => {}
            () = cancel.cancelled() => {}
            () = sleep(LAST_OUTPUT) => {}
        }
    }
    let leaving = if eof.is_cancelled() { LEAVING } else { Duration::ZERO };
    ended.extend(spawn_blocking(in_span(move || group.end_after(leaving))).await.unwrap_or_default());
    timeout(AFTER_END, eof.cancelled()).await.ok();
    stop.cancel();
    (end, ended)
}

/// How the command itself ended, of which the client's end says little.
async fn end_inside(inside: Inside, end: End, client: &mut Child) -> (End, Processes) {
    let report = inside.end(client).await;
    let end = match (end, report.code) {
        (End::Exited(_), Some(code)) => End::Exited(Ok(ExitStatus::from_raw((code & 0xff) << 8))),
        (End::Exited(_), None) => End::Lost { has_started: report.has_started, complaint: report.complaint },
        (end, _) => end,
    };
    (end, report.ended)
}

fn outcome(end: &End, seconds: u64, text: &str, note: &str) -> Result<ToolOutcome, ToolError> {
    let last = match end {
        End::Cancelled => return Ok(ToolOutcome::Cancelled),
        End::Lost { has_started: false, complaint } => {
            let message = format!("The container could not be entered: {complaint}. The next call gets another");
            return Err(ToolError::new("SANDBOX_UNAVAILABLE", message));
        }
        End::Lost { .. } => {
            let message =
                format!("{text}\nThe container was lost while the command ran, and is removed: look at what it did");
            return Err(ToolError::new("OUTCOME_UNKNOWN", message.trim_start()));
        }
        End::TimedOut => format!("Command timed out after {seconds} seconds"),
        End::Exited(Err(error)) => format!("The command's exit code is unknown: {error}"),
        End::Exited(Ok(status)) => match (status.code(), status.signal()) {
            (Some(0), _) => String::new(),
            (Some(code), _) => format!("Command exited with code {code}"),
            (None, signal) => format!("Command ended by signal {}", signal.unwrap_or_default()),
        },
    };
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = if text.is_empty() { "No output" } else { text };
    let lines: Vec<&str> = [text, note, &last].into_iter().filter(|line| !line.is_empty()).collect();
    Ok(if last.is_empty() {
        ToolOutcome::text(lines.join("\n"))
    } else {
        ToolOutcome::error("COMMAND_FAILED", &lines.join("\n"))
    })
}

/// Says what was ended.
pub(crate) fn note(ended: &Processes) -> String {
    if ended.is_empty() {
        return String::new();
    }
    let processes: Vec<String> = ended.iter().map(|(pid, line)| format!("{line} (pid {pid})")).collect();
    format!("[Still running, now ended: {}]", processes.join(", "))
}
