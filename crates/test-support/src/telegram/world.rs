//! What the server knows.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    BotApi,
    faults::Faults,
    record::{AnsweredPress, BotCall, SentMessage},
};

#[derive(Debug)]
pub(super) struct World {
    pub(super) updates: VecDeque<Value>,
    pub(super) confirmed: Vec<Value>,
    /// Number of the last update.
    pub(super) last_update: i64,
    /// Kinds of updates that the bot asked for last; none: all.
    pub(super) wanted: Option<Vec<String>>,
    pub(super) offsets: Vec<Option<i64>>,
    pub(super) polls: u64,
    /// Another process polls whenever this one does.
    pub(super) contested: bool,
    pub(super) webhook: bool,
    pub(super) revoked: bool,
    /// Methods that this server does not have.
    pub(super) without: HashSet<String>,
    pub(super) chats: BTreeMap<i64, Chat>,
    /// Names of public chats, in small letters, with the `@`.
    pub(super) names: HashMap<String, i64>,
    pub(super) files: HashMap<String, Vec<u8>>,
    /// Where a server in local mode puts files.
    pub(super) local: Option<PathBuf>,
    pub(super) presses: HashSet<String>,
    pub(super) answered: Vec<AnsweredPress>,
    pub(super) actions: Vec<(i64, Option<i64>, String)>,
    pub(super) commands: Vec<(String, String)>,
    pub(super) calls: Vec<BotCall>,
    /// Of the bot's messages, by chat.
    pub(super) arrivals: HashMap<i64, Vec<Instant>>,
    pub(super) faults: Faults,
    pub(super) latency: Duration,
}

/// A chat; it exists from the first word on, and its messages are in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Chat {
    pub(super) messages: Vec<SentMessage>,
    pub(super) last_message: i64,
    pub(super) topics: HashSet<i64>,
    pub(super) moved_to: Option<i64>,
    pub(super) blocked: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            updates: VecDeque::new(),
            confirmed: Vec::new(),
            last_update: 500,
            wanted: None,
            offsets: Vec::new(),
            polls: 0,
            contested: false,
            webhook: false,
            revoked: false,
            without: HashSet::new(),
            chats: BTreeMap::new(),
            names: HashMap::new(),
            files: HashMap::new(),
            local: None,
            presses: HashSet::new(),
            answered: Vec::new(),
            actions: Vec::new(),
            commands: Vec::new(),
            calls: Vec::new(),
            arrivals: HashMap::new(),
            faults: Faults::default(),
            latency: Duration::ZERO,
        }
    }
}

impl World {
    pub(super) fn chat(&mut self, id: i64) -> &mut Chat {
        self.chats.entry(id).or_default()
    }

    /// Queues an update, if the bot wants its kind. Its number.
    pub(super) fn update(&mut self, kind: &str, content: &Value) -> i64 {
        self.last_update += 1;
        let id = self.last_update;
        if self.wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|wanted| wanted == kind)) {
            self.updates.push_back(json!({ "update_id": id, kind: content }));
        }
        id
    }

    /// The id of a new file.
    pub(super) fn store(&mut self, content: &[u8]) -> String {
        let id = format!("file-{}", self.files.len() + 1);
        self.files.insert(id.clone(), content.to_vec());
        id
    }
}

impl Chat {
    pub(super) fn next_message(&mut self) -> i64 {
        self.last_message += 1;
        self.last_message
    }

    pub(super) fn message(&mut self, id: i64) -> Option<&mut SentMessage> {
        self.messages.iter_mut().find(|message| message.message_id == id)
    }
}

/// The chat as updates and answers show it. Plain groups have ids such as -5001, supergroups -100 and something behind.
pub(super) fn chat_json(id: i64, forum: bool) -> Value {
    if id > 0 {
        return json!({ "id": id, "type": "private", "first_name": format!("User {id}") });
    }
    if !id.to_string().starts_with("-100") {
        return json!({ "id": id, "type": "group", "title": "a group" });
    }
    let mut chat = json!({ "id": id, "type": "supergroup", "title": "a group" });
    if forum {
        chat["is_forum"] = true.into();
    }
    chat
}

/// A person or the bot, as updates and answers show them.
pub(super) fn user_json(id: i64) -> Value {
    if id == BotApi::BOT {
        return json!({ "id": id, "is_bot": true, "first_name": "Test", "username": "test_bot" });
    }
    json!({ "id": id, "is_bot": false, "first_name": format!("User {id}") })
}
