//! A Telegram to try things with: a person, 42, who types what is typed here. What the bot shows is printed.
//!
//! ```sh
//! cargo run -p stakpak-test-support --example telegram
//! ```
//!
//! `!Allow` presses the button of that name on the last message that has it.

use stakpak_test_support::{BotApi, SentMessage};
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    time::{Duration, sleep},
};

const PERSON: i64 = 42;

#[tokio::main]
async fn main() {
    let telegram = BotApi::start().await;
    println!("api_base_url = \"{}\"; you are {PERSON}", telegram.base_url());
    let mut lines = BufReader::new(stdin()).lines();
    let mut shown: Vec<SentMessage> = Vec::new();
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => said(&telegram, &line),
                Ok(None) | Err(_) => std::future::pending().await,
            },
            () = sleep(Duration::from_millis(100)) => show(&telegram, &mut shown),
        }
    }
}

fn said(telegram: &BotApi, line: &str) {
    let Some(label) = line.strip_prefix('!') else {
        telegram.say(PERSON, line);
        return;
    };
    let messages = telegram.messages(PERSON);
    let buttons = messages.iter().rev().flat_map(|message| message.buttons.iter().map(move |button| (message, button)));
    match buttons.into_iter().find(|(_, button)| button.label == label) {
        Some((message, button)) => drop(telegram.try_press(PERSON, message.message_id, PERSON, &button.data)),
        None => println!("there is no button {label}"),
    }
}

/// What the bot wrote or edited.
fn show(telegram: &BotApi, shown: &mut Vec<SentMessage>) {
    let now = telegram.messages(PERSON);
    for message in now.iter().filter(|message| message.from == BotApi::BOT) {
        if !shown.contains(message) {
            let buttons: Vec<_> = message.buttons.iter().map(|button| format!("[{}]", button.label)).collect();
            println!("bot {}: {} {}", message.message_id, message.text, buttons.join(" "));
        }
    }
    *shown = now;
}
