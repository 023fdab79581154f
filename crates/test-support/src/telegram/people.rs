//! What people do: write, edit, press, open topics, upgrade groups.

use serde_json::{Value, json};

use super::{
    BotApi,
    record::{SentFile, SentMessage},
    rules::units,
    world::{World, chat_json, user_json},
};

/// What somebody says, and where.
#[derive(Debug, Clone)]
pub struct Words {
    chat: i64,
    user: i64,
    text: String,
    entities: Option<Value>,
    topic: Option<i64>,
    /// A thread of replies, which is no topic.
    thread: Option<i64>,
    reply_to: Option<i64>,
    file: Option<Attached>,
    album: Option<String>,
}

#[derive(Debug, Clone)]
struct Attached {
    kind: &'static str,
    name: Option<String>,
    mime: Option<String>,
    content: Vec<u8>,
}

impl Words {
    /// To the bot alone.
    #[must_use]
    pub fn direct(user: i64, text: &str) -> Self {
        Self::group(user, user, text)
    }

    /// In a group that the bot is in.
    #[must_use]
    pub fn group(chat: i64, user: i64, text: &str) -> Self {
        Self {
            chat,
            user,
            text: text.to_owned(),
            entities: None,
            topic: None,
            thread: None,
            reply_to: None,
            file: None,
            album: None,
        }
    }

    /// As a part of the album of this name.
    #[must_use]
    pub fn in_album(self, album: &str) -> Self {
        Self { album: Some(album.to_owned()), ..self }
    }

    /// In a topic of the group.
    #[must_use]
    pub fn in_topic(self, topic: i64) -> Self {
        Self { topic: Some(topic), ..self }
    }

    /// In a thread of replies of a group without topics.
    #[must_use]
    pub fn in_thread(self, thread: i64) -> Self {
        Self { thread: Some(thread), ..self }
    }

    /// In answer to a message of the chat.
    #[must_use]
    pub fn in_reply_to(self, message: i64) -> Self {
        Self { reply_to: Some(message), ..self }
    }

    /// With this form instead of what is found in the text.
    #[must_use]
    pub fn with_entities(self, entities: Value) -> Self {
        Self { entities: Some(entities), ..self }
    }

    /// With a photo, in two sizes; the text is its caption.
    #[must_use]
    pub fn with_photo(self, content: &[u8]) -> Self {
        self.with("photo", None, None, content)
    }

    /// With a file; the text is its caption.
    #[must_use]
    pub fn with_document(self, name: &str, mime: &str, content: &[u8]) -> Self {
        self.with("document", Some(name), Some(mime), content)
    }

    /// With a `voice`, `audio` or `video`; the text is its caption.
    #[must_use]
    pub fn with_media(self, kind: &'static str, mime: &str, content: &[u8]) -> Self {
        self.with(kind, None, Some(mime), content)
    }

    fn with(self, kind: &'static str, name: Option<&str>, mime: Option<&str>, content: &[u8]) -> Self {
        let (name, mime) = (name.map(str::to_owned), mime.map(str::to_owned));
        Self { file: Some(Attached { kind, name, mime, content: content.to_vec() }), ..self }
    }
}

impl BotApi {
    /// A person writes to the bot. The id of the update.
    pub fn say(&self, user: i64, text: &str) -> i64 {
        self.speak(Words::direct(user, text)).0
    }

    /// A person writes in a group that the bot is in. The id of the update.
    pub fn say_in_group(&self, group: i64, user: i64, text: &str) -> i64 {
        self.speak(Words::group(group, user, text)).0
    }

    /// The ids of the update and of the message.
    pub fn speak(&self, words: Words) -> (i64, i64) {
        let ids = {
            let mut world = self.state.world();
            let (message, json) = world.speak(words);
            (world.update("message", &json), message)
        };
        self.state.change();
        ids
    }

    /// A person changes a text they wrote. The id of the update.
    ///
    /// # Panics
    /// If there is no such message.
    pub fn edit(&self, chat: i64, message: i64, text: &str) -> i64 {
        let id = {
            let mut world = self.state.world();
            let message = found(world.chat(chat).message(message));
            message.edits.push(std::mem::replace(&mut message.text, text.to_owned()));
            let message = message.clone();
            let json = world.message_json(&message);
            world.update("edited_message", &json)
        };
        self.state.change();
        id
    }

    /// A person presses a button of a message. The id of the query.
    ///
    /// # Panics
    /// If there is no such button.
    #[expect(clippy::expect_used, reason = "a test that names an unknown button is wrong")]
    pub fn press(&self, chat: i64, message: i64, user: i64, data: &str) -> String {
        self.try_press(chat, message, user, data).expect("a button of this data")
    }

