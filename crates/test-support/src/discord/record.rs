//! What the platform saw, for a checker.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Everything in the order in which it took effect.
#[derive(Debug, Clone, Default)]
pub struct DiscordRecord {
    /// Messages of the bot that people can see.
    pub messages: Vec<DiscordMessage>,
    /// Changes of such messages.
    pub edits: Vec<DiscordEdit>,
    /// Reactions of the bot, added and removed.
    pub reactions: Vec<DiscordReaction>,
    /// Channels in which the bot showed that it writes.
    pub typing: Vec<u64>,
    /// Answers to interactions.
    pub answers: Vec<InteractionAnswer>,
    /// Messages that followed an interaction.
    pub followups: Vec<Followup>,
    /// IDENTIFYs, refused ones included.
    pub identifies: Vec<Identify>,
    /// RESUMEs, refused ones included.
    pub resumes: Vec<Resume>,
    /// WebSocket connections.
    pub connections: u32,
    /// Heartbeats of clients.
    pub heartbeats: u32,
    /// Posts that were answered with the message of an earlier post under the same nonce.
    pub repeated_nonces: u32,
    /// Answers with 429.
    pub rate_limited: u32,
    /// When each message of the bot came, by channel.
    pub arrivals: HashMap<u64, Vec<Instant>>,
    /// Method, path and query of every request.
    pub requests: Vec<String>,
}

/// A message of the bot.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscordMessage {
    /// Its id.
    pub id: u64,
    /// The channel, thread or direct chat.
    pub channel: u64,
    /// The text.
    pub content: String,
    /// What made it unique.
    pub nonce: Option<String>,
    /// The message it answers.
    pub reply_to: Option<u64>,
    /// What is under it.
    pub buttons: Vec<DiscordButton>,
    /// Name and content of its files.
    pub files: Vec<(String, Vec<u8>)>,
    /// As it was sent.
    pub allowed_mentions: Value,
    /// As it was sent.
    pub flags: u64,
}

/// A button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscordButton {
    /// What it says.
    pub label: String,
    /// What comes back.
    pub custom_id: String,
    /// 1 to 4.
    pub style: u64,
}

/// A change of a message of the bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscordEdit {
    /// The message.
    pub message: u64,
    /// Its text now.
    pub content: String,
    /// Its buttons now.
    pub buttons: Vec<DiscordButton>,
}

/// A reaction of the bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscordReaction {
    /// The message.
    pub message: u64,
    /// The sign.
    pub emoji: String,
    /// Put, or taken away.
    pub added: bool,
}

/// The answer to an interaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InteractionAnswer {
    /// Of the interaction.
    pub interaction: u64,
    /// The type of the answer: 6 is a deferred update.
    pub kind: u64,
    /// After the press.
    pub after: Duration,
}

/// A message that followed an interaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followup {
    /// Of the interaction.
    pub interaction: u64,
    /// The text.
    pub content: String,
    /// Only the presser sees it.
    pub ephemeral: bool,
}

/// A client that began a session.
#[derive(Debug, Clone)]
pub struct Identify {
    /// When.
    pub at: Instant,
    /// What it wants to hear of.
    pub intents: u64,
    /// The session it got, or the close code.
    pub outcome: Result<String, u16>,
}

/// A client that continued a session.
#[derive(Debug, Clone)]
pub struct Resume {
    /// When.
    pub at: Instant,
    /// Which session.
    pub session: String,
    /// The last event it knows.
    pub sequence: u64,
    /// Whether it came to the address that READY named.
    pub at_resume_url: bool,
    /// Whether the session went on.
    pub accepted: bool,
}
