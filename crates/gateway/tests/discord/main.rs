//! The Discord adapter against a platform on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod receive;
mod send;
mod session;
mod sink;
mod threads;

use std::sync::Arc;

use stakpak_gateway::{
    Address, ApprovalButton, Body, Channel, ChannelError, GatewayCliFlags, GatewayConfig, OutboundReply,
    channels::DiscordChannel,
};
use stakpak_test_support::FakeDiscord;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::sink::Sink;

/// An adapter for the fake, with more keys of its table.
fn adapter(fake: &FakeDiscord, keys: &str) -> Arc<DiscordChannel> {
    adapter_with(fake, FakeDiscord::TOKEN, keys)
}

fn adapter_with(fake: &FakeDiscord, token: &str, keys: &str) -> Arc<DiscordChannel> {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("gateway.toml");
    let text = format!("[channels.discord]\ntoken = \"{token}\"\napi_base_url = \"{}\"\n{keys}\n", fake.base_url());
    std::fs::write(&file, text).unwrap();
    let config = GatewayConfig::load(&file, &GatewayCliFlags::default()).unwrap();
    Arc::new(DiscordChannel::new(&config.channels.discord.unwrap()).unwrap())
}

/// A receiving adapter.
struct Running {
    cancel: CancellationToken,
    task: JoinHandle<Result<(), ChannelError>>,
}

impl Running {
    fn start(channel: &Arc<DiscordChannel>, sink: &Arc<Sink>) -> Self {
        let cancel = CancellationToken::new();
        let (channel, sink, stop) = (Arc::clone(channel), Arc::clone(sink), cancel.clone());
        let task = tokio::spawn(async move { channel.start_durable(sink, stop).await });
        Self { cancel, task }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// A guild with a channel, and somebody to talk.
struct Scene {
    fake: FakeDiscord,
    ann: u64,
    guild: u64,
    ops: u64,
}

impl Scene {
    async fn new() -> Self {
        let fake = FakeDiscord::start().await;
        let ann = fake.person("Ann");
        let guild = fake.guild("company");
        let ops = fake.channel(guild, "ops");
        Self { fake, ann, guild, ops }
    }

    /// Waits until the adapter has begun a session.
    async fn ready(&self) {
        self.fake.wait_for("a session", |seen| seen.identifies.iter().any(|identify| identify.outcome.is_ok())).await;
    }
}

fn mention(text: &str) -> String {
    format!("<@{}> {text}", FakeDiscord::BOT)
}

fn address(chat: u64) -> Address {
    Address { channel: "discord".into(), chat: chat.to_string(), thread: None, direct: None }
}

fn reply(chat: u64, text: &str, key: &str) -> OutboundReply {
    OutboundReply { address: address(chat), body: Body::plain(text), reply_to: None, dedupe_key: key.to_owned() }
}

fn button(label: &str, data: &str, style: stakpak_gateway::ButtonStyle) -> ApprovalButton {
    ApprovalButton { label: label.to_owned(), callback_data: data.to_owned(), style }
}
