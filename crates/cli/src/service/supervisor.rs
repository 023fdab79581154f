//! Starts `up` again when it fails, slower and slower, and gives up when it fails again and again.

use std::{
    collections::VecDeque,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, setsid},
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use super::{
    Service, environment,
    process::{Report, log},
};
use crate::{
    home::Home,
    instance::{Lock, Owner, Seat},
};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// So many failures within this time are too many.
const MOST_FAILURES: usize = 10;
const WINDOW: Duration = Duration::from_secs(600);

/// Until the process ends well, is stopped, or is given up.
pub(crate) async fn supervise(home: &Home) -> Result<()> {
    // Fails only for what is a leader already, such as what a person starts by hand.
    let _ = setsid();
    let Owner::Us(_lock) = Lock::acquire(home, Seat::Supervisor)? else {
        bail!("another supervisor is running");
    };
    let service = Service::installed(home).context("no service is installed; `stakpak up -d` installs it")?;
    let mut report = Report { pid: std::process::id().cast_signed(), ..Report::default() };
    let mut stop = StopSignals::new()?;
    let mut failures = Failures::default();
    loop {
        report.starts += 1;
        report.write(home)?;
        let mut child = spawn(&service, home)?;
        let status = tokio::select! {
            status = child.wait() => status?,
            () = stop.next() => {
                pass_on(&child);
                loop {
                    tokio::select! {
                        status = child.wait() => break status?,
                        () = stop.next() => pass_on(&child),
                    }
                };
                return Ok(());
            }
        };
        if status.success() {
            return Ok(());
        }
        report.last_exit = Some(words(status));
        let Some(pause) = failures.pause(Instant::now()) else {
            report.gave_up = true;
            report.write(home)?;
            bail!("it failed {MOST_FAILURES} times in {} minutes and is not started again", WINDOW.as_secs() / 60);
        };
        report.write(home)?;
        eprintln!("stakpak ended with {}; it is started again in {} s", words(status), pause.as_secs());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.next() => return Ok(()),
        }
    }
}

fn spawn(service: &Service, home: &Home) -> Result<Child> {
    let log = log(home)?;
    let mut command = Command::new(&service.binary);
    command.args(&service.args).current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // As under a service manager: nothing of the shell that it was installed from.
    command.env_clear().envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("PATH", &service.path).envs(environment::read(home)?);
    command.spawn().with_context(|| format!("cannot start {}", service.binary.display()))
}

/// What every login has.
const KEPT: [&str; 8] = ["HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "XDG_RUNTIME_DIR"];

fn pass_on(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

fn words(status: ExitStatus) -> String {
    status.to_string()
}

/// When it failed lately.
#[derive(Debug, Default)]
struct Failures(VecDeque<Instant>);

impl Failures {
    /// How long to wait after one more; none when that is one too many.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        self.0.retain(|failure| now.duration_since(*failure) < WINDOW);
        self.0.push_back(now);
        if self.0.len() >= MOST_FAILURES {
            return None;
        }
        let doubled = u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX);
        Some(FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doubled)).min(LONGEST_PAUSE))
    }
}

struct StopSignals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

impl StopSignals {
    fn new() -> Result<Self> {
        Ok(Self(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_too_many_failures_end_it() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let pauses: Vec<_> = (0..10).map(|second| failures.pause(start + Duration::from_secs(second))).collect();
        let seconds: Vec<_> = pauses.iter().map(|pause| pause.map(|pause| pause.as_secs())).collect();
        let expected = [1, 2, 4, 8, 16, 32, 60, 60, 60].map(Some);
        assert_eq!(seconds, [&expected[..], &[None]].concat());
    }

    #[test]
    fn failures_of_long_ago_are_forgotten() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for hour in 0..100 {
            assert_eq!(failures.pause(start + Duration::from_secs(3600 * hour)), Some(FIRST_PAUSE));
        }
    }
}
