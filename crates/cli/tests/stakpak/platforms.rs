//! Telegram, Slack and Discord at once through the built binary, as people meet it there.

mod approvals;
mod batches;
mod chat;
mod commands;
mod content;
mod conversations;
mod grants;
mod stage;

pub use self::{
    chat::{Chat, Shown},
    stage::{PLATFORMS, Person, Platform, Stage},
};
