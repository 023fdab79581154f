//! People press buttons: the one they want, both at once, or one twice.

use crate::{
    history::{COMMAND, Wish, token_in, wish},
    messages::Message,
    people::Place,
    world::World,
};

/// What the sender of the message behind a prompt wants. The prompt may have been decided meanwhile.
pub fn press(world: &World, place: &Place, prompt: &Message, allow: &str, deny: &str) {
    let Some(token) = prompt.text.split_once(COMMAND).and_then(|(_, command)| token_in(command)) else { return };
    let payloads: &[&str] = match wish(token) {
        Wish::Allow => &[allow, allow],
        Wish::Deny => &[deny],
        Wish::Both => &[deny, allow],
        Wish::Nothing => return,
    };
    for payload in payloads {
        match place {
            Place::Telegram { chat, user } => {
                world.telegram.try_press(*chat, prompt.id.parse().unwrap(), *user, payload);
            }
            Place::SlackDirect { channel, user } | Place::SlackThread { channel, user, .. } => {
                world.slack.try_press(channel, &prompt.id, user, payload);
            }
            Place::Discord { person, .. } => {
                world.discord.try_press(prompt.id.parse().unwrap(), *person, payload);
            }
        }
    }
}
