//! People on three chat platforms, each in a direct chat with the bot, by turns on Telegram, Slack and Discord.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use stakpak_test_support::{BotApi, FakeDiscord, SlackApi};

use crate::{
    instance::Instance,
    stats::millis,
    target::{PATIENCE, TEXT},
};

/// Names for people, in the order of [`Room::platform`].
pub(crate) const PLATFORMS: [&str; 3] = ["Telegram", "Slack", "Discord"];
/// Between two looks at what has come; when it came is known without.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const FIRST_TELEGRAM_USER: i64 = 10_000;

/// The platforms.
#[derive(Debug)]
pub(crate) struct Chats {
    telegram: BotApi,
    slack: SlackApi,
    discord: FakeDiscord,
}

/// A direct chat.
#[derive(Debug, Clone)]
pub(crate) enum Room {
    Telegram { user: i64 },
    Slack { user: String, channel: String },
    Discord { person: u64, channel: u64 },
}

impl Chats {
    pub(crate) async fn start() -> Self {
        Self { telegram: BotApi::start().await, slack: SlackApi::start().await, discord: FakeDiscord::start().await }
    }

    /// `autopilot.toml` of an instance that talks to everybody.
    pub(crate) fn config(&self) -> String {
        let (telegram, slack, discord) = (self.telegram.base_url(), self.slack.base_url(), self.discord.base_url());
        let (bot, app, token) = (SlackApi::BOT_TOKEN, SlackApi::APP_TOKEN, FakeDiscord::TOKEN);
        format!(
            "[channels.telegram]\ntoken = \"123:token\"\napi_base_url = \"{telegram}\"\ndm_policy = \"open\"\n\
             [channels.slack]\nbot_token = \"{bot}\"\napp_token = \"{app}\"\napi_base_url = \"{slack}\"\ndm_policy = \"open\"\n\
             [channels.discord]\ntoken = \"{token}\"\napi_base_url = \"{discord}\"\ndm_policy = \"open\"\n"
        )
    }

    /// Waits until the instance hears from all platforms.
    pub(crate) async fn connected(&self, instance: &Instance) -> Result<()> {
        let (mut connection, deadline) = (instance.target.connect().await?, Instant::now() + PATIENCE);
        loop {
            // Until the gateway has started it is not available.
            let channels = connection.get("/v1/gateway/channels").await.unwrap_or_default();
            let listed = channels["channels"].as_array().map(Vec::as_slice).unwrap_or_default();
            if listed.len() == PLATFORMS.len() && listed.iter().all(|channel| channel["status"] == "connected") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the platforms are not connected: {channels}");
            }
            tokio::time::sleep(LOOK_EVERY * 10).await;
        }
    }

    /// So many people who have not spoken yet, by turns on each platform.
    pub(crate) fn rooms(&self, count: usize) -> Vec<Room> {
        (0..count).map(|index| self.room(index)).collect()
    }

    fn room(&self, index: usize) -> Room {
        match index % PLATFORMS.len() {
            0 => Room::Telegram { user: FIRST_TELEGRAM_USER.saturating_add_unsigned(index as u64) },
            1 => {
                let user = format!("U0P{index:05}");
                self.slack.add_person(&user, &format!("person {index}"));
                Room::Slack { channel: self.slack.dm(&user), user }
            }
            _ => {
                let person = self.discord.person(&format!("person-{index}"));
                Room::Discord { person, channel: self.discord.direct(person) }
            }
        }
    }

    /// Everybody says something, one after the other `over` some time. For each, in ms, how long the platform waited for an
    /// answer.
    pub(crate) async fn ask(&self, rooms: &[Room], over: Duration) -> Result<Vec<f64>> {
        let before: Vec<usize> = rooms.iter().map(|room| self.arrivals(room).len()).collect();
        let (began, mut asked) = (Instant::now(), Vec::new());
        let (deadline, mut answered) = (began + over + PATIENCE, vec![None; rooms.len()]);
        while answered.contains(&None) {
            while let Some(room) = rooms.get(asked.len())
                && began.elapsed() >= turn(asked.len(), rooms.len(), over)
            {
                asked.push(Instant::now());
                self.say(room);
            }
            if Instant::now() > deadline {
                let missing = answered.iter().filter(|answer| answer.is_none()).count();
                bail!("{missing} of {} messages are not answered", rooms.len());
            }
            tokio::time::sleep(LOOK_EVERY).await;
            for (index, at) in asked.iter().enumerate() {
                if answered[index].is_none() {
                    let arrived = self.arrivals(&rooms[index]).get(before[index]).copied();
                    answered[index] = arrived.map(|arrived| millis(arrived.duration_since(*at)));
                }
            }
        }
        Ok(answered.into_iter().flatten().collect())
    }

    fn say(&self, room: &Room) {
        match room {
            Room::Telegram { user } => drop(self.telegram.say(*user, TEXT)),
            Room::Slack { user, channel } => drop(self.slack.say(channel, user, TEXT)),
            Room::Discord { person, channel } => drop(self.discord.say(*channel, *person, TEXT)),
        }
    }

    fn arrivals(&self, room: &Room) -> Vec<Instant> {
        match room {
            Room::Telegram { user } => self.telegram.arrivals(*user),
            Room::Slack { channel, .. } => self.slack.arrivals(channel),
            Room::Discord { channel, .. } => self.discord.arrivals(*channel),
        }
    }
}

/// When it is the turn of one of many.
pub(crate) fn turn(index: usize, of: usize, over: Duration) -> Duration {
    over.mul_f64(index as f64 / of as f64)
}

impl Room {
    /// Index of its platform's name.
    pub(crate) fn platform(&self) -> usize {
        match self {
            Self::Telegram { .. } => 0,
            Self::Slack { .. } => 1,
            Self::Discord { .. } => 2,
        }
    }
}
