//! What people do: they write, mention, edit, press and type commands.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    SlackApi, files, socket,
    workspace::{Kind, Shared},
};

/// What a person writes; see [`SlackApi::write`].
#[derive(Debug, Clone)]
pub struct Saying {
    channel: String,
    user: String,
    text: String,
    thread: Option<String>,
    subtype: Option<&'static str>,
    file: Option<(String, String, Vec<u8>)>,
    more: Value,
}

impl Saying {
    /// A text as a person types it.
    #[must_use]
    pub fn new(channel: &str, user: &str, text: &str) -> Self {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        Self {
            channel: channel.to_owned(),
            user: user.to_owned(),
            text,
            thread: None,
            subtype: None,
            file: None,
            more: Value::Null,
        }
    }

    /// Beginning with the bot's name.
    #[must_use]
    pub fn to_bot(mut self) -> Self {
        self.text = format!("<@{}> {}", SlackApi::BOT_USER, self.text);
        self
    }

    /// In the thread of a message.
    #[must_use]
    pub fn in_thread(mut self, ts: &str) -> Self {
        self.thread = Some(ts.to_owned());
        self
    }

    /// Of a subtype such as `me_message`.
    #[must_use]
    pub fn subtype(mut self, subtype: &'static str) -> Self {
        self.subtype = Some(subtype);
        self
    }

    /// With a file; the subtype is `file_share`.
    #[must_use]
    pub fn with_file(mut self, name: &str, mime_type: &str, content: &[u8]) -> Self {
        self.file = Some((name.to_owned(), mime_type.to_owned(), content.to_vec()));
        self.subtype("file_share")
    }

    /// With more keys in the event.
    #[must_use]
    pub fn with(mut self, more: Value) -> Self {
        self.more = more;
        self
    }
}

impl SlackApi {
    /// A person writes into a channel. The `ts` of the message.
    pub fn say(&self, channel: &str, user: &str, text: &str) -> String {
        self.write(Saying::new(channel, user, text))
    }

    /// A person writes to the bot in their DM. The `ts` of the message.
    pub fn say_in_dm(&self, user: &str, text: &str) -> String {
        self.say(&self.dm(user), user, text)
    }

    /// A person writes to the bot in a channel: two events. The `ts` of the message.
    pub fn mention(&self, channel: &str, user: &str, text: &str) -> String {
        self.write(Saying::new(channel, user, text).to_bot())
    }

    /// A person writes. The `ts` of the message.
    ///
    /// # Panics
    /// If there is no such channel.
    #[expect(clippy::expect_used, reason = "a test that names an unknown channel is wrong")]
    pub fn write(&self, saying: Saying) -> String {
        let Saying { channel, user, text, thread, subtype, file, more } = saying;
        let file =
            file.and_then(|(name, mime, content)| files::keep(&self.shared, &name, &mime, &content, &channel).ok());
        let message = {
            let mut workspace = self.shared.workspace();
            assert!(workspace.conversations.contains_key(&channel), "there is no channel {channel}");
            let team = workspace.users.get(&user).expect("a user of the workspace")["team_id"].clone();
            let ts = workspace.next_ts();
            let mut message =
                json!({ "type": "message", "user": user, "ts": ts, "text": text, "team": team, "client_msg_id": ts });
            if team != SlackApi::TEAM {
                message["user_team"] = team;
            }
            if let Some(thread) = thread {
                message["thread_ts"] = thread.into();
            }
            if let Some(subtype) = subtype {
                message["subtype"] = subtype.into();
            }
            if let Some(file) = file {
                message["files"] = json!([file]);
            }
            if let (Some(message), Value::Object(more)) = (message.as_object_mut(), more) {
                message.extend(more);
            }
            workspace.keep(&channel, message.clone());
            message
        };
        announce(&self.shared, &channel, &message);
        message["ts"].as_str().unwrap_or_default().to_owned()
    }

    /// A person changes a message.
    ///
    /// # Panics
    /// If there is no such message.
    #[expect(clippy::expect_used, reason = "a test that names an unknown message is wrong")]
    pub fn edit(&self, channel: &str, ts: &str, text: &str) {
        let (old, new, kind, event_ts) = {
            let mut workspace = self.shared.workspace();
            let event_ts = workspace.next_ts();
            let kind = workspace.conversations.get(channel).map_or("channel", |channel| channel.kind.channel_type());
            let message = workspace.message_mut(channel, ts).expect("a message that is there");
            let old = message.clone();
            message["text"] = text.into();
            message["edited"] = json!({ "user": message["user"], "ts": event_ts });
            (old, message.clone(), kind, event_ts)
        };
        let event = json!({
            "type": "message", "subtype": "message_changed", "hidden": true, "channel": channel, "channel_type": kind,
            "ts": event_ts, "event_ts": event_ts, "message": new, "previous_message": old
        });
        self.send_event(&event);
    }

