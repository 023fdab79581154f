//! G-P50: where no token may be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use serde_json::json;
use stakpak_gateway::{GatewayCliFlags, GatewayConfig};
use stakpak_test_support::{BotApi, DiscordCall, DiscordFault, FakeDiscord, Saying, SendFault, SlackApi, SlackFault};
use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt};

use support::line::{Line, TOKEN};

const ANN: i64 = 42;
const TELEGRAM_TOKEN: &str = "12345:telegram-token-of-the-test";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Every platform, with its tokens.
fn config(bot: &BotApi, slack: &SlackApi, discord: &FakeDiscord, ann: u64) -> String {
    format!(
        "[channels.telegram]\ntoken = \"{TELEGRAM_TOKEN}\"\napi_base_url = \"{}\"\nallow_users = [{ANN}]\n[channels.slack]\n\
         bot_token = \"{}\"\napp_token = \"{}\"\napi_base_url = \"{}\"\nallow_users = [\"{}\"]\n[channels.discord]\n\
         token = \"{}\"\napi_base_url = \"{}\"\nallow_users = [\"{ann}\"]\n",
        bot.base_url(),
        SlackApi::BOT_TOKEN,
        SlackApi::APP_TOKEN,
        slack.base_url(),
        SlackApi::ANN,
        FakeDiscord::TOKEN,
        discord.base_url()
    )
}

/// A log of every level of every library, the answers of the API, what is shown in chats, and configurations that are
/// printed: through messages both ways, and through failures of each platform.
#[tokio::test]
async fn no_token_is_told_anywhere() {
    let log = Log::default();
    let writer = log.clone();
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(LevelFilter::TRACE).with(layer))
        .unwrap();

    let (bot, slack, discord) = tokio::join!(BotApi::start(), SlackApi::start(), FakeDiscord::start());
    let ann = discord.person("Ann");
    let channel = discord.channel(discord.guild("company"), "ops");
    let config = config(&bot, &slack, &discord, ann);
    let line = Line::new(&config).await;
    bot.wait_for("a poll", |bot| (!bot.offsets().is_empty()).then_some(())).await;
    slack.wait_for_sockets(2).await;
    discord.wait_for("a session", |seen| seen.identifies.iter().any(|identify| identify.outcome.is_ok())).await;

    bot.say(ANN, "hello");
    line.agent.wait_for_messages(1).await;
    slack.write(Saying::new(&slack.dm(SlackApi::ANN), SlackApi::ANN, "hello"));
    line.agent.wait_for_messages(2).await;
    discord.say(discord.direct(ann), ann, "hello");
    line.agent.wait_for_messages(3).await;

    let mut told = String::new();
    let channel = channel.to_string();
    let targets = [
        ("telegram", json!({"chat_id": 99})),
        ("slack", json!({"channel": SlackApi::CHANNEL})),
        ("discord", json!({"channel_id": channel})),
    ];
    bot.fail_next(SendFault::AnswerCut);
    slack.fail_next("chat.postMessage", None, SlackFault::AnswerLost);
    discord.fail_next(DiscordCall::SendMessage, DiscordFault::ServerErrorBefore);
    for (platform, target) in &targets {
        let body = json!({"channel": platform, "target": target, "text": "first"});
        told += &format!("{:?}", line.call("POST", "/send", Some(&body)).await);
    }
    bot.fail_next(SendFault::Refused);
    slack.fail_next("chat.postMessage", None, SlackFault::Refused("channel_not_found"));
    discord.fail_next(DiscordCall::SendMessage, DiscordFault::Refused { status: 400, code: 50035 });
    for (platform, target) in &targets {
        let body = json!({"channel": platform, "target": target, "text": "second"});
        told += &format!("{:?}", line.call("POST", "/send", Some(&body)).await);
    }
    bot.revoke(true);
    slack.revoke_tokens(true);
    for (platform, target) in &targets[..2] {
        let body = json!({"channel": platform, "target": target, "text": "third"});
        told += &format!("{:?}", line.call("POST", "/send", Some(&body)).await);
    }
    for path in ["/status", "/channels", "/sessions", "/approvals", "/pairings"] {
        told += &line.call("GET", path, None).await.1.to_string();
    }
    for platform in line.gateway.channels() {
        told += &format!("{platform:?} {:?} {:?}", platform.test().await, platform.health());
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &config).unwrap();
    let config =
        GatewayConfig::load(file.path(), &GatewayCliFlags::default()).unwrap().with_server("http://[::1]", TOKEN);
    told += &format!("{config:?} {:?}", line.gateway);
    for sent in bot.sent() {
        told += &sent.text;
    }

    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("TRACE") && log.contains("a message was not sent"), "nothing was logged");
    assert!(told.contains("delivery_failed"), "nothing failed: {told}");
    for token in [TELEGRAM_TOKEN, SlackApi::BOT_TOKEN, SlackApi::APP_TOKEN, FakeDiscord::TOKEN, TOKEN] {
        let found = |place: &str, text: &str| {
            let at = text.lines().find(|line| line.contains(token));
            assert!(at.is_none(), "{token} is in {place}: {}", at.unwrap_or_default());
        };
        found("the log", &log);
        found("what is told", &told);
    }
}
