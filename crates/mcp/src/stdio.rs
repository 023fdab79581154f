//! A server that is a child process: a process group of its own, spoken to over its stdin and stdout.
//!
//! * It sees the variables it was given, and no others.
//! * Whatever it writes to stderr is drained, so that it never blocks, into a log of bounded size.
//! * Dropping the [`Child`] kills the whole group; [`Child::end`] asks first.

use std::{collections::BTreeMap, io, path::Path, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessGroup};
use rmcp::{RoleClient, transport::async_rw::AsyncRwTransport};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};

use crate::oversize::Answered;

/// What a child gets to end by itself, once when its input is closed and once after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) type StdioTransport = AsyncRwTransport<RoleClient, Answered<ChildStdout>, ChildStdin>;

#[derive(Debug)]
pub(crate) struct Child {
    process: Box<dyn ChildWrapper>,
    group: Option<Pid>,
}

/// A child that was started, and what is connected to it.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) transport: StdioTransport,
    pub(crate) stderr: ChildStderr,
}

pub(crate) fn start(
    program: &str,
    arguments: &[String],
    environment: &BTreeMap<String, String>,
    directory: Option<&Path>,
) -> io::Result<Started> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    let mut wrapped = CommandWrap::from(command);
    wrapped.wrap(ProcessGroup::leader());
    let mut process = wrapped.spawn()?;
    let (stdin, stdout, stderr) = (process.stdin().take(), process.stdout().take(), process.stderr().take());
    let group = process.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let child = Child { process, group };
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
