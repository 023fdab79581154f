//! Telegram, Slack and Discord at once through the built binary: who is answered where, and in which session.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use stakpak_test_support::{BotApi, FakeDiscord, Gate, Reply, Said, Saying, ScriptedLlm, SlackApi};

use crate::support::{Home, Up, until};

const TELEGRAM_USER: i64 = 42;
const TELEGRAM_GROUP: i64 = -100_500;

/// One home with all three platforms.
pub struct Stage {
    home: Home,
    pub telegram: BotApi,
    pub slack: SlackApi,
    pub discord: FakeDiscord,
    pub llm: ScriptedLlm,
    /// On Discord.
    ann: u64,
    channel: u64,
}

impl Stage {
    async fn new() -> Self {
        Self::with("", async |base_url| base_url).await
    }

    /// With more of `autopilot.toml`, and each platform where `reached` says for its own address.
    pub async fn with(settings: &str, mut reached: impl AsyncFnMut(String) -> String) -> Self {
        let (telegram, slack) = (BotApi::start().await, SlackApi::start().await);
        let (discord, llm, home) = (FakeDiscord::start().await, ScriptedLlm::start().await, Home::new());
        let ann = discord.person("ann");
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
             [channels.telegram]\ntoken = \"123:token\"\nallow_users = [{TELEGRAM_USER}]\napi_base_url = \"{}\"\n\
             [channels.slack]\nbot_token = \"{}\"\napp_token = \"{}\"\nallow_users = [\"{}\"]\napi_base_url = \"{}\"\n\
             [channels.discord]\ntoken = \"{}\"\nallow_users = [\"{ann}\"]\napi_base_url = \"{}\"\n",
            reached(telegram.base_url()).await,
            SlackApi::BOT_TOKEN,
            SlackApi::APP_TOKEN,
            SlackApi::ANN,
            reached(slack.base_url()).await,
            FakeDiscord::TOKEN,
            reached(discord.base_url()).await,
        );
        home.write("autopilot.toml", &channels);
        Self { home, telegram, slack, discord, llm, ann, channel }
    }

    /// Started, and every platform heard of.
    pub async fn up(&self) -> Up {
        let up = self.home.up();
        self.slack.wait_for_sockets(2).await;
        self.discord.wait_for("the session", |seen| seen.identifies.iter().any(|one| one.outcome.is_ok())).await;
        until("the first poll", || (!self.telegram.offsets().is_empty()).then_some(()));
        up
    }

    pub fn direct(&self, platform: Platform) -> Chat<'_> {
        let (room, thread) = match platform {
            Platform::Telegram => (TELEGRAM_USER.to_string(), None),
            Platform::Slack => (self.slack.dm(SlackApi::ANN), None),
            Platform::Discord => (self.discord.direct(self.ann).to_string(), None),
        };
        Chat { stage: self, platform, room, thread }
    }

    async fn sessions(up: &Up) -> Vec<Value> {
        Self::ask(up, "sessions").await["sessions"].as_array().unwrap().clone()
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

/// Somewhere to talk.
pub struct Chat<'a> {
    stage: &'a Stage,
    platform: Platform,
    room: String,
    /// On Slack the message that a thread hangs on; on Discord a thread is a room.
    thread: Option<String>,
}

impl Chat<'_> {
    /// Somebody who is allowed says it; the id of the message.
    pub fn say(&self, text: &str) -> String {
        match self.platform {
            Platform::Telegram => match self.room.parse().unwrap() {
                TELEGRAM_USER => self.stage.telegram.say(TELEGRAM_USER, text).to_string(),
                group => self.stage.telegram.say_in_group(group, TELEGRAM_USER, text).to_string(),
            },
            Platform::Slack => {
                let saying = Saying::new(&self.room, SlackApi::ANN, text);
                self.stage.slack.write(match &self.thread {
                    Some(thread) => saying.in_thread(thread),
                    None => saying,
                })
            }
            Platform::Discord => self.stage.discord.say(self.room.parse().unwrap(), self.stage.ann, text).to_string(),
        }
    }

    /// The same with the bot's name in front.
    fn mention(&self, text: &str) -> String {
        match self.platform {
            Platform::Telegram => self.say(&format!("@test_bot {text}")),
            Platform::Slack => self.stage.slack.mention(&self.room, SlackApi::ANN, text),
            Platform::Discord => self.say(&format!("<@{}> {text}", FakeDiscord::BOT)),
        }
    }

    /// What the bot said here, oldest first.
    pub fn heard(&self) -> Vec<String> {
        match self.platform {
            Platform::Telegram => {
                let sent = self.stage.telegram.sent();
                let here = sent.into_iter().filter(|sent| sent.chat_id.to_string() == self.room);
                here.map(|sent| sent.text).collect()
            }
            Platform::Slack => {
                let sent = self.stage.slack.sent(&self.room);
                let here = sent.into_iter().filter(|sent| self.thread.is_none() || sent.thread_ts == self.thread);
                here.map(|sent| format!("{}{}", sent.text, sent.blocks)).collect()
            }
            Platform::Discord => self.stage.discord.look(|seen| {
                let here = seen.messages.iter().filter(|message| message.channel.to_string() == self.room);
                here.map(|message| message.content.clone()).collect()
            }),
        }
    }

    /// Waits until the bot has said something with this in it.
    pub fn hears(&self, part: &str) -> String {
        let what = format!("{part:?} on {:?} in {}", self.platform, self.room);
        until(&what, || self.heard().into_iter().find(|text| text.contains(part)))
    }
}

