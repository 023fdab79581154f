//! The platforms, one folder each.

mod discord;
mod health;
mod slack;
pub(crate) mod supervisor;
mod telegram;

use std::sync::Arc;

pub use discord::DiscordChannel;
pub use slack::SlackChannel;
pub use telegram::TelegramChannel;

use crate::{Channel, ChannelError, GatewayConfig};

/// Connections to a platform that wait for use; what a burst needed besides is closed at once, because each holds buffers.
const MOST_UNUSED: usize = 4;

/// The adapters of all enabled channels. Connects to nothing.
pub fn build_channels(config: &GatewayConfig) -> Result<Vec<Arc<dyn Channel>>, ChannelError> {
    let mut built: Vec<Arc<dyn Channel>> = Vec::new();
    if let Some(telegram) = config.channels.telegram.as_ref().filter(|telegram| telegram.settings.enabled) {
        built.push(Arc::new(TelegramChannel::new(telegram)?));
    }
    if let Some(slack) = config.channels.slack.as_ref().filter(|slack| slack.settings.enabled) {
        built.push(Arc::new(SlackChannel::new(slack)?));
    }
    if let Some(discord) = config.channels.discord.as_ref().filter(|discord| discord.settings.enabled) {
        built.push(Arc::new(DiscordChannel::new(discord)?));
    }
    Ok(built)
}
