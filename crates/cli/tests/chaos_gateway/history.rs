//! What people and the model saw: all that the checker knows.

use std::time::Duration;

/// Where people talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Platform {
    Telegram,
    Slack,
    Discord,
}

impl Platform {
    pub const ALL: [Self; 3] = [Self::Telegram, Self::Slack, Self::Discord];
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub conversations: Vec<Conversation>,
    /// Sends of Telegram that were done and whose answer never came; each can make one copy.
    pub answers_lost: usize,
}

/// One chat or thread.
#[derive(Debug, Clone)]
pub struct Conversation {
    pub platform: Platform,
    pub name: String,
    /// In the order of the platform.
    pub said: Vec<Said>,
    /// What the bot wrote, as it stands in the chat.
    pub shown: Vec<Shown>,
    /// What the model was asked for these messages.
    pub asked: Vec<Asked>,
}

/// A message of a person.
#[derive(Debug, Clone)]
pub struct Said {
    pub token: String,
    /// From the start of the campaign.
    pub at: Duration,
    pub taken: Taken,
}

/// Whether the bot took a message, as the platform sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Confirmed, on a platform that delivers in order: Telegram's offset moved beyond it; Discord keeps it to be read.
    InOrder,
    /// Acknowledged then.
    At(Duration),
    /// Never acknowledged: it is only in the history of a chat that the bot knows, which is read after a start.
    FromHistory,
    /// Not confirmed to the end.
    Never,
}

/// A message of the bot.
#[derive(Debug, Clone)]
pub struct Shown {
    pub text: String,
    /// How often the binary had been started when it was seen first.
    pub epoch: u64,
}

impl Shown {
    /// Which message it answers.
    pub fn token(&self) -> Option<&str> {
        token_in(&self.text)
    }

    /// Which one of its session the model took that message for.
    pub fn number(&self) -> Option<usize> {
        let digits = self.text.split("number ").nth(1)?;
        digits.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    }
}

/// A request that the model received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The messages of people in it; it asks for an answer to the last.
    pub known: Vec<String>,
    pub epoch: u64,
}

/// Marks message `number` of a conversation.
pub fn token(conversation: usize, number: usize) -> String {
    format!("tok-{conversation}-{number}")
}

/// The first token in a text.
pub fn token_in(text: &str) -> Option<&str> {
    let start = text.find("tok-")?;
    let rest = &text[start + 4..];
    let end = rest.find(|character: char| !character.is_ascii_digit() && character != '-').unwrap_or(rest.len());
    Some(&text[start..start + 4 + end])
}

/// The conversation of a token.
pub fn conversation_of(token: &str) -> Option<usize> {
    token.split('-').nth(1)?.parse().ok()
}
