//! The Telegram adapter against a Bot API server on a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod delivery;
mod receiving;
mod sending;
#[path = "../support/sink.rs"]
mod sink;

use std::sync::Arc;

use stakpak_gateway::{Address, Channel, ChannelError, GatewayCliFlags, GatewayConfig, channels::TelegramChannel};
use stakpak_test_support::BotApi;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::sink::Sink;

const ANN: i64 = 42;
const GROUP: i64 = -1001;

fn adapter(base_url: &str, more: &str) -> TelegramChannel {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("gateway.toml");
    let table = format!("[channels.telegram]\ntoken = \"1:x\"\napi_base_url = \"{base_url}\"\n{more}\n");
    std::fs::write(&file, table).unwrap();
    let config = GatewayConfig::load(&file, &GatewayCliFlags::default()).unwrap();
    TelegramChannel::new(config.channels.telegram.as_ref().unwrap()).unwrap()
}

/// A server, an adapter that receives from it, and what it received.
struct Stage {
    server: BotApi,
    channel: Arc<TelegramChannel>,
    sink: Arc<Sink>,
    receiving: Option<JoinHandle<Result<(), ChannelError>>>,
}

impl Stage {
    async fn new() -> Self {
        Self::with("").await
    }

    async fn with(more: &str) -> Self {
        let server = BotApi::start().await;
        let channel = Arc::new(adapter(&server.base_url(), more));
        let mut stage = Self { server, channel, sink: Arc::default(), receiving: None };
        stage.start();
        stage
    }

    fn start(&mut self) {
        let (channel, sink) = (Arc::clone(&self.channel), Arc::clone(&self.sink));
        let task = tokio::spawn(async move { channel.start_durable(sink, CancellationToken::new()).await });
        self.receiving = Some(task);
    }

    /// Where it is, without a last word.
    async fn kill(&mut self) {
        let receiving = self.receiving.take().unwrap();
        receiving.abort();
        assert!(receiving.await.is_err(), "it still received");
    }

    /// What ended it.
    async fn end(&mut self) -> ChannelError {
        self.receiving.take().unwrap().await.unwrap().unwrap_err()
    }
}

fn direct(user: i64) -> Address {
    Address { channel: "telegram".into(), chat: user.to_string(), thread: None, direct: Some(user.to_string().into()) }
}

fn group(chat: i64, topic: Option<i64>) -> Address {
    let thread = topic.map(|topic| topic.to_string());
    Address { channel: "telegram".into(), chat: chat.to_string(), thread, direct: None }
}
