//! What is in the workspace: people, channels, messages as the history returns them, files, and what was seen of the bot.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    SlackApi,
    faults::Faults,
    socket::{PendingAcks, SlackEnvelope, Socket},
};

/// What the real manifest asks for.
const SCOPES: [&str; 16] = [
    "app_mentions:read",
    "channels:history",
    "channels:read",
    "chat:write",
    "commands",
    "files:read",
    "files:write",
    "groups:history",
    "groups:read",
    "im:history",
    "im:read",
    "im:write",
    "mpim:history",
    "mpim:read",
    "reactions:read",
    "reactions:write",
];

/// A message as it stands in a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct SlackMessage {
    /// Its channel.
    pub channel: String,
    /// Its id.
    pub ts: String,
    /// The message that its thread hangs on.
    pub thread_ts: Option<String>,
    /// Whether the bot wrote it.
    pub by_bot: bool,
    /// Its text, escaped as Slack keeps it.
    pub text: String,
    /// Its blocks; null without.
    pub blocks: Value,
    /// Its metadata; null without.
    pub metadata: Value,
    /// Names of the reactions that the bot put on it.
    pub reactions: Vec<String>,
    /// Names of its files.
    pub files: Vec<String>,
    /// How often it was changed.
    pub edits: u64,
}

/// A call of the Web API.
#[derive(Debug, Clone, PartialEq)]
pub struct SlackCall {
    /// As in the address.
    pub method: String,
    /// Without the token.
    pub arguments: Value,
    /// `ok`, the error that it was refused with, or the fault that it met.
    pub outcome: String,
}

/// A file that was uploaded and shared, or that a person sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlackFile {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// As its sender or the upload said.
    pub mime_type: String,
    /// All bytes.
    pub content: Vec<u8>,
    /// Where it can be seen.
    pub channel: Option<String>,
}

/// What kind of conversation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Channel,
    Private,
    Dm,
    GroupDm,
}

