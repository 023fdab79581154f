//! From an event to a message, a press or a command; nothing is asked of anybody here.
//!
//! * Only what is used is decoded: unknown blocks, keys and types cannot lose a text.
//! * The bot, other bots, system messages and people of other workspaces (unless allowed) are passed over.
//! * A mention arrives as `message` and as `app_mention`: both get the same key, that of the message.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{text, ts};
use crate::{Address, InboundMessage, MediaAttachment, PeerId, Press, Sender};

/// Whose events these are, and what it listens to.
#[derive(Debug, Clone)]
pub(super) struct Bot {
    pub(super) team: String,
    /// The organisation that the workspace is part of.
    pub(super) enterprise: Option<String>,
    pub(super) user: String,
    pub(super) require_mention: bool,
    pub(super) allow_external: bool,
}

/// What kind of chat it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChatKind {
    Direct,
    /// Several people, without a name. Answers go below each other, not into threads.
    GroupDm,
    Channel,
}

impl ChatKind {
    pub(super) fn named(channel_type: &str) -> Option<Self> {
        match channel_type {
            "im" => Some(Self::Direct),
            "mpim" => Some(Self::GroupDm),
            "channel" | "group" => Some(Self::Channel),
            _ => None,
        }
    }
}

/// What became of an event.
#[derive(Debug, PartialEq)]
pub(super) enum Sorted {
    /// Nobody's business.
    Ignored,
    /// A person said something.
    Heard(Heard),
    /// Should be a message and is none.
    Undecodable,
}

/// Something that a person said.
#[derive(Debug, PartialEq)]
pub(super) struct Heard {
    pub(super) message: Box<InboundMessage>,
    /// Meant for the bot whatever the thread; otherwise only if the bot takes part in the thread.
    pub(super) addressed: bool,
    /// The new text of an old message.
    pub(super) edited: bool,
    /// The thread it was written in; not the one that it opens.
    pub(super) thread: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Message {
    ts: String,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    bot_id: Option<String>,
    #[serde(default)]
    subtype: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thread_ts: Option<String>,
    #[serde(default)]
    parent_user_id: Option<String>,
    #[serde(default)]
    user_team: Option<String>,
    #[serde(default)]
    team: Option<String>,
    #[serde(default)]
    files: Vec<Value>,
    #[serde(default)]
    edited: Option<Value>,
}

impl Bot {
    /// Sorts an event of type `message` or `app_mention`.
    pub(super) fn sort(&self, event: &Value, kind: ChatKind) -> Sorted {
        let Some(channel) = event["channel"].as_str() else { return Sorted::Undecodable };
        let edited = event["subtype"] == "message_changed";
        // A preview that Slack adds to a link is a change too, but not of the text.
        if edited && event["message"]["text"] == event["previous_message"]["text"] {
            return Sorted::Ignored;
        }
        let said = if edited { &event["message"] } else { event };
        let heard = Message::deserialize(said).ok().and_then(|message| {
            let order_key = ts::micros(&message.ts)?;
            let named = event["type"] == "app_mention";
            Some(self.heard(message, order_key, channel, kind, named, edited))
        });
        match heard {
            Some(Some(heard)) => Sorted::Heard(heard),
            Some(None) => Sorted::Ignored,
            None => Sorted::Undecodable,
        }
    }

    fn heard(
        &self,
        message: Message,
        order_key: i64,
        channel: &str,
        kind: ChatKind,
        named: bool,
        edited: bool,
    ) -> Option<Heard> {
        let accepted = [None, Some("file_share"), Some("thread_broadcast"), Some("me_message")];
        if !accepted.contains(&message.subtype.as_deref()) || message.bot_id.is_some() {
            return None;
        }
        let user = message.user.as_deref().filter(|user| *user != self.user && *user != "USLACKBOT")?.to_owned();
        let team = message.user_team.as_deref().or(message.team.as_deref());
        if !self.welcome(team) {
            return None;
        }
        let written = message.text.as_deref().unwrap_or_default();
        let mentioned = named || text::mentions(written, &self.user);
        let plain = text::typed(text::without_mention(written, &self.user));
        let attachments: Vec<_> = message.files.iter().filter_map(attachment).collect();
        if plain.trim().is_empty() && attachments.is_empty() {
            return None;
        }
        let thread = message.thread_ts.clone().filter(|thread| *thread != message.ts);
        let address = self.address(
            channel,
            kind,
            &user,
            thread.clone().or_else(|| {
                // A mention opens a thread of its own; so does the first message of one that is there already.
                (kind == ChatKind::Channel && mentioned).then(|| message.ts.clone())
            }),
        );
        let answers_bot = message.parent_user_id.as_deref() == Some(&self.user) && thread.is_some();
        let addressed = kind == ChatKind::Direct || mentioned || answers_bot || !self.require_mention;
        let mut event_key = format!("{}:{channel}:{}", self.team, message.ts);
        if edited {
            let at = message.edited.as_ref().and_then(|edited| edited["ts"].as_str()).unwrap_or_default();
            event_key = format!("{event_key}:{at}");
        }
        let metadata = json!({
            "channel": channel, "ts": message.ts, "thread_ts": message.thread_ts, "mentioned": mentioned, "user_id": user,
            "channel_type": match kind { ChatKind::Direct => "im", ChatKind::GroupDm => "mpim", ChatKind::Channel => "channel" },
        });
        let message = InboundMessage {
            address,
            sender: Sender { id: user.into(), username: None, display_name: None },
            event_key,
            order_key,
            message_id: message.ts,
            reply_to: None,
            text: plain,
            attachments,
            metadata,
        };
        Some(Heard { message: Box::new(message), addressed, edited, thread })
    }

