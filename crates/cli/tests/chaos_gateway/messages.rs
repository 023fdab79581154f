//! What the bot wrote, as it stands in the chats.

use std::collections::HashMap;

use stakpak_test_support::{DiscordButton, DiscordEdit};

use crate::{people::Place, world::World};

/// A message of the bot.
#[derive(Debug, Default)]
pub struct Message {
    /// As the platform names it.
    pub id: String,
    pub text: String,
    /// What its button `Allow` sends.
    pub allow: Option<String>,
    pub deny: Option<String>,
}

/// Those in each place, in the order of the chat.
pub fn messages<'a>(world: &World, places: impl Iterator<Item = &'a Place>) -> Vec<Vec<Message>> {
    let (mut telegram, mut discord) = (telegram(world), discord(world));
    let messages = places.map(|place| match place {
        Place::Telegram { chat, .. } => telegram.remove(chat).unwrap_or_default(),
        Place::SlackDirect { channel, .. } | Place::SlackThread { channel, .. } => slack(world, channel),
        Place::Discord { channel, .. } => discord.remove(channel).unwrap_or_default(),
    });
    messages.collect()
}

impl Message {
    fn new(id: String, text: String, payloads: impl Iterator<Item = String>) -> Self {
        let payloads: Vec<String> = payloads.collect();
        let of = |verb: &str| payloads.iter().find(|payload| payload.ends_with(verb)).cloned();
        Self { id, text, allow: of(":allow"), deny: of(":deny") }
    }
}

fn telegram(world: &World) -> HashMap<i64, Vec<Message>> {
    let mut by_chat: HashMap<i64, Vec<Message>> = HashMap::new();
    for sent in world.telegram.sent() {
        let payloads = sent.buttons.into_iter().map(|button| button.data);
        by_chat.entry(sent.chat_id).or_default().push(Message::new(sent.message_id.to_string(), sent.text, payloads));
    }
    by_chat
}

fn slack(world: &World, channel: &str) -> Vec<Message> {
    let messages = world.slack.sent(channel).into_iter().map(|sent| {
        let blocks = sent.blocks.as_array().map(Vec::as_slice).unwrap_or_default();
        let elements = blocks.iter().flat_map(|block| block["elements"].as_array().into_iter().flatten());
        let payloads = elements.filter_map(|element| element["action_id"].as_str().map(str::to_owned));
        Message::new(sent.ts, sent.text, payloads)
    });
    messages.collect()
}

fn discord(world: &World) -> HashMap<u64, Vec<Message>> {
    world.discord.look(|seen| {
        let edits: HashMap<u64, &DiscordEdit> = seen.edits.iter().map(|edit| (edit.message, edit)).collect();
        let mut by_channel: HashMap<u64, Vec<Message>> = HashMap::new();
        for message in &seen.messages {
            let (text, buttons): (&str, &[DiscordButton]) = match edits.get(&message.id) {
                Some(edit) => (&edit.content, &edit.buttons),
                None => (&message.content, &message.buttons),
            };
            let payloads = buttons.iter().map(|button| button.custom_id.clone());
            let message_now = Message::new(message.id.to_string(), text.to_owned(), payloads);
            by_channel.entry(message.channel).or_default().push(message_now);
        }
        by_channel
    })
}
