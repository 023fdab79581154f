//! Who may talk: nobody but the ids that are listed.

use std::collections::{HashMap, HashSet};

use crate::{ChannelSettings, GatewayConfig, InboundMessage};

/// The allowed ids of each channel.
#[derive(Debug, Default)]
pub(crate) struct Access {
    channels: HashMap<String, Allowed>,
}

#[derive(Debug)]
struct Allowed {
    users: HashSet<String>,
    chats: HashSet<String>,
}

impl Access {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let allowed = |(name, settings): (&'static str, &ChannelSettings)| {
            let users = settings.allow_users.iter().cloned().collect();
            let chats = settings.allow_chats.iter().cloned().collect();
            (name.to_owned(), Allowed { users, chats })
        };
        Self { channels: config.channels.settings().map(allowed).collect() }
    }

    /// Ids only: a name can be anybody's.
    pub(crate) fn allows(&self, message: &InboundMessage) -> bool {
        self.channels.get(message.address.channel.as_str()).is_some_and(|allowed| {
            allowed.users.contains(message.sender.id.as_str()) || allowed.chats.contains(&message.address.chat)
        })
    }
}
