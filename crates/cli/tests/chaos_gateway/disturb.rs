//! What goes wrong besides the kills: answers lost, limits, refusals, delays, connections that end, repeated deliveries.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use stakpak_test_support::{DiscordCall, DiscordFault, GatewayFault, SendFault, SlackFault};

use crate::{history::Platform, people::People, world::World};

const POST: &str = "chat.postMessage";

/// What was done, by name.
pub type Done = BTreeMap<&'static str, usize>;

/// Sends of Telegram that were done and not answered.
pub const TELEGRAM_ANSWER_LOST: &str = "Telegram answers lost";

/// One thing at random.
pub fn disturb(world: &World, people: &People, rng: &mut Rng) -> &'static str {
    if rng.u8(..5) == 0 {
        people.redeliver_some(world, rng.usize(..people.count()));
        return "redeliveries";
    }
    match Platform::ALL[rng.usize(..3)] {
        Platform::Telegram => telegram(world, rng),
        Platform::Slack => slack(world, rng),
        Platform::Discord => discord(world, rng),
    }
}

fn telegram(world: &World, rng: &mut Rng) -> &'static str {
    let (fault, name) = match rng.u8(..3) {
        0 => (SendFault::RateLimited(1), "429s"),
        1 => (SendFault::BadGateway, "5xx before"),
        _ => (SendFault::AnswerLost, TELEGRAM_ANSWER_LOST),
    };
    world.telegram.fail_next(fault);
    name
}

fn slack(world: &World, rng: &mut Rng) -> &'static str {
    let fail = |fault, name| {
        world.slack.fail_next(POST, None, fault);
        name
    };
    match rng.u8(..10) {
        0 => fail(SlackFault::RateLimited(1), "429s"),
        1 => fail(SlackFault::ErrorBefore, "5xx before"),
        2 => fail(SlackFault::ErrorAfter, "5xx after"),
        3 => fail(SlackFault::AnswerLost, "answers cut"),
        4 => fail(SlackFault::Slow(Duration::from_millis(rng.u64(100..1500))), "delays"),
        5 => {
            world.slack.refresh_one_socket();
            "disconnects"
        }
        6 => {
            world.slack.refresh_sockets();
            "disconnects"
        }
        7 => {
            world.slack.drop_sockets();
            "connections dropped"
        }
        _ => {
            world.slack.lose_next_envelope();
            "events lost on the way"
        }
    }
}

fn discord(world: &World, rng: &mut Rng) -> &'static str {
    let fail = |fault, name| {
        world.discord.fail_next(DiscordCall::SendMessage, fault);
        name
    };
    let disturb = |fault, name| {
        world.discord.disturb(fault);
        name
    };
    match rng.u8(..9) {
        0 => fail(DiscordFault::RateLimited { retry_after: Duration::from_millis(700), global: false }, "429s"),
        1 => fail(DiscordFault::ServerErrorBefore, "5xx before"),
        2 => fail(DiscordFault::ServerErrorAfter, "5xx after"),
        3 => fail(DiscordFault::Slow(Duration::from_millis(rng.u64(100..1500))), "delays"),
        4 => fail(DiscordFault::AnswerLost, "answers lost"),
        5 => disturb(GatewayFault::Drop, "connections dropped"),
        6 => disturb(GatewayFault::Reconnect, "disconnects"),
        7 => disturb(GatewayFault::Close(4000), "connections dropped"),
        _ => disturb(GatewayFault::InvalidSession { resumable: false }, "sessions forgotten"),
    }
}
