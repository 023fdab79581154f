//! A server that is a child process: a process group of its own, spoken to over its stdin and stdout.
//!
//! * It sees the variables it was given, and no others.
//! * Whatever it writes to stderr is drained, so that it never blocks, into a log of bounded size.
//! * Dropping the [`Child`] kills the whole group; [`Child::end`] asks first.
//! * One that is to be confined runs confined or not at all.

use std::{any::Any, io, path::Path, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessGroup};
use rmcp::{RoleClient, transport::async_rw::AsyncRwTransport};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};

use crate::{connection::ConnectError, host::Host, oversize::Answered, settings::Program};

/// What a child gets to end by itself, once when its input is closed and once after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) type StdioTransport = AsyncRwTransport<RoleClient, Answered<ChildStdout>, ChildStdin>;

#[derive(Debug)]
pub(crate) struct Child {
    process: Box<dyn ChildWrapper>,
    group: Option<Pid>,
    /// What its confinement needs until its end.
    _confinement: Option<Box<dyn Any + Send + Sync>>,
}

/// A child that was started, and what is connected to it.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) transport: StdioTransport,
    pub(crate) stderr: ChildStderr,
}

/// Starts it. Blocks.
pub(crate) fn start(program: &Program, host: &Host) -> Result<Started, ConnectError> {
    let mut command = Command::new(&program.command);
    command.args(&program.args).env_clear().envs(&program.env);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let directory = program.cwd.as_deref();
    let confinement = match &program.sandbox {
        Some(sandbox) => {
            let workspace: &Path = directory.unwrap_or(&host.workdir);
            command.current_dir(workspace);
            Some(host.confine.confine(&mut command, sandbox, workspace)?)
        }
        None => {
            directory.map(|directory| command.current_dir(directory));
            None
        }
    };
    spawn(command, confinement).map_err(|source| ConnectError::Start { program: program.command.clone(), source })
}

fn spawn(command: Command, confinement: Option<Box<dyn Any + Send + Sync>>) -> io::Result<Started> {
    let mut wrapped = CommandWrap::from(command);
    wrapped.wrap(ProcessGroup::leader());
    let mut process = wrapped.spawn()?;
    let (stdin, stdout, stderr) = (process.stdin().take(), process.stdout().take(), process.stderr().take());
    let group = process.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let child = Child { process, group, _confinement: confinement };
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(io::Error::other("the child has no pipes"));
    };
    Ok(Started { child, transport: AsyncRwTransport::new_client(Answered::new(stdout), stdin), stderr })
}

impl Child {
    /// Ends the group. Its input must be closed by now: a server ends by itself then.
    pub(crate) async fn end(mut self) {
        if tokio::time::timeout(GRACE, self.process.wait()).await.is_err() {
            self.signal(Signal::SIGTERM);
            let _ = tokio::time::timeout(GRACE, self.process.wait()).await;
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = killpg(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Also after its leader has gone: others of the group may be left.
        self.signal(Signal::SIGKILL);
    }
}