/// Section 3 of the routing rules, on all platforms at the same time: each chat and thread is a session of its own, and is
/// answered where it was asked.
#[tokio::test(flavor = "multi_thread")]
async fn three_platforms_at_once_answer_each_chat_in_its_own_session() {
    let stage = Stage::new().await;
    let up = stage.up().await;
    let mut expected = BTreeSet::new();
    for platform in PLATFORMS {
        stage.direct(platform).say(&format!("direct {platform:?}"));
    }
    expected.insert(format!("telegram:dm:{TELEGRAM_USER}"));
    expected.insert(format!("slack:dm:{}", SlackApi::ANN));
    expected.insert(format!("discord:dm:{}", stage.ann));

    let group = Chat { stage: &stage, platform: Platform::Telegram, room: TELEGRAM_GROUP.to_string(), thread: None };
    group.say("in the group");
    expected.insert(format!("telegram:group:{TELEGRAM_GROUP}"));

    let mut thread =
        Chat { stage: &stage, platform: Platform::Slack, room: SlackApi::CHANNEL.to_owned(), thread: None };
    let root = thread.mention("in the channel");
    thread.thread = Some(root.clone());
    thread.hears("in the channel");
    thread.say("in its thread, without a mention");
    expected.insert(format!("slack:thread:{}:{root}", SlackApi::CHANNEL));

    let guild_channel =
        Chat { stage: &stage, platform: Platform::Discord, room: stage.channel.to_string(), thread: None };
    guild_channel.say("to nobody");
    guild_channel.mention("in the guild");
    expected.insert(format!("discord:group:{}", stage.channel));
    let below = stage.discord.thread(stage.channel, "below");
    let guild_thread = Chat { room: below.to_string(), ..guild_channel };
    guild_thread.mention("in a thread of the guild");
    expected.insert(format!("discord:thread:{}:{below}", stage.channel));

    for platform in PLATFORMS {
        stage.direct(platform).hears(&format!("direct {platform:?}"));
    }
    group.hears("in the group");
    thread.hears("in its thread");
    guild_thread.hears("in a thread of the guild");
    let guild_channel = Chat { room: stage.channel.to_string(), ..guild_thread };
    guild_channel.hears("in the guild");
    assert_eq!(guild_channel.heard().len(), 1, "who did not mention the bot is not answered");

    let sessions = Stage::sessions(&up).await;
    let text = |key: &str| -> Vec<String> {
        sessions.iter().map(|session| session[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(text("routing_key").into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(text("session_id").into_iter().collect::<BTreeSet<_>>().len(), expected.len());
    let asked = stage.llm.requests();
    let thread_asked = asked.iter().find(|asked| asked.body.to_string().contains("in its thread")).unwrap();
    assert!(thread_asked.body.to_string().contains("in the channel"), "the thread goes on with its first message");
}

/// G-P39: a long answer with code arrives whole and in parts that each platform takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_with_code_arrives_whole_on_each_platform() {
    let stage = Stage::new().await;
    let _up = stage.up().await;
    let code: Vec<String> = (0..150).map(|line| format!("let value_{line:03} = compute({line});")).collect();
    let answer = format!("# Result\n\nThis is **it**:\n\n```rust\n{}\n```\n\nThat is all.", code.join("\n"));
    stage.llm.always(Reply::text([answer]));
    for platform in PLATFORMS {
        stage.direct(platform).say("show me");
    }
    for platform in PLATFORMS {
        let chat = stage.direct(platform);
        chat.hears("That is all.");
        let heard = chat.heard();
        for line in &code {
            let name = line.split(' ').nth(1).unwrap();
            let places = heard.iter().filter(|text| text.contains(name)).count();
            assert_eq!(places, 1, "{line} on {platform:?}: {heard:#?}");
        }
        if platform == Platform::Discord {
            for part in &heard {
                assert_eq!(part.matches("```").count() % 2, 0, "a fence is left open: {part}");
            }
        }
        if platform != Platform::Slack {
            assert!(heard.iter().all(|part| part.encode_utf16().count() <= 4096), "{heard:#?}");
            assert!(!heard.iter().all(|part| part.contains("That is all.")), "{heard:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_with_a_message_reaches_the_model() {
    let stage = Stage::new().await;
    let _up = stage.up().await;
    let file = b"the pool is exhausted";
    let saying = Saying::new(&stage.slack.dm(SlackApi::ANN), SlackApi::ANN, "look at this, Slack");
    stage.slack.write(saying.with_file("a.log", "text/plain", file));
    let said = Said::new("look at this, Discord").with_file("b.log", "text/plain", file);
    stage.discord.speak(stage.discord.direct(stage.ann), stage.ann, &said);
    for platform in [Platform::Slack, Platform::Discord] {
        stage.direct(platform).hears("look at this");
    }
    let asked = stage.llm.requests();
    for (name, platform) in [("a.log", "Slack"), ("b.log", "Discord")] {
        let bodies: Vec<String> = asked.iter().map(|asked| asked.body.to_string()).collect();
        let there = bodies
            .iter()
            .any(|body| body.contains(platform) && body.contains(name) && body.contains("the pool is exhausted"));
        assert!(there, "{name}: {bodies:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_on_each_platform() {
    let stage = Stage::new().await;
    let up = stage.up().await;
    for platform in PLATFORMS {
        let chat = stage.direct(platform);
        chat.say("zebra");
        chat.hears("zebra");
        let session = |sessions: Vec<Value>| {
            let name = format!("{platform:?}").to_lowercase();
            let found = sessions.into_iter().find(|session| session["channel"] == name.as_str()).unwrap();
            found["session_id"].as_str().unwrap().to_owned()
        };
        let old = session(Stage::sessions(&up).await);

        // What is said first is forgotten with the session.
        chat.say("/new");
        chat.hears("A new session begins");
        let asked = stage.llm.requests().len();
        chat.say("afterwards");
        chat.hears("afterwards");
        assert!(!stage.llm.requests()[asked].body.to_string().contains("zebra"), "{platform:?}");
        assert_ne!(session(Stage::sessions(&up).await), old, "{platform:?}");

        // A run that would never end.
        let gate = Gate::new();
        stage.llm.push(Reply::text(["half"]).then_wait(&gate));
        let asked = stage.llm.requests().len();
        chat.say("work for ever");
        stage.llm.wait_for_requests(asked + 1).await;
        chat.say("/status");
        chat.hears("Waiting: 0");
        chat.say("/stop");
        chat.hears("Stopping the run");
        chat.hears("The run was cancelled");
        chat.say("once more");
        chat.hears("once more");
    }
}

/// G-P3: what Slack delivered late, and its successor, wait behind a run: they are answered as they were written.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_late_keeps_its_place_among_those_that_wait() {
    let stage = Stage::new().await;
    let _up = stage.up().await;
    stage.slack.set_ack_wait(Duration::from_millis(300));
    let chat = stage.direct(Platform::Slack);
    let gate = Gate::new();
    stage.llm.push(Reply::text(["the first"]).then_wait(&gate));
    chat.say("one");
    stage.llm.wait_for_requests(1).await;
    stage.slack.lose_next_envelope();
    let late = chat.say("two");
    let early = chat.say("three");
    let taken = async |ts: &str| stage.slack.wait_for("it is taken", |slack| slack.acknowledged(ts)).await;
    let order = (taken(&early).await, taken(&late).await);
    assert!(order.0 < order.1, "the second came after the third");
    gate.open();
    chat.hears("two");
    chat.hears("three");
    let heard = chat.heard();
    let place = |word: &str| heard.iter().position(|text| text.contains(word)).unwrap();
    assert!(place("two") < place("three"), "{heard:#?}");
}
