//! Names of people and kinds of chats, asked once each.
//!
//! Both are conveniences: an answer that is refused or slow is done without, and nothing waits for it longer than a moment.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::time::timeout;

use super::{api::Api, decode::ChatKind};
use crate::{ChannelError, Sender};

/// An acknowledgement waits for it.
const PATIENCE: Duration = Duration::from_millis(700);
/// More are forgotten together; a busy workspace has as many.
const REMEMBERED: usize = 2000;

/// What was asked so far.
#[derive(Debug, Default)]
pub(super) struct People {
    names: Mutex<HashMap<String, Names>>,
    kinds: Mutex<HashMap<String, ChatKind>>,
}

#[derive(Debug, Clone, Default)]
struct Names {
    username: Option<String>,
    display_name: Option<String>,
}

impl People {
    /// Writes the names that are known to the platform into a sender.
    pub(super) async fn name(&self, api: &Api, sender: &mut Sender) {
        let id = sender.id.as_str().to_owned();
        let known = lock(&self.names).get(&id).cloned();
        let names = match known {
            Some(names) => names,
            None => {
                let names = match timeout(PATIENCE, api.call("users.info", &[("user", &id)])).await {
                    Ok(Ok(answer)) => names(&answer["user"]),
                    // Without the scope it will not be told later either.
                    Ok(Err(ChannelError::MissingScope { .. } | ChannelError::Rejected { .. })) => Names::default(),
                    _ => return,
                };
                remember(&self.names, id, names.clone());
                names
            }
        };
        sender.username = names.username.or(sender.username.take());
        sender.display_name = names.display_name.or(sender.display_name.take());
    }

    /// The kind of the chat of an event; an event that does not tell it is about a channel unless the platform says
    /// otherwise.
    pub(super) async fn kind(&self, api: &Api, event: &Value) -> ChatKind {
        let channel = event["channel"].as_str().unwrap_or_default();
        if channel.starts_with('D') {
            return ChatKind::Direct;
        }
        if let Some(kind) = event["channel_type"].as_str().and_then(ChatKind::named) {
            remember(&self.kinds, channel.to_owned(), kind);
            return kind;
        }
        if let Some(kind) = lock(&self.kinds).get(channel) {
            return *kind;
        }
        match timeout(PATIENCE, api.call("conversations.info", &[("channel", channel)])).await {
            Ok(Ok(answer)) => {
                let group_dm = answer["channel"]["is_mpim"] == true;
                let kind = if group_dm { ChatKind::GroupDm } else { ChatKind::Channel };
                remember(&self.kinds, channel.to_owned(), kind);
                kind
            }
            _ => ChatKind::Channel,
        }
    }
}

fn names(user: &Value) -> Names {
    let text = |value: &Value| value.as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    let profile = &user["profile"];
    let display_name = text(&profile["real_name"]).or_else(|| text(&user["real_name"]));
    Names { username: text(&user["name"]), display_name }
}

fn remember<T>(known: &Mutex<HashMap<String, T>>, id: String, what: T) {
    let mut known = lock(known);
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(id, what);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
