//! What people do: the driver of a test.

use std::time::Instant;

use serde_json::{Value, json};

use super::{
    FakeDiscord, Shared,
    record::DiscordButton,
    world::{ChatChannel, Interaction, World, id_of, merge},
};

/// Flag of a message from which a thread was opened.
const HAS_THREAD: u64 = 1 << 5;

/// What somebody says.
#[derive(Debug, Clone)]
pub struct Said {
    text: String,
    reply_to: Option<u64>,
    files: Vec<(String, String, Vec<u8>)>,
    kind: u8,
    bot: bool,
    webhook: bool,
}

impl Said {
    /// An ordinary text. `<@id>` in it is a mention.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), reply_to: None, files: Vec::new(), kind: 0, bot: false, webhook: false }
    }

    /// As a reply, which mentions the author of what it answers.
    #[must_use]
    pub fn replying_to(self, message: u64) -> Self {
        Self { reply_to: Some(message), kind: 19, ..self }
    }

    /// With a file of this name, type and content.
    #[must_use]
    pub fn with_file(mut self, name: &str, mime: &str, content: &[u8]) -> Self {
        self.files.push((name.to_owned(), mime.to_owned(), content.to_vec()));
        self
    }

    /// Another type: 7 is "joined the server".
    #[must_use]
    pub fn of_kind(self, kind: u8) -> Self {
        Self { kind, ..self }
    }

    /// The speaker is another bot.
    #[must_use]
    pub fn by_bot(self) -> Self {
        Self { bot: true, ..self }
    }

    /// Through a webhook.
    #[must_use]
    pub fn by_webhook(self) -> Self {
        Self { webhook: true, ..self }
    }
}

impl FakeDiscord {
    /// A person. Their id.
    pub fn person(&self, name: &str) -> u64 {
        self.shared.update(|state| {
            let id = state.world.next_id();
            state.world.people.insert(id, name.to_owned());
            id
        })
    }

    /// A guild that the bot is in.
    pub fn guild(&self, name: &str) -> u64 {
        self.shared.update(|state| {
            let id = state.world.next_id();
            state.world.guilds.insert(id, name.to_owned());
            if let Some(guild) = state.world.guild_created(id) {
                state.world.dispatch("GUILD_CREATE", &guild);
            }
            id
        })
    }

    /// A text channel of a guild.
    pub fn channel(&self, guild: u64, name: &str) -> u64 {
        self.open(0, name, Some(guild), None, None)
    }

    /// A thread of a channel.
    pub fn thread(&self, parent: u64, name: &str) -> u64 {
        let guild = self.shared.state().world.channels.get(&parent).and_then(|channel| channel.guild);
        self.open(11, name, guild, Some(parent), None)
    }

    /// The direct chat with a person.
    pub fn direct(&self, person: u64) -> u64 {
        let existing = self.shared.state().world.direct(person);
        existing.unwrap_or_else(|| self.open(1, "", None, None, Some(person)))
    }

    /// The bot loses sight of a channel: calls for it get 50001.
    pub fn hide(&self, channel: u64) {
        self.shared.update(|state| {
            if let Some(channel) = state.world.channels.get_mut(&channel) {
                channel.hidden = true;
            }
        });
    }

    /// The bot may open no threads in a channel: calls for that get 50013.
    pub fn forbid_threads(&self, channel: u64) {
        self.shared.update(|state| {
            if let Some(channel) = state.world.channels.get_mut(&channel) {
                channel.threadless = true;
            }
        });
    }

    fn open(&self, kind: u8, name: &str, guild: Option<u64>, parent: Option<u64>, person: Option<u64>) -> u64 {
        self.shared.update(|state| state.world.open_channel(kind, name, guild, parent, person))
    }

    /// What a channel or thread is called.
    #[must_use]
    pub fn name_of(&self, channel: u64) -> Option<String> {
        self.shared.state().world.channels.get(&channel).map(|channel| channel.name.clone())
    }

    /// Somebody says a plain text. The id of the message.
    pub fn say(&self, channel: u64, person: u64, text: &str) -> u64 {
        self.speak(channel, person, &Said::new(text))
    }

    /// Somebody says something. The id of the message.
    ///
    /// # Panics
    /// If there is no such channel.
    pub fn speak(&self, channel: u64, person: u64, said: &Said) -> u64 {
        let shared = &self.shared;
        shared.update(|state| {
            assert!(state.world.channels.contains_key(&channel), "no channel {channel}");
            let id = state.world.next_id();
            let message = state.world.spoken(shared, id, channel, person, said);
            if let Some(channel) = state.world.channels.get_mut(&channel) {
                channel.messages.push(message);
            }
            state.world.announce("MESSAGE_CREATE", channel, id);
            id
        })
    }

