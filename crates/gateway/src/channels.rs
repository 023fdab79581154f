//! The platforms, one folder each.

mod health;
pub(crate) mod supervisor;
mod telegram;

use std::sync::Arc;

pub use telegram::TelegramChannel;

use crate::{Channel, ChannelError, GatewayConfig};

/// The adapters of all enabled channels. Connects to nothing.
pub fn build_channels(config: &GatewayConfig) -> Result<Vec<Arc<dyn Channel>>, ChannelError> {
    let telegram = config.channels.telegram.as_ref().filter(|telegram| telegram.settings.enabled);
    telegram
        .map(|telegram| TelegramChannel::new(telegram).map(|channel| Arc::new(channel) as Arc<dyn Channel>))
        .into_iter()
        .collect()
}
