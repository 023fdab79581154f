//! All platforms at once: what one refuses or holds up, and what of it others feel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stakpak_test_support::{BotApi, DiscordCall, DiscordFault, FakeDiscord, SendFault, SlackApi, SlackFault};

use support::line::Line;

const ANN: i64 = 42;
const BOB: i64 = 43;

fn telegram(bot: &BotApi) -> String {
    format!("[channels.telegram]\ntoken = \"1:x\"\napi_base_url = \"{}\"\n", bot.base_url())
}

async fn polled(bot: &BotApi) {
    bot.wait_for("a poll", |bot| (!bot.offsets().is_empty()).then_some(())).await;
}

/// Numbered lines with some form, so many that several messages are needed.
fn long(lines: usize) -> String {
    (0..lines).map(|number| format!("**line** ({number}) of a long text that needs several messages\n\n")).collect()
}

/// The numbers of the lines, as they were shown.
fn numbers(texts: &[String]) -> Vec<usize> {
    let of = |text: &String| -> Vec<usize> {
        let tail = text.split('(').skip(1).map(|rest| rest.split(')').next().unwrap().parse().unwrap());
        tail.collect()
    };
    texts.iter().flat_map(of).collect()
}

async fn post(line: &Line, channel: &str, target: Value, text: &str) -> u16 {
    line.call("POST", "/send", Some(&json!({"channel": channel, "target": target, "text": text}))).await.0
}

/// G-P40: a part that is refused in its form goes plain; one that is refused in any form is told, and what is behind it
/// arrives.
#[tokio::test]
async fn a_part_that_is_refused_goes_plain_and_later_parts_arrive() {
    let (bot, slack, discord) = tokio::join!(BotApi::start(), SlackApi::start(), FakeDiscord::start());
    let channel = discord.channel(discord.guild("company"), "ops");
    let line = Line::new(&format!(
        "{}[channels.slack]\nbot_token = \"{}\"\napp_token = \"{}\"\napi_base_url = \"{}\"\n[channels.discord]\n\
         token = \"{}\"\napi_base_url = \"{}\"\n",
        telegram(&bot),
        SlackApi::BOT_TOKEN,
        SlackApi::APP_TOKEN,
        slack.base_url(),
        FakeDiscord::TOKEN,
        discord.base_url()
    ))
    .await;
    polled(&bot).await;
    slack.wait_for_sockets(2).await;
    discord.wait_for("a session", |seen| seen.identifies.iter().any(|identify| identify.outcome.is_ok())).await;

    let on_telegram = async {
        let text = long(100);
        bot.fail_next(SendFault::Refused);
        assert_eq!(post(&line, "telegram", json!({"chat_id": ANN}), &text).await, 200);
        let sent = bot.sent();
        let texts: Vec<_> = sent.iter().map(|sent| sent.text.clone()).collect();
        assert_eq!(numbers(&texts), (0..100).collect::<Vec<_>>());
        assert!(sent.len() > 1 && sent[0].entities.is_null() && !sent[1].entities.is_null(), "{sent:#?}");
        (0..2).for_each(|_| bot.fail_next(SendFault::Refused));
        assert_eq!(post(&line, "telegram", json!({"chat_id": BOB}), &text).await, 502);
        let sent = bot.wait_for_sent(|all| numbers(&of_bob(all)).contains(&99)).await;
        assert_eq!(numbers(&of_bob(&sent)).last(), Some(&99));
        assert!(!numbers(&of_bob(&sent)).contains(&0));
    };
    let on_slack = async {
        let text = long(400);
        slack.fail_next("chat.postMessage", None, SlackFault::Refused("invalid_blocks"));
        assert_eq!(post(&line, "slack", json!({"channel": SlackApi::CHANNEL}), &text).await, 200);
        let sent = slack.sent(SlackApi::CHANNEL);
        let texts: Vec<_> = sent.iter().map(|sent| sent.text.clone()).collect();
        assert!(sent.len() > 1 && sent[0].blocks.is_null() && !sent[1].blocks.is_null(), "{sent:#?}");
        assert!(numbers(&texts).contains(&0) && numbers(&texts).contains(&399), "{texts:?}");
    };
    let on_discord = async {
        discord.fail_next(DiscordCall::SendMessage, DiscordFault::Refused { status: 400, code: 50035 });
        assert_eq!(post(&line, "discord", json!({"channel_id": channel.to_string()}), &long(100)).await, 502);
        discord.wait_for("the last part", |seen| seen.messages.iter().any(|it| it.content.contains("(99)"))).await;
    };
    tokio::join!(on_telegram, on_slack, on_discord);
}

fn of_bob(sent: &[stakpak_test_support::SentMessage]) -> Vec<String> {
    sent.iter().filter(|sent| sent.chat_id == BOB).map(|sent| sent.text.clone()).collect()
}

/// G-P42: one chat is told to wait for 20 seconds; others go on, and a shutdown meanwhile takes less than two.
#[tokio::test]
async fn a_chat_that_has_to_wait_holds_up_neither_others_nor_the_shutdown() {
    let bot = BotApi::start().await;
    let mut line = Line::new(&telegram(&bot)).await;
    polled(&bot).await;
    bot.flood(Some(ANN), 20);
    let refused = async {
        let is_asked = |bot: &BotApi| bot.calls().iter().any(|call| call.method == "sendmessage").then_some(());
        bot.wait_for("an attempt", is_asked).await;
    };
    let target = json!({"chat_id": ANN});
    tokio::select! {
        status = post(&line, "telegram", target, "first") => panic!("{status}"),
        () = refused => {}
    }
    let began = Instant::now();
    assert_eq!(post(&line, "telegram", json!({"chat_id": BOB}), "second").await, 200);
    line.stop().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(bot.sent().len(), 1, "the first one waits for the next start");
}