    /// The author changes the text of a message.
    pub fn rewrite(&self, message: u64, text: &str) {
        self.shared.update(|state| {
            let Some(channel) = state.world.channel_of(message) else { return };
            if let Some(message) = state.world.message_mut(channel, message) {
                let edited = json!({ "content": text, "edited_timestamp": "2026-06-01T00:01:00.000000+00:00" });
                merge(message, edited);
            }
            state.world.announce("MESSAGE_UPDATE", channel, message);
        });
    }

    /// The last message of a person in a channel.
    #[must_use]
    pub fn last_said(&self, channel: u64) -> Option<u64> {
        let state = self.shared.state();
        let bot = Self::BOT.to_string();
        let mut messages = state.world.channels.get(&channel)?.messages.iter().rev();
        messages.find(|message| message["author"]["id"] != bot).map(message_id)
    }

    /// The platform tells of a message once more.
    pub fn redeliver(&self, message: u64) {
        self.shared.update(|state| {
            if let Some(channel) = state.world.channel_of(message) {
                state.world.announce("MESSAGE_CREATE", channel, message);
            }
        });
    }

    /// The platform sends an event of this name.
    pub fn dispatch(&self, name: &str, data: &Value) {
        self.shared.update(|state| state.world.dispatch(name, data));
    }

    /// Presses the button with this `custom_id` under a message of the bot. The id of the interaction.
    ///
    /// # Panics
    /// If the message has no such button now.
    #[expect(clippy::expect_used, reason = "a test that names an unknown button is wrong")]
    pub fn press(&self, message: u64, person: u64, custom_id: &str) -> u64 {
        self.try_press(message, person, custom_id).expect("a button of this custom id")
    }

    /// The same, if the button is still there.
    pub fn try_press(&self, message: u64, person: u64, custom_id: &str) -> Option<u64> {
        self.shared.update(|state| {
            let world = &mut state.world;
            let channel = world.channel_of(message).unwrap_or_default();
            let shown = world.message(channel, message).cloned().unwrap_or_default();
            buttons(&shown["components"]).iter().find(|button| button.custom_id == custom_id)?;
            let id = world.next_id();
            let token = format!("interaction-token-{id}");
            let mut data = json!({
                "id": id.to_string(), "application_id": FakeDiscord::APPLICATION.to_string(), "type": 3,
                "data": { "custom_id": custom_id, "component_type": 2, "id": 2 }, "token": token, "version": 1,
                "channel_id": channel.to_string(), "channel": world.channel(channel), "message": shown,
                "app_permissions": "274878008384", "locale": "en-US", "entitlements": [], "attachment_size_limit": 10_485_760,
                "authorizing_integration_owners": {}
            });
            match world.channels.get(&channel).and_then(|channel| channel.guild) {
                Some(guild) => {
                    let mut member = world.member(person);
                    member["permissions"] = json!("274878008384");
                    merge(&mut data, json!({ "guild_id": guild.to_string(), "member": member, "context": 0 }));
                }
                None => merge(&mut data, json!({ "user": world.user(person), "context": 1 })),
            }
            world.interactions.insert(id, Interaction { token, at: Instant::now(), answered: false });
            world.dispatch("INTERACTION_CREATE", &data);
            Some(id)
        })
    }

    /// All links to files that were given out stop working, as they do after a day.
    pub fn expire_links(&self) {
        self.shared.update(|state| state.world.link_age += 1);
    }

    /// Nonces are forgotten, as they are after some minutes.
    pub fn forget_nonces(&self) {
        self.shared.update(|state| state.world.forget_nonces());
    }
}

impl World {
    pub(super) fn direct(&self, person: u64) -> Option<u64> {
        self.channels.iter().find(|(_, channel)| channel.person == Some(person)).map(|(id, _)| *id)
    }

    pub(super) fn open_channel(
        &mut self,
        kind: u8,
        name: &str,
        guild: Option<u64>,
        parent: Option<u64>,
        person: Option<u64>,
    ) -> u64 {
        let id = self.next_id();
        let name = name.to_owned();
        let (messages, hidden, threadless) = (Vec::new(), false, false);
        self.add_channel(id, ChatChannel { kind, name, guild, parent, person, messages, hidden, threadless });
        id
    }

