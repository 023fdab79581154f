//! Chats as programs name them, and as Slack numbers them.
//!
//! An id of a channel says all there is to know and is never asked about. A name may be given to another channel, so it is
//! asked again after a while; people and direct chats stay what they are.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::SlackChannel;
use crate::{Address, ChannelError, targeting::is_slack_id};

/// Chats that were looked up; more are forgotten together.
const REMEMBERED: usize = 1000;
/// How long a name stands for the same channel.
const NAME_LIFE: Duration = Duration::from_secs(600);
/// Pages of channels that the bot is in, 200 a page.
const PAGES: usize = 20;

/// A chat as the platform numbers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    id: String,
    /// The other party of a direct chat.
    peer: Option<String>,
}

/// What was looked up so far.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: Mutex<HashMap<String, (Place, Instant)>>,
}

impl Places {
    fn get(&self, named: &str) -> Option<Place> {
        let lasts = is_slack_id(named, &['D', 'U', 'W']);
        let known = self.lock();
        let (place, since) = known.get(named)?;
        (lasts || since.elapsed() < NAME_LIFE).then(|| place.clone())
    }

    fn learn(&self, named: &str, place: Place) {
        let mut known = self.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(named.to_owned(), (place, Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Place, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlackChannel {
    /// A channel by its id, a direct chat with its person.
    pub(super) async fn find_target(&self, address: &Address) -> Result<Address, ChannelError> {
        let named = address.chat.as_str();
        let says_all = is_slack_id(named, &['C', 'G']) || (is_slack_id(named, &['D']) && address.direct.is_some());
        let place = if says_all { None } else { self.place(named).await? };
        Ok(match place {
            Some(Place { id, peer }) => Address { chat: id, direct: peer.map(Into::into), ..address.clone() },
            None => address.clone(),
        })
    }

    /// The id of a chat that may have been given as a person or a name; most calls take nothing else.
    pub(super) async fn chat_id(&self, address: &Address) -> Result<String, ChannelError> {
        if is_slack_id(&address.chat, &['C', 'G', 'D']) {
            return Ok(address.chat.clone());
        }
        Ok(self.place(&address.chat).await?.map_or_else(|| address.chat.clone(), |place| place.id))
    }

    /// What a message says about the chat it was sent to.
    pub(super) fn learn_place(&self, address: &Address, id: &str) {
        if address.chat == id {
            return;
        }
        let person = is_slack_id(&address.chat, &['U', 'W']).then(|| address.chat.clone());
        self.places.learn(&address.chat, Place { id: id.to_owned(), peer: person });
    }

    async fn place(&self, named: &str) -> Result<Option<Place>, ChannelError> {
        if let Some(place) = self.places.get(named) {
            return Ok(Some(place));
        }
        let found = if is_slack_id(named, &['U', 'W']) {
            let opened = self.api.call("conversations.open", &[("users", named)]).await?;
            opened["channel"]["id"].as_str().map(|id| Place { id: id.to_owned(), peer: Some(named.to_owned()) })
        } else if is_slack_id(named, &['D']) {
            let info = self.api.call("conversations.info", &[("channel", named)]).await?;
            info["channel"]["user"].as_str().map(|user| Place { id: named.to_owned(), peer: Some(user.to_owned()) })
        } else {
            self.channel_named(named).await?.map(|id| Place { id, peer: None })
        };
        if let Some(place) = &found {
            self.places.learn(named, place.clone());
        }
        Ok(found)
    }

    /// Among the channels that the bot is in: it cannot write into others.
    async fn channel_named(&self, named: &str) -> Result<Option<String>, ChannelError> {
        let name = named.trim_start_matches('#').to_lowercase();
        let mut cursor = String::new();
        for _ in 0..PAGES {
            let arguments = [
                ("types", "public_channel,private_channel"),
                ("exclude_archived", "true"),
                ("limit", "200"),
                ("cursor", &cursor),
            ];
            let page = self.api.call("users.conversations", &arguments).await?;
            let found = page["channels"].as_array().into_iter().flatten().find(|channel| channel["name"] == name);
            if let Some(id) = found.and_then(|channel| channel["id"].as_str()) {
                return Ok(Some(id.to_owned()));
            }
            page["response_metadata"]["next_cursor"].as_str().unwrap_or_default().clone_into(&mut cursor);
            if cursor.is_empty() {
                break;
            }
        }
        Ok(None)
    }
}
