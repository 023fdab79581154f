//! Guilds, channels, people and messages, and the sessions that hear of them.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};

use super::FakeDiscord;

/// 2015-01-01, from which snowflakes count.
const EPOCH_MS: u128 = 1_420_070_400_000;
/// For how long a nonce is remembered.
const NONCE_LIFE: Duration = Duration::from_secs(300);

/// All there is.
#[derive(Debug)]
pub(super) struct World {
    last_id: u64,
    pub(super) people: BTreeMap<u64, String>,
    pub(super) guilds: BTreeMap<u64, String>,
    pub(super) channels: BTreeMap<u64, ChatChannel>,
    pub(super) sessions: HashMap<String, Session>,
    pub(super) interactions: HashMap<u64, Interaction>,
    nonces: HashMap<(u64, String), (u64, Instant)>,
    /// Content by path.
    pub(super) files: HashMap<String, Vec<u8>>,
    /// Links of an earlier age have expired.
    pub(super) link_age: u32,
}

/// A channel, thread or direct chat.
#[derive(Debug)]
pub(super) struct ChatChannel {
    /// Discord's number of the type: 0 text, 1 direct, 11 thread.
    pub(super) kind: u8,
    pub(super) name: String,
    pub(super) guild: Option<u64>,
    pub(super) parent: Option<u64>,
    pub(super) person: Option<u64>,
    /// As the REST API gives them, oldest first.
    pub(super) messages: Vec<Value>,
    /// The bot may not see it.
    pub(super) hidden: bool,
    /// The bot may open no threads in it.
    pub(super) threadless: bool,
}

/// What a client of the gateway may hear, and heard.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) intents: u64,
    /// Dispatches; their numbers count from 1.
    pub(super) log: Vec<Value>,
    /// The connection that holds it.
    pub(super) connection: u32,
}