    /// Opens a thread from a message; both have the same id.
    pub(super) fn open_thread(&mut self, parent: u64, message: u64, name: &str) {
        let guild = self.channels.get(&parent).and_then(|channel| channel.guild);
        let (name, person, messages, hidden, threadless) = (name.to_owned(), None, Vec::new(), false, false);
        let parent_id = Some(parent);
        let thread = ChatChannel { kind: 11, name, guild, parent: parent_id, person, messages, hidden, threadless };
        self.add_channel(message, thread);
        if let Some(message) = self.message_mut(parent, message) {
            message["flags"] = json!(message["flags"].as_u64().unwrap_or_default() | HAS_THREAD);
        }
        self.announce("MESSAGE_UPDATE", parent, message);
    }

    fn add_channel(&mut self, id: u64, channel: ChatChannel) {
        let (kind, guild) = (channel.kind, channel.guild);
        self.channels.insert(id, channel);
        if let Some(channel) = self.channel(id).filter(|_| guild.is_some()) {
            self.dispatch(if kind == 11 { "THREAD_CREATE" } else { "CHANNEL_CREATE" }, &channel);
        }
    }

    fn spoken(&mut self, shared: &Shared, id: u64, channel: u64, person: u64, said: &Said) -> Value {
        let mut author = self.user(person);
        if said.bot {
            author["bot"] = json!(true);
        }
        let mut message = blank_message(id, channel, &author);
        let mut mentions: Vec<Value> = Vec::new();
        for user in self.people.keys().copied().chain([FakeDiscord::BOT]) {
            if said.text.contains(&format!("<@{user}>")) || said.text.contains(&format!("<@!{user}>")) {
                mentions.push(self.user(user));
            }
        }
        if let Some(answered) = said.reply_to {
            let original = self.message(channel, answered).cloned();
            if let Some(user) = original.as_ref().map(|original| original["author"].clone()) {
                mentions.push(user);
            }
            message["message_reference"] =
                json!({ "type": 0, "channel_id": channel.to_string(), "message_id": answered.to_string() });
            message["referenced_message"] = json!(original);
        }
        let files = said.files.iter().map(|(name, mime, content)| (name.as_str(), mime.as_str(), content.clone()));
        let attachments: Vec<Value> = files.map(|file| self.attach(shared, channel, file)).collect();
        let more = json!({
            "content": said.text, "type": said.kind, "mentions": mentions, "attachments": attachments
        });
        merge(&mut message, more);
        if said.webhook {
            message["webhook_id"] = json!(person.to_string());
        }
        message
    }

    /// Stores a file and describes it.
    pub(super) fn attach(
        &mut self,
        shared: &Shared,
        channel: u64,
        (name, mime, content): (&str, &str, Vec<u8>),
    ) -> Value {
        let id = self.next_id();
        let path = format!("attachments/{channel}/{id}/{name}");
        let size = content.len();
        self.files.insert(path.clone(), content);
        let url = format!("http://{}/{path}?ex={}", shared.address, self.link_age);
        json!({
            "id": id.to_string(), "filename": name, "content_type": mime, "size": size, "url": url, "proxy_url": url
        })
    }
}

/// A message without content.
pub(super) fn blank_message(id: u64, channel: u64, author: &Value) -> Value {
    json!({
        "id": id.to_string(), "channel_id": channel.to_string(), "author": author, "content": "", "type": 0,
        "timestamp": "2026-06-01T00:00:00.000000+00:00", "edited_timestamp": null, "tts": false,
        "mention_everyone": false, "mentions": [], "mention_roles": [], "attachments": [], "embeds": [],
        "pinned": false, "components": [], "flags": 0
    })
}

/// The buttons of all rows.
pub(super) fn buttons(rows: &Value) -> Vec<DiscordButton> {
    let rows = rows.as_array().into_iter().flatten();
    let components = rows.filter_map(|row| row["components"].as_array()).flatten();
    let button = |component: &Value| DiscordButton {
        label: component["label"].as_str().unwrap_or_default().to_owned(),
        custom_id: component["custom_id"].as_str().unwrap_or_default().to_owned(),
        style: component["style"].as_u64().unwrap_or_default(),
    };
    components.filter(|component| component["type"] == 2).map(button).collect()
}

/// The id that a message has.
pub(super) fn message_id(message: &Value) -> u64 {
    id_of(&message["id"]).unwrap_or_default()
}
