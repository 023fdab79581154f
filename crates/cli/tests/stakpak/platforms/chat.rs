//! One chat: what people say and press in it, and what the bot shows there, alike on all platforms.

use std::time::{Duration, Instant};

use serde_json::Value;
use stakpak_test_support::{FakeDiscord, Said, Saying, Words};

use super::{Person, Platform, Stage};
use crate::support::PATIENCE;

/// Somewhere to talk.
pub struct Chat<'a> {
    pub stage: &'a Stage,
    pub(super) platform: Platform,
    pub(super) room: String,
    /// On Telegram a topic; on Slack the message that a thread hangs on; on Discord a thread is a room.
    pub(super) thread: Option<String>,
    pub(super) is_direct: bool,
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