impl Kind {
    pub(super) fn channel_type(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Private => "group",
            Self::Dm => "im",
            Self::GroupDm => "mpim",
        }
    }

    /// First part of the scopes about it, and its name in `types`.
    pub(super) fn scope(self) -> (&'static str, &'static str) {
        match self {
            Self::Channel => ("channels", "public_channel"),
            Self::Private => ("groups", "private_channel"),
            Self::Dm => ("im", "im"),
            Self::GroupDm => ("mpim", "mpim"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) member: bool,
    /// The other party of a DM.
    pub(super) peer: Option<String>,
    /// As the history returns them, oldest first, replies included.
    pub(super) messages: Vec<Value>,
}

#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) scopes: Vec<String>,
    pub(super) revoked: bool,
    pub(super) users: BTreeMap<String, Value>,
    pub(super) conversations: BTreeMap<String, Conversation>,
    pub(super) files: BTreeMap<String, SlackFile>,
    pub(super) ephemeral: Vec<(String, String, String)>,
    pub(super) calls: Vec<SlackCall>,
    pub(super) envelopes: Vec<SlackEnvelope>,
    pub(super) sockets: Vec<Socket>,
    pub(super) pending: PendingAcks,
    /// First acknowledgements, by the `ts` of the message.
    pub(super) acknowledged: BTreeMap<String, Instant>,
    /// Of the bot's messages, by channel.
    pub(super) arrivals: BTreeMap<String, Vec<Instant>>,
    pub(super) tickets: Vec<String>,
    pub(super) ack_wait: Duration,
    /// Envelopes that will not reach their socket.
    pub(super) to_lose: u32,
    pub(super) faults: Faults,
    last_ts: u64,
    last_id: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    workspace: Mutex<Workspace>,
    pub(super) address: SocketAddr,
    /// Counts changes: tests wait for them.
    pub(super) changed: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(address: SocketAddr) -> Self {
        let workspace = Workspace {
            scopes: SCOPES.iter().chain(&["users:read"]).map(|scope| (*scope).to_owned()).collect(),
            revoked: false,
            users: BTreeMap::new(),
            conversations: BTreeMap::new(),
            files: BTreeMap::new(),
            ephemeral: Vec::new(),
            calls: Vec::new(),
            envelopes: Vec::new(),
            sockets: Vec::new(),
            pending: PendingAcks::default(),
            acknowledged: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            tickets: Vec::new(),
            ack_wait: Duration::from_secs(3),
            to_lose: 0,
            faults: Faults::default(),
            last_ts: 0,
            last_id: 0,
        };
        Self { workspace: Mutex::new(workspace), address, changed: watch::Sender::default() }
    }

    pub(super) fn workspace(&self) -> MutexGuard<'_, Workspace> {
        self.workspace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

impl Workspace {
    /// A time stamp above all others.
    pub(super) fn next_ts(&mut self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        self.last_ts = u64::try_from(now).unwrap_or(u64::MAX).max(self.last_ts + 1);
        format!("{}.{:06}", self.last_ts / 1_000_000, self.last_ts % 1_000_000)
    }

    /// An id that was not used before.
    pub(super) fn next_id(&mut self, prefix: &str) -> String {
        self.last_id += 1;
        format!("{prefix}{:06}", self.last_id)
    }

    pub(super) fn add_channel(&mut self, id: &str, name: &str, kind: Kind, member: bool) {
        let conversation =
            Conversation { id: id.to_owned(), name: name.to_owned(), kind, member, peer: None, messages: Vec::new() };
        self.conversations.insert(id.to_owned(), conversation);
    }

    pub(super) fn add_user(&mut self, id: &str, name: &str, real_name: &str, team: &str) {
        let user = json!({
            "id": id, "team_id": team, "name": name, "real_name": real_name, "is_bot": false, "deleted": false,
            "profile": { "real_name": real_name, "display_name": name }
        });
        self.users.insert(id.to_owned(), user);
    }

    pub(super) fn open_dm(&mut self, user: &str) -> String {
        let known = self.conversations.values().find(|conversation| conversation.peer.as_deref() == Some(user));
        if let Some(known) = known {
            return known.id.clone();
        }
        let id = user.replacen('U', "D", 1);
        self.add_channel(&id, "", Kind::Dm, true);
        if let Some(dm) = self.conversations.get_mut(&id) {
            dm.peer = Some(user.to_owned());
        }
        id
    }

    pub(super) fn message_mut(&mut self, channel: &str, ts: &str) -> Option<&mut Value> {
        self.conversations.get_mut(channel)?.messages.iter_mut().find(|message| message["ts"] == ts)
    }

    pub(super) fn messages(&self, channel: &str) -> Vec<SlackMessage> {
        let messages = self.conversations.get(channel).map(|conversation| &*conversation.messages).unwrap_or_default();
        messages.iter().map(|message| describe(channel, message)).collect()
    }

    pub(super) fn shared_files(&self) -> Vec<SlackFile> {
        self.files.values().filter(|file| file.channel.is_some()).cloned().collect()
    }
}

fn describe(channel: &str, message: &Value) -> SlackMessage {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let named = |key: &str| message[key].as_array().cloned().unwrap_or_default();
    let by_bot = |users: &Value| users.as_array().is_some_and(|users| users.contains(&json!(SlackApi::BOT_USER)));
    let reactions = named("reactions").into_iter().filter(|reaction| by_bot(&reaction["users"]));
    SlackMessage {
        channel: channel.to_owned(),
        ts: text(&message["ts"]).unwrap_or_default(),
        thread_ts: text(&message["thread_ts"]),
        by_bot: message["bot_id"].is_string(),
        text: text(&message["text"]).unwrap_or_default(),
        blocks: message["blocks"].clone(),
        metadata: message["metadata"].clone(),
        reactions: reactions.filter_map(|reaction| text(&reaction["name"])).collect(),
        files: named("files").iter().filter_map(|file| text(&file["name"])).collect(),
        edits: message["edits"].as_u64().unwrap_or(0),
    }
}
