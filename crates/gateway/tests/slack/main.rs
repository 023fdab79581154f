//! The Slack adapter against a workspace on a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod catch_up;
mod receiving;
mod sending;
#[path = "../support/sink.rs"]
mod sink;
mod tokens;

use std::sync::Arc;

use stakpak_gateway::{Channel, ChannelError, GatewayCliFlags, GatewayConfig, channels::SlackChannel};
use stakpak_test_support::SlackApi;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::sink::Sink;

/// The adapter with its defaults, and `more` keys.
fn adapter(base_url: &str, more: &str) -> SlackChannel {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("gateway.toml");
    let (bot, app) = (SlackApi::BOT_TOKEN, SlackApi::APP_TOKEN);
    let table = format!(
        "[channels.slack]\nbot_token = \"{bot}\"\napp_token = \"{app}\"\napi_base_url = \"{base_url}\"\n{more}\n"
    );
    std::fs::write(&file, table).unwrap();
    let config = GatewayConfig::load(&file, &GatewayCliFlags::default()).unwrap();
    SlackChannel::new(config.channels.slack.as_ref().unwrap()).unwrap()
}

/// A workspace, an adapter that receives from it, and what it received.
struct Stage {
    slack: SlackApi,
    channel: Arc<SlackChannel>,
    sink: Arc<Sink>,
    receiving: Option<Receiving>,
}

struct Receiving {
    cancel: CancellationToken,
    task: JoinHandle<Result<(), ChannelError>>,
}

impl Stage {
    async fn new() -> Self {
        Self::with("").await
    }

    async fn with(more: &str) -> Self {
        let slack = SlackApi::start().await;
        let channel = Arc::new(adapter(&slack.base_url(), more));
        let mut stage = Self { slack, channel, sink: Arc::default(), receiving: None };
        stage.start().await;
        stage
    }

    /// As after a start of the process: the adapter is another, the sink is the same.
    async fn restart(&mut self) {
        self.channel = Arc::new(adapter(&self.slack.base_url(), ""));
        self.start().await;
    }

    async fn start(&mut self) {
        let (channel, sink, cancel) = (Arc::clone(&self.channel), Arc::clone(&self.sink), CancellationToken::new());
        let stop = cancel.clone();
        let task = tokio::spawn(async move { channel.start_durable(sink, stop).await });
        self.receiving = Some(Receiving { cancel, task });
        self.slack.wait_for_sockets(2).await;
    }

    async fn stop(&mut self) {
        let Receiving { cancel, task } = self.receiving.take().unwrap();
        cancel.cancel();
        task.await.unwrap().unwrap();
        self.slack.wait_for_sockets(0).await;
    }

    /// Waits until some delivery of this message was acknowledged.
    async fn acked(&self, ts: &str) {
        self.slack
            .wait_for(&format!("an acknowledgement of {ts}"), |slack| {
                slack.envelopes().iter().any(|sent| sent.ts() == Some(ts) && sent.acked.is_some()).then_some(())
            })
            .await;
    }
}
