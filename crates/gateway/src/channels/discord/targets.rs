//! What a program named: a channel, a thread, a direct chat or a person.

use serde_json::{Value, json};
use serenity::http::Route;
use teloxide_reqwest::Method;

use super::{DiscordChannel, api::Payload, outgoing, places::Place};
use crate::{Address, ChannelError};

impl DiscordChannel {
    /// A thread with its channel, a direct chat with its person, a person as the direct chat; what the platform does not
    /// know, or does not show to the bot, as it was named.
    pub(super) async fn find_target(&self, address: &Address) -> Result<Address, ChannelError> {
        let id = outgoing::target(address)?.get();
        if let Some(chat) = self.places.direct_chat_of(id) {
            return Ok(direct(chat, id));
        }
        let place = self.places.find(&self.api, id, None).await?;
        if place.kind.is_some() {
            return Ok(addressed(&place, id));
        }
        if address.thread.is_some() {
            return Ok(address.clone());
        }
        match self.open_direct_chat(id).await {
            Ok(Some(chat)) => Ok(direct(chat, id)),
            Ok(None) | Err(ChannelError::Rejected { .. } | ChannelError::NotAllowed { .. }) => Ok(address.clone()),
            Err(error) => Err(error),
        }
    }

    async fn open_direct_chat(&self, person: u64) -> Result<Option<u64>, ChannelError> {
        let body = Payload::Json(json!({ "recipient_id": person.to_string() }).to_string().into_bytes());
        let response = self.api.call(Method::POST, Route::UserMeDmChannels, "", body).await?;
        let channel: Value = self.api.decode(response).await?;
        Ok(self.places.learn(&channel, None).map(|(chat, _)| chat))
    }
}

fn direct(chat: u64, person: u64) -> Address {
    let place = Place { person: Some(person), ..Place::default() };
    addressed(&place, chat)
}

fn addressed(place: &Place, id: u64) -> Address {
    let (chat, thread) = place.chat_and_thread(id);
    let direct = place.person.map(|person| person.to_string().into());
    Address { channel: "discord".into(), chat, thread, direct }
}