    /// The same, if the button is still there.
    pub fn try_press(&self, chat: i64, message: i64, user: i64, data: &str) -> Option<String> {
        let id = {
            let mut world = self.state.world();
            let message = found(world.chat(chat).message(message)).clone();
            message.buttons.iter().find(|button| button.data == data)?;
            let id = format!("{}", 9_000_000_000 + world.last_update);
            world.presses.insert(id.clone());
            let json = json!({
                "chat_instance": "1", "data": data, "from": user_json(user), "id": id,
                "message": world.message_json(&message)
            });
            world.update("callback_query", &json);
            id
        };
        self.state.change();
        Some(id)
    }

    /// A new topic of a group. Its id.
    pub fn open_topic(&self, group: i64) -> i64 {
        let mut world = self.state.world();
        let chat = world.chat(group);
        let topic = chat.next_message();
        chat.topics.insert(topic);
        topic
    }

    /// The topic is no more; messages to it are refused.
    pub fn delete_topic(&self, group: i64, topic: i64) {
        self.state.world().chat(group).topics.remove(&topic);
    }

    /// A group becomes a supergroup; the bot is told by both chats. The new id.
    pub fn upgrade(&self, group: i64) -> i64 {
        let to = self.upgrade_silently(group);
        {
            let mut world = self.state.world();
            for (chat, key, other) in [(group, "migrate_to_chat_id", to), (to, "migrate_from_chat_id", group)] {
                let id = world.chat(chat).next_message();
                let json = json!({
                    "chat": chat_json(chat, false), "date": 1_790_000_000, "from": user_json(1), "message_id": id,
                    key: other
                });
                world.update("message", &json);
            }
        }
        self.state.change();
        to
    }

    /// As [`BotApi::upgrade`], and what tells the bot is on its way for long.
    pub fn upgrade_silently(&self, group: i64) -> i64 {
        let to = -1_000_000_000_000 + group;
        self.state.world().chat(group).moved_to = Some(to);
        to
    }

    /// An update as the platform might send it. Its id.
    pub fn send_update(&self, kind: &str, content: &Value) -> i64 {
        let id = self.state.world().update(kind, content);
        self.state.change();
        id
    }
}

impl World {
    fn speak(&mut self, words: Words) -> (i64, Value) {
        let Words { chat, user, text, entities, topic, thread, reply_to, file, album } = words;
        let entities = entities.unwrap_or_else(|| found_entities(&text));
        let stored = file.map(|file| (self.store(&file.content), file));
        let sent = stored.as_ref().map(|(_, file)| SentFile {
            name: file.name.clone().unwrap_or_else(|| file.kind.to_owned()),
            content: file.content.clone(),
        });
        let mut message = SentMessage::new(chat, user, text);
        let room = self.chat(chat);
        message.message_id = room.next_message();
        (message.thread_id, message.reply_to, message.file, message.entities) = (topic, reply_to, sent, entities);
        room.messages.push(message.clone());
        let replied = reply_to.and_then(|id| room.message(id)).cloned();
        let mut json = self.message_json(&message);
        if let Some(thread) = thread {
            json["message_thread_id"] = thread.into();
        }
        if let Some(album) = album {
            json["media_group_id"] = album.into();
        }
        if let Some(replied) = replied {
            json["reply_to_message"] = self.message_json(&replied);
        }
        if let Some((id, file)) = stored {
            json[file.kind] = media(&id, &file, self);
        }
        (message.message_id, json)
    }
}

fn media(id: &str, file: &Attached, world: &mut World) -> Value {
    let mut described = json!({ "file_id": id, "file_size": file.content.len(), "file_unique_id": id });
    match file.kind {
        "photo" => {
            let small = world.store(b"small");
            let thumbnail =
                json!({ "file_id": small, "file_size": 5, "file_unique_id": small, "height": 90, "width": 90 });
            (described["height"], described["width"]) = (1280.into(), 960.into());
            return json!([thumbnail, described]);
        }
        "voice" | "audio" | "video" => described["duration"] = 3.into(),
        _ => {}
    }
    if let Some(name) = &file.name {
        described["file_name"] = name.clone().into();
    }
    if let Some(mime) = &file.mime {
        described["mime_type"] = mime.clone().into();
    }
    described
}

/// Commands and mentions, as the platform marks them.
fn found_entities(text: &str) -> Value {
    let mut entities = Vec::new();
    let mut offset = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        let name = word.trim_end().trim_end_matches([',', ':', '.', '?', '!']);
        let kind = match name.chars().next() {
            Some('/') => "bot_command",
            Some('@') => "mention",
            _ => "",
        };
        if !kind.is_empty() && name.len() > 1 {
            entities.push(json!({ "length": units(name), "offset": offset, "type": kind }));
        }
        offset += units(word);
    }
    if entities.is_empty() { Value::Null } else { entities.into() }
}

#[expect(clippy::panic, reason = "a test that speaks of what is not there is wrong")]
fn found<T>(message: Option<T>) -> T {
    match message {
        Some(message) => message,
        None => panic!("there is no such message"),
    }
}