/// A press of a button.
#[derive(Debug)]
pub(super) struct Interaction {
    pub(super) token: String,
    pub(super) at: Instant,
    pub(super) answered: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            last_id: 0,
            people: BTreeMap::new(),
            guilds: BTreeMap::new(),
            channels: BTreeMap::new(),
            sessions: HashMap::new(),
            interactions: HashMap::new(),
            nonces: HashMap::new(),
            files: HashMap::new(),
            link_age: 0,
        }
    }

    /// A snowflake of now, above all earlier ones.
    #[expect(clippy::cast_possible_truncation, reason = "42 bits last until 2154")]
    pub(super) fn next_id(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let id = (now.saturating_sub(EPOCH_MS) as u64) << 22;
        self.last_id = id.max(self.last_id + 1);
        self.last_id
    }

    pub(super) fn user(&self, id: u64) -> Value {
        let bot = id == FakeDiscord::BOT;
        let name = if bot { FakeDiscord::BOT_NAME } else { self.people.get(&id).map_or("somebody", String::as_str) };
        json!({
            "id": id.to_string(), "username": name.to_lowercase(), "global_name": name, "discriminator": "0",
            "avatar": null, "bot": bot, "public_flags": 0
        })
    }

    pub(super) fn member(&self, id: u64) -> Value {
        json!({
            "user": self.user(id), "nick": null, "roles": [], "joined_at": "2026-01-01T00:00:00.000000+00:00",
            "deaf": false, "mute": false, "flags": 0
        })
    }

    /// As the REST API gives it.
    pub(super) fn channel(&self, id: u64) -> Option<Value> {
        let channel = self.channels.get(&id)?;
        let mut value = json!({
            "id": id.to_string(), "type": channel.kind, "flags": 0,
            "last_message_id": channel.messages.last().map(|message| message["id"].clone())
        });
        if let Some(person) = channel.person {
            value["recipients"] = json!([self.user(person)]);
            return Some(value);
        }
        value["name"] = json!(channel.name);
        value["guild_id"] = json!(channel.guild.map(|id| id.to_string()));
        value["parent_id"] = json!(channel.parent.map(|id| id.to_string()));
        if channel.kind == 11 {
            value["owner_id"] = json!(FakeDiscord::BOT.to_string());
            value["message_count"] = json!(channel.messages.len());
            value["member_count"] = json!(2);
            value["thread_metadata"] = json!({
                "archived": false, "auto_archive_duration": 1440, "locked": false,
                "archive_timestamp": "2026-01-01T00:00:00.000000+00:00"
            });
        } else {
            value["position"] = json!(0);
            value["permission_overwrites"] = json!([]);
        }
        Some(value)
    }

    pub(super) fn guild(&self, id: u64) -> Option<Value> {
        let name = self.guilds.get(&id)?;
        Some(json!({
            "id": id.to_string(), "name": name, "icon": null, "splash": null, "discovery_splash": null,
            "owner_id": FakeDiscord::BOT.to_string(), "afk_channel_id": null, "afk_timeout": 300,
            "verification_level": 0, "default_message_notifications": 0, "explicit_content_filter": 0,
            "roles": [{
                "id": id.to_string(), "name": "@everyone", "color": 0, "hoist": false, "position": 0,
                "permissions": "274878008384", "managed": false, "mentionable": false, "flags": 0
            }],
            "emojis": [], "features": [], "mfa_level": 0, "application_id": null, "system_channel_id": null,
            "system_channel_flags": 0, "rules_channel_id": null, "vanity_url_code": null, "description": null,
            "banner": null, "premium_tier": 0, "preferred_locale": "en-US", "public_updates_channel_id": null,
            "nsfw_level": 0, "premium_progress_bar_enabled": false, "stickers": []
        }))
    }

    /// As GUILD_CREATE tells it: with what is in it.
    pub(super) fn guild_created(&self, id: u64) -> Option<Value> {
        let mut value = self.guild(id)?;
        let inside = |thread: bool| -> Vec<Value> {
            let of_guild = self.channels.iter().filter(|(_, channel)| channel.guild == Some(id) && !channel.hidden);
            of_guild
                .filter(|(_, channel)| (channel.kind == 11) == thread)
                .filter_map(|(id, _)| self.channel(*id))
                .collect()
        };
        let more = json!({
            "joined_at": "2026-01-01T00:00:00.000000+00:00", "large": false, "unavailable": false, "member_count": 2,
            "members": [self.member(FakeDiscord::BOT)], "voice_states": [], "presences": [], "stage_instances": [],
            "guild_scheduled_events": [], "soundboard_sounds": [], "channels": inside(false), "threads": inside(true)
        });
        merge(&mut value, more);
        Some(value)
    }

    /// The message that a nonce made lately.
    pub(super) fn made_by(&mut self, channel: u64, nonce: &str) -> Option<u64> {
        self.nonces.retain(|_, (_, at)| at.elapsed() < NONCE_LIFE);
        self.nonces.get(&(channel, nonce.to_owned())).map(|(id, _)| *id)
    }

    pub(super) fn remember_nonce(&mut self, channel: u64, nonce: &str, message: u64) {
        self.nonces.insert((channel, nonce.to_owned()), (message, Instant::now()));
    }

    pub(super) fn forget_nonces(&mut self) {
        self.nonces.clear();
    }

    pub(super) fn message(&self, channel: u64, id: u64) -> Option<&Value> {
        let id = id.to_string();
        self.channels.get(&channel)?.messages.iter().find(|message| message["id"] == id)
    }

    pub(super) fn message_mut(&mut self, channel: u64, id: u64) -> Option<&mut Value> {
        let id = id.to_string();
        self.channels.get_mut(&channel)?.messages.iter_mut().find(|message| message["id"] == id)
    }

    /// The channel that holds a message.
    pub(super) fn channel_of(&self, message: u64) -> Option<u64> {
        self.channels.keys().copied().find(|channel| self.message(*channel, message).is_some())
    }

    /// Tells all sessions that want to hear of it.
    pub(super) fn dispatch(&mut self, name: &str, data: &Value) {
        for session in self.sessions.values_mut() {
            let Some(data) = heard(session.intents, name, data) else { continue };
            let sequence = session.log.len() + 1;
            session.log.push(json!({ "op": 0, "t": name, "s": sequence, "d": data }));
        }
    }

    /// A message as the gateway tells it: with guild and member.
    pub(super) fn announce(&mut self, name: &str, channel: u64, message: u64) {
        let Some(mut data) = self.message(channel, message).cloned() else { return };
        if let Some(guild) = self.channels.get(&channel).and_then(|channel| channel.guild) {
            data["guild_id"] = json!(guild.to_string());
            let author = id_of(&data["author"]["id"]).unwrap_or_default();
            if data.get("webhook_id").is_none() {
                data["member"] = self.member(author);
            }
        }
        self.dispatch(name, &data);
    }
}

/// What the intents of a session let through.
fn heard(intents: u64, name: &str, data: &Value) -> Option<Value> {
    let wants = |bit: u32| intents & (1 << bit) != 0;
    match name {
        "GUILD_CREATE" | "CHANNEL_CREATE" | "THREAD_CREATE" => wants(0).then(|| data.clone()),
        "MESSAGE_CREATE" | "MESSAGE_UPDATE" => {
            let guild = data.get("guild_id").is_some();
            if !wants(if guild { 9 } else { 12 }) {
                return None;
            }
            let mut data = data.clone();
            let bot = FakeDiscord::BOT.to_string();
            let named = data["mentions"].as_array().is_some_and(|users| users.iter().any(|user| user["id"] == bot));
            if guild && !wants(15) && !named && data["author"]["id"] != bot {
                merge(&mut data, json!({ "content": "", "attachments": [], "embeds": [], "components": [] }));
            }
            Some(data)
        }
        _ => Some(data.clone()),
    }
}

/// Puts all keys of the second into the first.
pub(super) fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}

/// A snowflake, which JSON has as text.
pub(super) fn id_of(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

/// An empty object.
pub(super) fn object() -> Value {
    Value::Object(Map::new())
}
