//! Keeps an adapter receiving: whatever ends it, it is started again after a wait.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{Channel, ChannelError, InboundSink, backoff::Backoff};

/// An adapter that ran this long was well; its next failure counts as the first.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// A refused token is not accepted a second later.
const REFUSED_TOKEN_PAUSE: Duration = Duration::from_secs(300);

/// Runs until cancelled.
pub(crate) async fn supervise(channel: Arc<dyn Channel>, inbound: Arc<dyn InboundSink>, cancel: CancellationToken) {
    let mut ordinary = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    // The other poller gives up after its own waits; insisting would only keep both from receiving.
    let mut conflict = Backoff::at_least(Duration::from_secs(30), Duration::from_secs(300));
    while !cancel.is_cancelled() {
        let started = Instant::now();
        let Err(error) = channel.start_durable(Arc::clone(&inbound), cancel.clone()).await else { return };
        channel.report_failure(&error);
        if started.elapsed() > HEALTHY_AFTER {
            ordinary.reset();
            conflict.reset();
        }
        let wait = match &error {
            ChannelError::Unauthorized { .. } | ChannelError::Setup { .. } | ChannelError::MissingScope { .. } => {
                REFUSED_TOKEN_PAUSE
            }
            ChannelError::Conflict { .. } => conflict.next(),
            ChannelError::RateLimited { retry_after } => *retry_after,
            _ => ordinary.next(),
        };
        tracing::warn!(channel = %channel.id(), error = %error, wait_s = wait.as_secs(), "channel stopped receiving");
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}
