//! A part that fails is started again, with growing pauses; the others do not notice.
//!
//! A part that cannot start is tried for ever. One that fails at its work again and again ends the process, in order: whoever
//! manages the service may start it anew, with another process.

use std::{
    any::Any,
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use stakpak_protocol::CheckState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// So many failures at work, within this time, are too many.
const MOST_FAILURES: usize = 5;
const WITHIN: Duration = Duration::from_secs(10 * 60);

/// How long a failure is shown, also once the part works again: longer than the longest pause before it is tried.
const SHOWN_FOR: Duration = Duration::from_secs(2 * 60);

/// Why a part ended.
#[derive(Debug)]
pub(super) enum Fault {
    /// It was not at work yet.
    Start(anyhow::Error),
    /// It was.
    Work(anyhow::Error),
}

/// Starts a part again and again, and tells how it goes. A cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Supervisor(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: &'static str,
    record: Mutex<Record>,
    /// Cancelled when it failed too often.
    gave_up: CancellationToken,
}

#[derive(Debug, Default)]
struct Record {
    /// Of any kind.
    last: Option<Instant>,
    /// At work, the oldest first.
    at_work: VecDeque<Instant>,
}

impl Supervisor {
    pub(super) fn new(name: &'static str) -> Self {
        Self(Arc::new(Shared { name, record: Mutex::default(), gave_up: CancellationToken::new() }))
    }

    /// Runs `part` until `stop`, or until it has failed too often; its own end, error or panic is logged and answered by another
    /// start.
    pub(super) async fn run<F>(&self, stop: CancellationToken, mut part: impl FnMut() -> F)
    where
        F: Future<Output = Result<(), Fault>>,
    {
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let ended = AssertUnwindSafe(async { part().await }).catch_unwind().await;
            if stop.is_cancelled() {
                return;
            }
            if self.failed(ended) {
                self.0.gave_up.cancel();
                return;
            }
            if begun.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Returns, with the reason, when the part failed too often.
    pub(super) async fn gave_up(&self) -> String {
        self.0.gave_up.cancelled().await;
        let minutes = WITHIN.as_secs() / 60;
        format!("the {} failed {MOST_FAILURES} times in {minutes} minutes; see the log", self.0.name)
    }

    /// What is told of the part, which says of itself that it is in that state: a failure is shown for a while.
    pub(super) fn judge(&self, state: CheckState) -> CheckState {
        let failed = self.record().last.is_some_and(|last| last.elapsed() < SHOWN_FOR);
        match state {
            CheckState::Starting if failed => CheckState::Failed,
            CheckState::Ok if failed => CheckState::Degraded,
            state => state,
        }
    }

    /// Takes note of how it ended; whether that was once too often.
    fn failed(&self, ended: Result<Result<(), Fault>, Box<dyn Any + Send>>) -> bool {
        let part = self.0.name;
        let was_at_work = match ended {
            Ok(Err(Fault::Start(error))) => {
                tracing::warn!(part, "cannot start; tried again: {error:#}");
                false
            }
            Ok(Err(Fault::Work(error))) => {
                tracing::error!(part, "failed; started again: {error:#}");
                true
            }
            Ok(Ok(())) => {
                tracing::error!(part, "ended by itself; started again");
                true
            }
            Err(panic) => {
                tracing::error!(part, "panicked; started again: {}", message(&*panic));
                true
            }
        };
        let now = Instant::now();
        let mut record = self.record();
        record.last = Some(now);
        if was_at_work {
            record.at_work.push_back(now);
        }
        record.at_work.retain(|failure| now - *failure < WITHIN);
        record.at_work.len() >= MOST_FAILURES
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a panic said, if it said something.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use anyhow::anyhow;

    use super::*;

    /// A-P24: neither a panic nor an error nor an early end is the end of a part; each start comes later than the one before, and
    /// the failure is shown until the part has worked for a while.
    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_is_started_again() {
        let (starts, stop, supervisor) = (AtomicU32::new(0), CancellationToken::new(), Supervisor::new("test"));
        let part = || {
            let (start, stop, supervisor) = (starts.fetch_add(1, Ordering::Relaxed), stop.clone(), supervisor.clone());
            async move {
                let shown =
                    [CheckState::Starting, CheckState::Ok, CheckState::Off].map(|state| supervisor.judge(state));
                match start {
                    0 => {
                        assert_eq!(shown, [CheckState::Starting, CheckState::Ok, CheckState::Off]);
                        panic!("on purpose")
                    }
                    1 => Err(Fault::Work(anyhow!("on purpose"))),
                    2 => Ok(()),
                    3 => Err(Fault::Start(anyhow!("on purpose"))),
                    _ => {
                        assert_eq!(shown, [CheckState::Failed, CheckState::Degraded, CheckState::Off]);
                        tokio::time::sleep(SHOWN_FOR).await;
                        assert_eq!(supervisor.judge(CheckState::Ok), CheckState::Ok);
                        stop.cancel();
                        Ok(())
                    }
                }
            }
        };
        let begun = Instant::now();
        supervisor.run(stop.clone(), part).await;
        assert_eq!((starts.load(Ordering::Relaxed), begun.elapsed()), (5, SHOWN_FOR + Duration::from_secs(15)));
        assert!(supervisor.gave_up().now_or_never().is_none());
    }

    /// Five failures in ten minutes are the end of the process; as many over a longer time are not, nor is a part that cannot start.
    #[tokio::test(start_paused = true)]
    async fn only_a_part_that_fails_at_its_work_again_and_again_gives_up() {
        let run = async |works_for: u64, fault: fn() -> Result<(), Fault>| {
            let (starts, supervisor) = (AtomicU32::new(0), Supervisor::new("test"));
            let stop = CancellationToken::new();
            let part = || {
                let (start, stop) = (starts.fetch_add(1, Ordering::Relaxed), stop.clone());
                async move {
                    if start == 20 {
                        stop.cancel();
                    }
                    tokio::time::sleep(Duration::from_secs(works_for)).await;
                    fault()
                }
            };
            supervisor.run(stop.clone(), part).await;
            (starts.load(Ordering::Relaxed), supervisor.gave_up().now_or_never().is_some())
        };
        assert_eq!(run(0, || panic!("on purpose")).await, (5, true));
        assert_eq!(run(100, || Err(Fault::Work(anyhow!("on purpose")))).await, (5, true));
        assert_eq!(run(200, || Err(Fault::Work(anyhow!("on purpose")))).await, (21, false));
        assert_eq!(run(0, || Err(Fault::Start(anyhow!("on purpose")))).await, (21, false));
    }
}