    /// A person presses the button with this `action_id` under a message. The `action_ts`.
    ///
    /// # Panics
    /// If the message has no such button.
    #[expect(clippy::expect_used, reason = "a test that names an unknown button is wrong")]
    pub fn press(&self, channel: &str, ts: &str, user: &str, action_id: &str) -> String {
        self.try_press(channel, ts, user, action_id).expect("a button of this action id")
    }

    /// The same, if the button is still there.
    pub fn try_press(&self, channel: &str, ts: &str, user: &str, action_id: &str) -> Option<String> {
        let (payload, action_ts) = {
            let mut workspace = self.shared.workspace();
            let action_ts = workspace.next_ts();
            let message = workspace.message_mut(channel, ts)?.clone();
            let blocks = message["blocks"].as_array()?;
            let button = blocks
                .iter()
                .flat_map(|block| {
                    block["elements"].as_array().into_iter().flatten().map(move |element| (block, element))
                })
                .find(|(_, element)| element["type"] == "button" && element["action_id"] == action_id);
            let (block, button) = button?;
            let action = json!({
                "type": "button", "action_id": action_id, "block_id": block["block_id"].as_str().unwrap_or("b1"),
                "text": button["text"], "value": button["value"], "style": button["style"], "action_ts": action_ts
            });
            let name = workspace.users.get(user).map(|user| user["name"].clone());
            let payload = json!({
                "type": "block_actions", "token": "x", "api_app_id": "A0APP", "trigger_id": "1.2.3",
                "user": { "id": user, "username": name, "name": name, "team_id": SlackApi::TEAM },
                "team": { "id": SlackApi::TEAM, "domain": "test" }, "enterprise": null,
                "channel": { "id": channel, "name": "directmessage" }, "message": message,
                "container": {
                    "type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": false,
                    "thread_ts": message["thread_ts"]
                },
                "actions": [action], "state": { "values": {} },
                "response_url": format!("http://{}/response", self.address)
            });
            (payload, action_ts)
        };
        socket::deliver(&self.shared, "interactive", payload);
        Some(action_ts)
    }

    /// A person types a slash command.
    pub fn slash_command(&self, channel: &str, user: &str, command: &str, text: &str) {
        let (name, trigger) = {
            let mut workspace = self.shared.workspace();
            let name = workspace.conversations.get(channel).map(|channel| match channel.kind {
                Kind::Dm => "directmessage".to_owned(),
                _ => channel.name.clone(),
            });
            (name, workspace.next_id("trigger-"))
        };
        let payload = json!({
            "token": "x", "team_id": SlackApi::TEAM, "team_domain": "test", "channel_id": channel, "channel_name": name,
            "user_id": user, "user_name": user.to_lowercase(), "command": command, "text": text,
            "api_app_id": "A0APP", "is_enterprise_install": "false", "trigger_id": trigger,
            "response_url": format!("http://{}/response", self.address)
        });
        socket::deliver(&self.shared, "slash_commands", payload);
    }
}

/// Tells the app of a new message; twice if it names the bot in a channel.
pub(super) fn announce(shared: &Arc<Shared>, channel: &str, message: &Value) {
    let (kind, member) = match shared.workspace().conversations.get(channel) {
        Some(conversation) => (conversation.kind, conversation.member),
        None => return,
    };
    let mut told = message.clone();
    told["channel"] = channel.into();
    told["event_ts"] = message["ts"].clone();
    let names_bot = message["text"].as_str().unwrap_or_default().contains(&format!("<@{}>", SlackApi::BOT_USER));
    let mention =
        (names_bot && message["bot_id"].is_null() && matches!(kind, Kind::Channel | Kind::Private)).then(|| {
            let mut mention = told.clone();
            mention["type"] = "app_mention".into();
            if let Some(mention) = mention.as_object_mut() {
                mention.remove("subtype");
            }
            mention
        });
    if member {
        told["channel_type"] = kind.channel_type().into();
        event(shared, &told);
    }
    if let Some(mention) = mention {
        event(shared, &mention);
    }
}

/// An event with all that goes around it.
pub(super) fn event(shared: &Arc<Shared>, event: &Value) {
    let id = shared.workspace().next_id("Ev");
    let payload = json!({
        "token": "x", "team_id": SlackApi::TEAM, "context_team_id": SlackApi::TEAM, "context_enterprise_id": null,
        "api_app_id": "A0APP", "event": event, "type": "event_callback", "event_id": id, "event_time": 1_790_000_000,
        "authorizations": [{
            "enterprise_id": null, "team_id": SlackApi::TEAM, "user_id": SlackApi::BOT_USER, "is_bot": true,
            "is_enterprise_install": false
        }],
        "is_ext_shared_channel": false, "event_context": "4-test"
    });
    socket::deliver(shared, "events_api", payload);
}
