//! One home with all three platforms, and the same way to talk on each of them.

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;
use stakpak_test_support::{BotApi, FakeDiscord, Said, Saying, ScriptedLlm, SlackApi, Words};

use crate::support::{Home, PATIENCE, Up, until};

const TELEGRAM_GROUP: i64 = -100_500;

/// One home with all three platforms. In groups the bot has to be mentioned.
pub struct Stage {
    home: Home,
    pub telegram: BotApi,
    pub slack: SlackApi,
    pub discord: FakeDiscord,
    pub llm: ScriptedLlm,
    /// On Discord.
    people: HashMap<Person, u64>,
    channel: u64,
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
    fn number(self) -> i64 {
        match self {
            Self::Ann => 42,
            Self::Bob => 77,
        }
    }

    /// On Slack.
    fn member(self) -> &'static str {
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

/// Somewhere to talk.
pub struct Chat<'a> {
    pub stage: &'a Stage,
    platform: Platform,
    room: String,
    /// On Telegram a topic; on Slack the message that a thread hangs on; on Discord a thread is a room.
    thread: Option<String>,
    is_direct: bool,
}

/// A message of the bot as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub id: String,
    pub text: String,
    pub buttons: Vec<Button>,
    pub file: Option<(String, String)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Button {
    pub label: String,
    payload: String,
}

