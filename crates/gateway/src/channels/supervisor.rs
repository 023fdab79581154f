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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        Address, Capabilities, ChannelHealth, ChannelId, ChannelTestResult, DeliveryReceipt, InboundBatch,
        OutboundReply, StreamId,
    };

    /// Each of its attempts meets another poller.
    #[derive(Debug, Default)]
    struct Contested(AtomicU32);

    #[async_trait]
    impl Channel for Contested {
        fn id(&self) -> ChannelId {
            "telegram".into()
        }

        fn display_name(&self) -> &'static str {
            "Telegram"
        }

        fn capabilities(&self) -> Capabilities {
            unreachable!("nothing is sent")
        }

        async fn start_durable(&self, _: Arc<dyn InboundSink>, _: CancellationToken) -> Result<(), ChannelError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(ChannelError::Conflict { reason: "terminated by other getUpdates request".to_owned() })
        }

        async fn send_with_receipt(&self, _: OutboundReply) -> Result<DeliveryReceipt, ChannelError> {
            Err(self.cannot("send"))
        }

        async fn test(&self) -> Result<ChannelTestResult, ChannelError> {
            Err(self.cannot("be tested"))
        }

        fn health(&self) -> ChannelHealth {
            unreachable!("nobody asks")
        }

        fn report_failure(&self, _: &ChannelError) {}
    }

    #[derive(Debug)]
    struct NoSink;

    #[async_trait]
    impl InboundSink for NoSink {
        async fn accept(&self, _: InboundBatch) -> Result<(), ChannelError> {
            Ok(())
        }

        async fn position(&self, _: &StreamId) -> Result<Option<i64>, ChannelError> {
            Ok(None)
        }

        async fn positions(&self, _: &ChannelId, _: &str) -> Result<Vec<(String, i64)>, ChannelError> {
            Ok(Vec::new())
        }

        async fn takes_part(&self, _: &Address) -> Result<bool, ChannelError> {
            Ok(false)
        }
    }

    /// G-P9.
    #[tokio::test(start_paused = true)]
    async fn another_poller_is_not_fought_and_not_given_up_on() {
        let channel = Arc::new(Contested::default());
        let attempts = || channel.0.load(Ordering::Relaxed);
        let supervised =
            supervise(Arc::clone(&channel) as Arc<dyn Channel>, Arc::new(NoSink), CancellationToken::new());
        tokio::pin!(supervised);
        assert!(timeout(Duration::from_secs(60), &mut supervised).await.is_err());
        assert!((1..=3).contains(&attempts()), "{} attempts in a minute", attempts());
        assert!(timeout(Duration::from_secs(3600), &mut supervised).await.is_err());
        assert!(attempts() >= 10, "{} attempts in an hour", attempts());
    }
}
