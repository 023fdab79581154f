//! One process group, for a limited time.
//!
//! At the limit the group gets SIGTERM and [`GRACE`] later SIGKILL; it gets SIGKILL too when its leader has ended, and when
//! this future is dropped. Pipes are read all the time and not waited for after that, since a process that left the group may
//! hold them open for ever.

use std::{
    convert::Infallible,
    future::{Future, pending},
    io,
    pin::{Pin, pin},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use super::{GRACE, output::Capture};

/// For what is left in the pipes, and for a killed leader to be gone.
const AFTERMATH: Duration = Duration::from_millis(500);
/// An editor may have the file open for a moment.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(25);

/// A process that has ended, or that does not even end when killed.
#[derive(Debug)]
pub(super) struct Ended {
    /// None when it could not be waited for.
    pub(super) status: Option<ExitStatus>,
    pub(super) timed_out: bool,
    pub(super) stdout: Capture,
    pub(super) stderr: Capture,
}

/// Runs the command with an empty stdin; returns at most [`GRACE`] and twice [`AFTERMATH`] after `limit`.
pub(super) async fn run(mut command: Command, limit: Duration) -> io::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = spawn(&mut command).await?;
    let mut group = Group::of(&child)?;
    let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (status, timed_out) = {
        let reading = pin!(async {
            tokio::join!(stdout.drain(out), stderr.drain(err));
        });
        let mut reading = Reading { future: reading, is_done: false };
        let mut status = end_within(&mut child, &mut reading, limit).await?;
        let timed_out = status.is_none();
        if timed_out {
            group.signal(Signal::SIGTERM);
            status = end_within(&mut child, &mut reading, GRACE).await?;
        }
        group.end();
        if status.is_none() {
            status = end_within(&mut child, &mut reading, AFTERMATH).await?;
        }
        reading.rest(AFTERMATH).await;
        (status, timed_out)
    };
    Ok(Ended { status, timed_out, stdout, stderr })
}

async fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            spawned => return spawned,
        }
    }
}

/// None when it does not end in time.
async fn end_within(
    child: &mut Child,
    reading: &mut Reading<'_, impl Future<Output = ()>>,
    limit: Duration,
) -> io::Result<Option<ExitStatus>> {
    tokio::select! {
        biased;
        status = child.wait() => status.map(Some),
        () = tokio::time::sleep(limit) => Ok(None),
        never = reading.all_the_time() => match never {},
    }
}

/// The output as it comes.
struct Reading<'a, F> {
    future: Pin<&'a mut F>,
    is_done: bool,
}

impl<F: Future<Output = ()>> Reading<'_, F> {
    async fn all_the_time(&mut self) -> Infallible {
        self.read_on().await;
        pending().await
    }

    async fn rest(&mut self, limit: Duration) {
        tokio::time::timeout(limit, self.read_on()).await.ok();
    }

    async fn read_on(&mut self) {
        if !self.is_done {
            self.future.as_mut().await;
            self.is_done = true;
        }
    }
}

/// A process group of ours. Its number belongs to it until it is ended here, which is before the leader is reaped or in the
/// same breath, so that no other group can have got it.
#[derive(Debug)]
struct Group {
    leader: Option<Pid>,
}

impl Group {
    fn of(child: &Child) -> io::Result<Self> {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        leader.map(|leader| Self { leader: Some(leader) }).ok_or_else(|| io::Error::other("it has no process id"))
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            killpg(leader, signal).ok();
        }
    }

    fn end(&mut self) {
        self.signal(Signal::SIGKILL);
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}