    /// A press of each button that an interaction names; usually one.
    pub(super) fn presses(&self, payload: &Value) -> Vec<Press> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let external = !self.welcome(payload["user"]["team_id"].as_str());
        if payload["type"] != "block_actions" || external {
            return Vec::new();
        }
        let press = |action: &Value| {
            let (channel, user) = (payload["channel"]["id"].as_str()?, payload["user"]["id"].as_str()?);
            let kind = if channel.starts_with('D') { ChatKind::Direct } else { ChatKind::Channel };
            let thread = text(&payload["message"]["thread_ts"]);
            let event_key = text(&action["action_ts"])?;
            let name = |key: &str| text(&payload["user"][key]);
            Some(Press {
                address: self.address(channel, kind, user, thread),
                sender: Sender { id: user.into(), username: name("username"), display_name: name("name") },
                order_key: ts::micros(&event_key)?,
                event_key,
                message_id: text(&payload["container"]["message_ts"])?,
                payload: text(&action["value"])?,
                token: String::new(),
            })
        };
        payload["actions"].as_array().into_iter().flatten().filter_map(press).collect()
    }

    /// `/stakpak new …` as the text `/new …`. It has no place in any thread and no `ts`: its time is that of its arrival.
    pub(super) fn command(&self, payload: &Value, now: i64) -> Option<InboundMessage> {
        let (channel, user) = (payload["channel_id"].as_str()?, payload["user_id"].as_str()?);
        if !self.welcome(payload["team_id"].as_str()) {
            return None;
        }
        let typed = text::typed(payload["text"].as_str().unwrap_or_default());
        let command = match typed.trim_start().trim_start_matches(['/', '!']) {
            "" => "help",
            command => command,
        };
        let kind = if channel.starts_with('D') { ChatKind::Direct } else { ChatKind::Channel };
        let username = payload["user_name"].as_str().map(str::to_owned);
        Some(InboundMessage {
            address: self.address(channel, kind, user, None),
            sender: Sender { id: user.into(), username, display_name: None },
            event_key: format!("{}:command:{}", self.team, payload["trigger_id"].as_str()?),
            order_key: now,
            message_id: String::new(),
            reply_to: None,
            text: format!("/{command}"),
            attachments: Vec::new(),
            metadata: json!({ "channel": channel, "user_id": user }),
        })
    }

    fn address(&self, channel: &str, kind: ChatKind, user: &str, thread: Option<String>) -> Address {
        let direct = (kind == ChatKind::Direct).then(|| PeerId::from(user));
        Address { channel: "slack".into(), chat: channel.to_owned(), thread, direct }
    }

    /// People of this workspace or organisation, and others if the configuration says so.
    fn welcome(&self, team: Option<&str>) -> bool {
        let own = |team: &str| team == self.team || self.enterprise.as_deref() == Some(team);
        self.allow_external || team.is_none_or(own)
    }
}

/// None for what cannot be fetched, such as files that are gone or kept by another workspace.
fn attachment(file: &Value) -> Option<MediaAttachment> {
    let url = file["url_private_download"].as_str().or(file["url_private"].as_str())?;
    Some(MediaAttachment {
        id: url.to_owned(),
        name: file["name"].as_str().unwrap_or("file").to_owned(),
        mime_type: file["mimetype"].as_str().map(str::to_owned),
        size: file["size"].as_u64(),
    })
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
