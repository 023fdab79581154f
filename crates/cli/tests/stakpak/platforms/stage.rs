//! One home with all three platforms, and the places to talk on each of them.

use std::{collections::HashMap, path::PathBuf};

use serde_json::Value;
use stakpak_test_support::{BotApi, FakeDiscord, ScriptedLlm, SlackApi};

use super::Chat;
use crate::support::{Home, Up, until};

const TELEGRAM_GROUP: i64 = -100_500;

/// One home with all three platforms. In groups the bot has to be mentioned.
pub struct Stage {
    home: Home,
    pub telegram: BotApi,
    pub slack: SlackApi,
    pub discord: FakeDiscord,
    pub llm: ScriptedLlm,
    /// On Discord.
    pub(super) people: HashMap<Person, u64>,
    pub(super) channel: u64,
}

/// Who talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Person {
    /// Is allowed to.
    Ann,
    /// Nobody allowed him anything.
    Bob,
}

impl Person {
    /// On Telegram.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Ann => 42,
            Self::Bob => 77,
        }
    }

    /// On Slack.
    pub(super) fn member(self) -> &'static str {
        match self {
            Self::Ann => SlackApi::ANN,
            Self::Bob => SlackApi::BOB,
        }
    }
}

impl Stage {
    pub async fn new() -> Self {
        Self::with("", async |base_url| base_url).await
    }

    /// With more of `autopilot.toml`, and each platform where `reached` says for its own address.
    pub async fn with(settings: &str, mut reached: impl AsyncFnMut(String) -> String) -> Self {
        let (telegram, slack) = (BotApi::start().await, SlackApi::start().await);
        let (discord, llm, home) = (FakeDiscord::start().await, ScriptedLlm::start().await, Home::new());
        let ann = discord.person("ann");
        let people = HashMap::from([(Person::Ann, ann), (Person::Bob, discord.person("bob"))]);
        let channel = discord.channel(discord.guild("home"), "ops");
        home.write(
            "config.toml",
            &format!(
                "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
                llm.base_url()
            ),
        );
        let channels = format!(
            "{settings}\n\
             [channels.telegram]\ntoken = \"123:token\"\nallow_users = [{}]\napi_base_url = \"{}\"\nrequire_mention = true\n\
             [channels.slack]\nbot_token = \"{}\"\napp_token = \"{}\"\nallow_users = [\"{}\"]\napi_base_url = \"{}\"\n\
             [channels.discord]\ntoken = \"{}\"\nallow_users = [\"{ann}\"]\napi_base_url = \"{}\"\n",
            Person::Ann.number(),
            reached(telegram.base_url()).await,
            SlackApi::BOT_TOKEN,
            SlackApi::APP_TOKEN,
            SlackApi::ANN,
            reached(slack.base_url()).await,
            FakeDiscord::TOKEN,
            reached(discord.base_url()).await,
        );
        home.write("autopilot.toml", &channels);
        Self { home, telegram, slack, discord, llm, people, channel }
    }

    /// Started, and every platform heard of.
    pub async fn up(&self) -> Up {
        let up = self.home.up();
        self.slack.wait_for_sockets(2).await;
        self.discord.wait_for("the session", |seen| seen.identifies.iter().any(|one| one.outcome.is_ok())).await;
        until("the first poll", || (!self.telegram.offsets().is_empty()).then_some(()));
        up
    }

    /// Somewhere in the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    /// The chat of Ann and the bot.
    pub fn direct(&self, platform: Platform) -> Chat<'_> {
        let room = match platform {
            Platform::Telegram => Person::Ann.number().to_string(),
            Platform::Slack => self.slack.dm(SlackApi::ANN),
            Platform::Discord => self.discord.direct(self.people[&Person::Ann]).to_string(),
        };
        Chat { stage: self, platform, room, thread: None, is_direct: true }
    }

    /// A group, or a channel of the workspace or guild.
    pub fn group(&self, platform: Platform) -> Chat<'_> {
        let room = match platform {
            Platform::Telegram => TELEGRAM_GROUP.to_string(),
            Platform::Slack => SlackApi::CHANNEL.to_owned(),
            Platform::Discord => self.channel.to_string(),
        };
        Chat { stage: self, platform, room, thread: None, is_direct: false }
    }

    /// A thread of that channel, a topic of that group. On Slack it hangs on a message that mentions the bot.
    pub fn thread(&self, platform: Platform) -> Chat<'_> {
        let group = self.group(platform);
        match platform {
            Platform::Telegram => {
                let topic = self.telegram.open_topic(TELEGRAM_GROUP).to_string();
                Chat { thread: Some(topic), ..group }
            }
            Platform::Slack => {
                let root = group.mention("let us begin a thread");
                Chat { thread: Some(root), ..group }
            }
            Platform::Discord => Chat { room: self.discord.thread(self.channel, "below").to_string(), ..group },
        }
    }

    /// The conversations that the gateway knows: session by routing key.
    pub async fn sessions(up: &Up) -> HashMap<String, String> {
        let sessions = Self::ask(up, "sessions").await;
        let text = |session: &Value, key: &str| session[key].as_str().unwrap().to_owned();
        let sessions = sessions["sessions"].as_array().unwrap().iter();
        sessions.map(|session| (text(session, "routing_key"), text(session, "session_id"))).collect()
    }

    /// What the gateway's own API says.
    pub async fn ask(up: &Up, path: &str) -> Value {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.get(format!("{}/v1/gateway/{path}", up.url)).bearer_auth(&up.token);
        request.send().await.unwrap().json().await.unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Platform {
    Telegram,
    Slack,
    Discord,
}

pub const PLATFORMS: [Platform; 3] = [Platform::Telegram, Platform::Slack, Platform::Discord];
