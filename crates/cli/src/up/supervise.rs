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
