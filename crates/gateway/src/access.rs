//! Who may talk: nobody but the ids that are listed.

use std::collections::{HashMap, HashSet};

use crate::{GatewayConfig, InboundMessage};

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
        let mut channels = HashMap::new();
        if let Some(telegram) = &config.channels.telegram {
            let users = telegram.allow_users.iter().cloned().collect();
            let chats = telegram.allow_chats.iter().cloned().collect();
            channels.insert("telegram".to_owned(), Allowed { users, chats });
        }
        Self { channels }
    }

    /// Ids only: a name can be anybody's.
    pub(crate) fn allows(&self, message: &InboundMessage) -> bool {
        self.channels.get(message.address.channel.as_str()).is_some_and(|allowed| {
            allowed.users.contains(message.sender.id.as_str()) || allowed.chats.contains(&message.address.chat)
        })
    }
}