impl Chat<'_> {
    /// The key that the routing rules give it (section 3).
    pub fn routing_key(&self) -> String {
        let platform = format!("{:?}", self.platform).to_lowercase();
        let (ann, room) = (self.stage.people[&Person::Ann], &self.room);
        match (self.platform, &self.thread) {
            (Platform::Telegram, _) if self.is_direct => format!("{platform}:dm:{}", Person::Ann.number()),
            (Platform::Slack, _) if self.is_direct => format!("{platform}:dm:{}", Person::Ann.member()),
            (Platform::Discord, _) if self.is_direct => format!("{platform}:dm:{ann}"),
            (Platform::Discord, _) if *room != self.stage.channel.to_string() => {
                format!("{platform}:thread:{}:{room}", self.stage.channel)
            }
            (_, Some(thread)) => format!("{platform}:thread:{room}:{thread}"),
            (_, None) => format!("{platform}:group:{room}"),
        }
    }

    /// Ann says it; the id of the message.
    pub fn say(&self, text: &str) -> String {
        self.speak(Person::Ann, text, None)
    }

    /// The same with the bot's name in front.
    pub fn mention(&self, text: &str) -> String {
        self.mention_by(Person::Ann, text)
    }

    pub fn mention_by(&self, person: Person, text: &str) -> String {
        match self.platform {
            Platform::Telegram => self.speak(person, &format!("@test_bot {text}"), None),
            Platform::Slack => {
                let saying = Saying::new(&self.room, person.member(), text).to_bot();
                self.stage.slack.write(match &self.thread {
                    Some(thread) => saying.in_thread(thread),
                    None => saying,
                })
            }
            Platform::Discord => self.speak(person, &format!("<@{}> {text}", FakeDiscord::BOT), None),
        }
    }

    /// Ann says it in a way that the bot listens to, wherever it is.
    pub fn ask(&self, text: &str) -> String {
        if self.is_direct { self.say(text) } else { self.mention(text) }
    }

    /// Ann sends a file: name, type, content.
    pub fn send_file(&self, text: &str, file: (&str, &str, &[u8])) -> String {
        self.speak(Person::Ann, text, Some(file))
    }

    fn speak(&self, person: Person, text: &str, file: Option<(&str, &str, &[u8])>) -> String {
        match self.platform {
            Platform::Telegram => {
                let mut words = Words::group(self.room.parse().unwrap(), person.number(), text);
                if let Some(topic) = &self.thread {
                    words = words.in_topic(topic.parse().unwrap());
                }
                if let Some((name, kind, content)) = file {
                    words = words.with_document(name, kind, content);
                }
                self.stage.telegram.speak(words).1.to_string()
            }
            Platform::Slack => {
                let mut saying = Saying::new(&self.room, person.member(), text);
                if let Some(thread) = &self.thread {
                    saying = saying.in_thread(thread);
                }
                if let Some((name, kind, content)) = file {
                    saying = saying.with_file(name, kind, content);
                }
                self.stage.slack.write(saying)
            }
            Platform::Discord => {
                let mut said = Said::new(text);
                if let Some((name, kind, content)) = file {
                    said = said.with_file(name, kind, content);
                }
                let (room, person) = (self.room.parse().unwrap(), self.stage.people[&person]);
                self.stage.discord.speak(room, person, &said).to_string()
            }
        }
    }

    /// What the bot showed here, oldest first.
    pub fn shown(&self) -> Vec<Shown> {
        match self.platform {
            Platform::Telegram => self.shown_by_telegram(),
            Platform::Slack => self.shown_by_slack(),
            Platform::Discord => self.shown_by_discord(),
        }
    }

    fn shown_by_telegram(&self) -> Vec<Shown> {
        let sent = self.stage.telegram.sent().into_iter();
        let topic = |thread: Option<i64>| thread.map(|id| id.to_string());
        let here = sent.filter(|sent| sent.chat_id.to_string() == self.room && topic(sent.thread_id) == self.thread);
        here.map(|sent| Shown {
            id: sent.message_id.to_string(),
            text: sent.text,
            buttons: sent.buttons.into_iter().map(|one| Button { label: one.label, payload: one.data }).collect(),
            file: sent.file.map(|file| (file.name, text(&file.content))),
        })
        .collect()
    }

    fn shown_by_slack(&self) -> Vec<Shown> {
        let sent = self.stage.slack.sent(&self.room).into_iter();
        let here = sent.filter(|sent| self.thread.is_none() || sent.thread_ts == self.thread);
        let files = self.stage.slack.files();
        here.map(|sent| {
            let file = files.iter().find(|file| sent.files.contains(&file.name));
            let (mut text, mut buttons) = (sent.text, Vec::new());
            read(&sent.blocks, &mut text, &mut buttons);
            Shown { id: sent.ts, text, buttons, file: file.map(|file| (file.name.clone(), self::text(&file.content))) }
        })
        .collect()
    }

    fn shown_by_discord(&self) -> Vec<Shown> {
        self.stage.discord.look(|seen| {
            let here = seen.messages.iter().filter(|message| message.channel.to_string() == self.room);
            here.map(|message| {
                let edit = seen.edits.iter().rfind(|edit| edit.message == message.id);
                let (text, buttons) =
                    edit.map_or((&message.content, &message.buttons), |edit| (&edit.content, &edit.buttons));
                let button = |label: &String, id: &String| Button { label: label.clone(), payload: id.clone() };
                Shown {
                    id: message.id.to_string(),
                    text: text.clone(),
                    buttons: buttons.iter().map(|one| button(&one.label, &one.custom_id)).collect(),
                    file: message.files.first().map(|(name, content)| (name.clone(), self::text(content))),
                }
            })
            .collect()
        })
    }

    /// What the bot said here, oldest first.
    pub fn heard(&self) -> Vec<String> {
        self.shown().into_iter().map(|shown| shown.text).collect()
    }

    /// Waits until the bot has said something with this in it.
    pub fn hears(&self, part: &str) -> String {
        self.sees(&format!("{part:?}"), |shown| shown.text.contains(part)).text
    }

    /// Waits until the bot shows such a message.
    pub fn sees(&self, what: &str, is_it: impl Fn(&Shown) -> bool) -> Shown {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown();
            if let Some(found) = shown.iter().find(|shown| is_it(shown)) {
                return found.clone();
            }
            assert!(Instant::now() < deadline, "no {what} on {:?} in {}: {shown:#?}", self.platform, self.room);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Somebody presses the button with this label.
    pub fn press(&self, person: Person, shown: &Shown, label: &str) {
        let button = shown.buttons.iter().find(|button| button.label == label);
        let payload = &button.unwrap_or_else(|| panic!("no {label} under {shown:?}")).payload;
        match self.platform {
            Platform::Telegram => {
                let (chat, message) = (self.room.parse().unwrap(), shown.id.parse().unwrap());
                self.stage.telegram.press(chat, message, person.number(), payload);
            }
            Platform::Slack => drop(self.stage.slack.press(&self.room, &shown.id, person.member(), payload)),
            Platform::Discord => {
                self.stage.discord.press(shown.id.parse().unwrap(), self.stage.people[&person], payload);
            }
        }
    }

    /// What a presser was told that nobody else can see.
    pub fn told_alone(&self, person: Person) -> Vec<String> {
        match self.platform {
            Platform::Telegram => {
                let answered = self.stage.telegram.answered().into_iter();
                answered.filter(|answer| answer.alert).map(|answer| answer.text).collect()
            }
            Platform::Slack => {
                let told = self.stage.slack.ephemeral().into_iter();
                let here = told.filter(|(room, user, _)| *room == self.room && user == person.member());
                here.map(|(.., text)| text).collect()
            }
            Platform::Discord => self.stage.discord.look(|seen| {
                let private = seen.followups.iter().filter(|followup| followup.ephemeral);
                private.map(|followup| followup.content.clone()).collect()
            }),
        }
    }
}

fn text(content: &[u8]) -> String {
    String::from_utf8(content.to_vec()).unwrap()
}

/// The words and the buttons of blocks.
fn read(blocks: &Value, text: &mut String, buttons: &mut Vec<Button>) {
    match blocks {
        Value::Array(blocks) => blocks.iter().for_each(|block| read(block, text, buttons)),
        Value::Object(block) if block.get("type").is_some_and(|kind| kind == "button") => {
            let label = blocks["text"]["text"].as_str().unwrap().to_owned();
            buttons.push(Button { label, payload: blocks["action_id"].as_str().unwrap().to_owned() });
        }
        Value::Object(block) => {
            for (key, value) in block {
                match value {
                    Value::String(words) if key == "text" => text.push_str(&format!("\n{words}")),
                    value => read(value, text, buttons),
                }
            }
        }
        _ => {}
    }
}
