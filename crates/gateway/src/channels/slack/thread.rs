//! What was said in a thread before the bot was called into it.

use std::collections::VecDeque;

use serde_json::Value;

use super::{SlackChannel, text, ts::micros};
use crate::{Address, ChannelError, Overheard, PeerId, Sender};

/// Pages that are read at most: the platform begins with the oldest.
const PAGES: usize = 5;

impl SlackChannel {
    /// The last messages of a thread before `message_id`, oldest first.
    pub(super) async fn said_before(
        &self,
        address: &Address,
        message_id: &str,
        most: usize,
    ) -> Result<Vec<Overheard>, ChannelError> {
        let (Some(thread), Some(until)) = (address.thread.as_deref(), micros(message_id)) else {
            return Ok(Vec::new());
        };
        let (mut last, mut cursor) = (VecDeque::new(), String::new());
        for _ in 0..PAGES {
            let arguments = [
                ("channel", address.chat.as_str()),
                ("ts", thread),
                ("latest", message_id),
                ("limit", "200"),
                ("cursor", &cursor),
            ];
            let mut page = self.api.call("conversations.replies", &arguments).await?;
            let messages = page["messages"].as_array_mut().map(std::mem::take).unwrap_or_default();
            for message in messages {
                // The first message of the thread comes whatever was asked for.
                if message["ts"].as_str().and_then(micros).is_some_and(|at| at < until) {
                    last.push_back(message);
                }
                if last.len() > most {
                    last.pop_front();
                }
            }
            page["response_metadata"]["next_cursor"].as_str().unwrap_or_default().clone_into(&mut cursor);
            if cursor.is_empty() {
                break;
            }
        }
        let mut said = Vec::new();
        for message in last {
            let name = self.name_of(&message).await;
            said.push(Overheard { name, text: text::typed(message["text"].as_str().unwrap_or_default()) });
        }
        Ok(said)
    }

    async fn name_of(&self, message: &Value) -> String {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if !message["bot_id"].is_null() {
            return text(&message["username"]).unwrap_or_else(|| "a bot".to_owned());
        }
        let Some(id) = text(&message["user"]) else { return "somebody".to_owned() };
        let mut sender = Sender { id: PeerId::from(id), username: None, display_name: None };
        self.people.name(&self.api, &mut sender).await;
        sender.name().to_owned()
    }
}
