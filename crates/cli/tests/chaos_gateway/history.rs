//! What people, the model and the machine saw: all that the checker knows.

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
    /// How often the command of it ran.
    pub done: usize,
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
    /// It can be decided by a button.
    pub open: bool,
}

/// What a prompt says of its decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied,
    /// It was too late, or there is none.
    Void,
}

impl Shown {
    /// Which message it answers.
    pub fn token(&self) -> Option<&str> {
        self.text.starts_with(ANSWER).then(|| token_in(&self.text)).flatten()
    }

    /// Whose command it asks to allow.
    pub fn prompt(&self) -> Option<&str> {
        token_in(self.text.split_once(COMMAND)?.1)
    }

    pub fn verdict(&self) -> Verdict {
        match self.text.split_whitespace().next() {
            Some("Allowed") if !self.text.contains("too late") => Verdict::Allowed,
            Some("Denied") if !self.text.contains("too late") => Verdict::Denied,
            _ => Verdict::Void,
        }
    }

    /// The sign of a run that was given up.
    pub fn gives_up(&self) -> bool {
        self.text.starts_with("The run failed: interrupted")
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
    /// What it says came of the command for the last.
    pub told: Option<String>,
    pub epoch: u64,
}

/// Answers begin with it.
pub const ANSWER: &str = "Answer to ";
/// Commands begin with it.
pub const COMMAND: &str = "echo ";

/// What the sender of a message wants done with the command that the model asks for because of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// There is no command.
    Nothing,
    Allow,
    Deny,
    /// Both buttons are pressed at once.
    Both,
}

/// Of the message with this token.
pub fn wish(token: &str) -> Wish {
    let numbers: Vec<usize> = token.split('-').filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [_, 0..=2] => Wish::Nothing,
        [conversation, number] => match (conversation + number) % 8 {
            2 => Wish::Allow,
            5 => Wish::Deny,
            7 => Wish::Both,
            _ => Wish::Nothing,
        },
        _ => Wish::Nothing,
    }
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

/// All tokens of a text.
pub fn tokens_in(mut text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    while let Some(token) = token_in(text) {
        tokens.push(token.to_owned());
        text = &text[text.find(token).unwrap_or(0) + token.len()..];
    }
    tokens
}

/// The conversation of a token.
pub fn conversation_of(token: &str) -> Option<usize> {
    token.split('-').nth(1)?.parse().ok()
}
