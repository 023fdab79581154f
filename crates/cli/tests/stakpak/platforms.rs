//! Telegram, Slack and Discord at once through the built binary, as people meet it there.

mod approvals;
mod commands;
mod content;
mod conversations;
mod stage;

pub use self::stage::{Chat, PLATFORMS, Person, Platform, Shown, Stage};
