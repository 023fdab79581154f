//! Starting a task: its directory, its lock, its shim.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt, net::UnixStream},
    },
    path::Path,
    process::Stdio,
    time::Duration,
};

use nix::unistd::setsid;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use super::{
    TaskShim,
    order::{Answer, Order},
    record::LOG,
};
use crate::{command::Shell, error::ToolError};

/// A shim that has not answered by then does not work.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes the directory of a session's tasks.
pub(super) fn make(tasks: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(tasks)
}

/// Starts the shim with its order; it has the lock. When this returns, the task runs.
pub(super) async fn start(shim: &TaskShim, shell: &Shell, order: &Order, lock: File) -> Result<(), ToolError> {
    let failed = |error: io::Error| ToolError::new("COMMAND_FAILED", format!("The task could not be started: {error}"));
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let log = fs::File::create(order.directory.join(LOG)).map_err(failed)?;
    let mut command = Command::new(&shim.program);
    command.args(&shim.arguments).current_dir("/").stdin(OwnedFd::from(theirs)).stdout(lock).stderr(Stdio::from(log));
    for name in shell.withheld_here(None) {
        command.env_remove(name);
    }
    let in_child = || setsid().map(drop).map_err(io::Error::from);
    #[expect(unsafe_code, reason = "there is no other way to set a session between fork and exec")]
    // SAFETY: the closure only makes a system call, which is async-signal-safe; it neither allocates nor locks.
    unsafe {
        command.pre_exec(in_child);
    }
    let mut child = command.spawn().map_err(failed)?;
    // The child's end and the lock: they are its own from here on.
    drop(command);
    match tokio::time::timeout(PATIENCE, tell(ours, order)).await {
        Ok(Ok(Answer::Started)) => Ok(()),
        Ok(Ok(Answer::Refused { code, message })) => Err(refused(&code, message)),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => {
            child.kill().await.ok();
            Err(failed(io::ErrorKind::TimedOut.into()))
        }
    }
}

async fn tell(shim: UnixStream, order: &Order) -> io::Result<Answer> {
    shim.set_nonblocking(true)?;
    let mut shim = tokio::net::UnixStream::from_std(shim)?;
    let order = zeroize::Zeroizing::new(serde_json::to_vec(order)?);
    shim.write_all(&order).await?;
    shim.shutdown().await?;
    let mut answer = Vec::new();
    shim.read_to_end(&mut answer).await?;
    if answer.is_empty() {
        return Err(io::Error::other("its shim ended without a word"));
    }
    Ok(serde_json::from_slice(&answer)?)
}

/// The code as one of the constants that errors are made of.
fn refused(code: &str, message: String) -> ToolError {
    let code = if code == "SANDBOX_UNAVAILABLE" { "SANDBOX_UNAVAILABLE" } else { "COMMAND_FAILED" };
    ToolError { code, message }
}
