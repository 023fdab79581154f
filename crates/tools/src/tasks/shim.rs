//! The process that keeps a task: it starts the shell, writes down the output, ends what must end, and says how it ended.
//!
//! It lives in a session of its own and needs nothing of the server once it has answered, so the task goes on when the
//! server ends, however that happens. Its standard output is the task's lock: the lock goes with the process.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use stakpak_redact::Vaults;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

use super::{
    order::{Answer, Order},
    record::{CONTROL, Ended, Exit, Task},
};
use crate::{
    command::{self, End, Output, Running, Shell, Spool},
    error::ToolError,
    processes::{Belongings, Group},
    sandbox::{Owner, Sandboxes},
    secrets::VaultSecrets,
};
use stakpak_agent_core::Secrets;

/// Keeps the task that standard input describes until it has ended. For a process that does nothing else.
#[must_use]
pub fn run_task_shim() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(keep())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The task's log; there is no other place for it.
            drop(writeln!(io::stderr(), "the task cannot be kept: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A task whose shell runs.
struct Kept {
    task: Task,
    control: File,
    running: Running,
    sandboxes: Sandboxes,
    output: Output,
    secrets: VaultSecrets,
}

async fn keep() -> io::Result<()> {
    let mut server = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut order = zeroize::Zeroizing::new(Vec::new());
    server.read_to_end(&mut order)?;
    let started = start(serde_json::from_slice(&order)?).await;
    drop(order);
    let answer = match &started {
        Ok(_) => Answer::Started,
        Err(error) => Answer::Refused { code: error.code.to_owned(), message: error.message.clone() },
    };
    // A server that is gone needs no answer: the task is there.
    drop(server.write_all(&serde_json::to_vec(&answer)?).and_then(|()| server.shutdown(Shutdown::Both)));
    match started {
        Ok(kept) => kept.until_its_end().await,
        Err(_) => Ok(()),
    }
}

async fn start(order: Order) -> Result<Kept, ToolError> {
    let Order { session, record, directory, line, withheld, sandbox, workspace, confines, vaults } = order;
    let failed = |error: &dyn std::fmt::Display| {
        ToolError::new("COMMAND_FAILED", format!("The task could not be kept: {error}"))
    };
    let vaults = Vaults::from_portable(vaults).map_err(|error| failed(&error))?;
    let secrets = VaultSecrets::new(vaults);
    let spool = Spool::of_task(record.output.clone()).await.map_err(|error| failed(&error))?;
    // Nobody watches: the file is the output.
    let output = Output::new(secrets.clone(), session, spool, mpsc::channel(1).0);
    let control =
        File::options().read(true).write(true).open(directory.join(CONTROL)).map_err(|error| failed(&error))?;
    let sandboxes = Sandboxes::new(confines.protected, confines.home, confines.containers);
    let confined = sandboxes.for_command(&sandbox, &workspace, Owner::Task(session, &record.id));
    let running =
        confined.map_err(ToolError::from).and_then(|confined| command::start(&Shell::find(withheld), &line, confined));
    let running = running.inspect_err(|_| sandboxes.containers().end(None))?;
    Ok(Kept { task: Task { session, directory, record }, control, running, sandboxes, output, secrets })
}

impl Kept {
    async fn until_its_end(self) -> io::Result<()> {
        let Self { task, control, running, sandboxes, output, secrets } = self;
        let group = Group::new(Belongings::of_task(&task.record.id, task.session, running.group()));
        let (cancel, told, stopped) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        listen(control, told.clone());
        let mut stop = signal(SignalKind::terminate())?;
        let orders = async {
            tokio::select! {
                () = told.cancelled() => {}
                _ = stop.recv() => stopped.cancel(),
            }
            cancel.cancel();
            std::future::pending::<()>().await;
        };
        let limit = task.record.timeout.map(Duration::from_secs);
        let (end, ended, _) = tokio::select! {
            biased;
            ended = command::supervise(running, group, limit, &cancel, output) => ended,
            () = orders => return Ok(()),
        };
        spawn_blocking(move || sandboxes.containers().end(None)).await.ok();
        let left = secrets.hide(task.session, command::note(&ended)).await;
        task.end(&exit(&end, task.record.timeout, stopped.is_cancelled(), &left));
        Ok(())
    }
}

/// Waits for a word from the server, on a thread that ends with the process.
fn listen(mut control: File, told: CancellationToken) {
    std::thread::spawn(move || {
        if control.read_exact(&mut [0]).is_ok() {
            told.cancel();
        }
    });
}

fn exit(end: &End, timeout: Option<u64>, was_stopped: bool, left: &str) -> Exit {
    let (status, mut note) = match end {
        End::Exited(Err(error)) => (Ended::Failed, format!("its exit code is unknown: {error}")),
        End::Exited(Ok(status)) => of_shell(*status),
        End::TimedOut => (Ended::TimedOut, format!("timed out after {} seconds", timeout.unwrap_or_default())),
        End::Cancelled if was_stopped => (Ended::Failed, "ended by SIGTERM to its shim".to_owned()),
        End::Lost { .. } => (Ended::Failed, "its container was lost while it ran".to_owned()),
        // What was ended because of it needs no words.
        End::Cancelled => return Exit::now(Ended::Cancelled, "cancelled".to_owned()),
    };
    if matches!(end, End::Exited(_)) && !left.is_empty() {
        note = format!("{note} {left}");
    }
    Exit::now(status, note)
}

fn of_shell(status: ExitStatus) -> (Ended, String) {
    match (status.code(), status.signal()) {
        (Some(0), _) => (Ended::Completed, "exit code 0".to_owned()),
        (Some(code), _) => (Ended::Failed, format!("exit code {code}")),
        (None, signal) => (Ended::Failed, format!("ended by signal {}", signal.unwrap_or_default())),
    }
}
