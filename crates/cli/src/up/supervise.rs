//! A part that fails is started again, with growing pauses; the others do not notice.

use std::{
    fmt::Display,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Runs `part` until `stop`; its own end, error or panic is logged and answered by another start.
pub(super) async fn supervise<F, E>(name: &'static str, stop: CancellationToken, mut part: impl FnMut() -> F)
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let ended = AssertUnwindSafe(part()).catch_unwind().await;
        if stop.is_cancelled() {
            return;
        }
        match ended {
            Ok(Ok(())) => tracing::warn!(part = name, "ended by itself; started again"),
            Ok(Err(error)) => tracing::warn!(part = name, %error, "failed; started again"),
            Err(_) => tracing::error!(part = name, "panicked; started again"),
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A-P24: neither a panic nor an error nor an early end is the end of a part; each start comes later than the one before.
    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_is_started_again() {
        let (starts, stop) = (AtomicU32::new(0), CancellationToken::new());
        let part = || {
            let (start, stop) = (starts.fetch_add(1, Ordering::Relaxed), stop.clone());
            async move {
                match start {
                    0 => panic!("on purpose"),
                    1 => Err("on purpose"),
                    2 => Ok(()),
                    _ => {
                        stop.cancel();
                        Ok(())
                    }
                }
            }
        };
        let begun = tokio::time::Instant::now();
        supervise("test", stop.clone(), part).await;
        assert_eq!((starts.load(Ordering::Relaxed), begun.elapsed().as_secs()), (4, 7));
    }
}
