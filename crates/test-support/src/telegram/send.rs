//! What a bot does in a chat: texts, edits, files, reactions, signs of work, answers to presses.

use std::time::Instant;

use serde_json::{Value, json};

use super::{
    BotApi,
    calls::{Outcome, Refusal, place, replied},
    params::Params,
    record::{AnsweredPress, SentFile, SentMessage},
    rules::{self, units},
    world::World,
};

/// UTF-16 units of what a presser is told.
const LONGEST_ANSWER: usize = 200;
/// Bytes of a file.
const LARGEST_FILE: usize = 50 * 1024 * 1024;

pub(super) fn message(world: &mut World, params: &Params) -> Outcome {
    let (chat, thread) = place(world, params)?;
    let text = params.text("text").unwrap_or_default();
    let (text, entities) = rules::text(text, &params.get("entities")).map_err(Refusal::bad)?;
    let buttons = rules::keyboard(&params.get("reply_markup")).map_err(Refusal::bad)?;
    let reply_to = replied(world, chat, params)?;
    let message = SentMessage::new(chat, BotApi::BOT, text);
    Ok(keep(world, SentMessage { thread_id: thread, entities, buttons, reply_to, ..message }))
}

pub(super) fn document(world: &mut World, params: &Params) -> Outcome {
    let (chat, thread) = place(world, params)?;
    let caption = params.text("caption").unwrap_or_default();
    rules::caption(caption, &params.get("caption_entities")).map_err(Refusal::bad)?;
    let upload = params.file("document").cloned().ok_or_else(|| Refusal::bad("there is no document in the request"))?;
    if upload.content.is_empty() {
        return Err(Refusal::bad("file must be non-empty"));
    }
    if upload.content.len() > LARGEST_FILE {
        return Err(Refusal::new(axum::http::StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"));
    }
    let reply_to = replied(world, chat, params)?;
    let file_id = world.store(&upload.content);
    let file = SentFile { name: upload.name.clone(), content: upload.content.to_vec() };
    let message = SentMessage::new(chat, BotApi::BOT, caption);
    let mut answer = keep(world, SentMessage { thread_id: thread, reply_to, file: Some(file), ..message });
    answer["document"] = json!({ "file_id": file_id, "file_name": upload.name, "file_size": upload.content.len(), "file_unique_id": file_id });
    Ok(answer)
}

fn keep(world: &mut World, mut message: SentMessage) -> Value {
    world.arrivals.entry(message.chat_id).or_default().push(Instant::now());
    let chat = world.chat(message.chat_id);
    message.message_id = chat.next_message();
    chat.messages.push(message.clone());
    world.message_json(&message)
}

pub(super) fn edit(world: &mut World, params: &Params) -> Outcome {
    let (chat, _) = place(world, params)?;
    let text = params.text("text").unwrap_or_default();
    let (text, entities) = rules::text(text, &params.get("entities")).map_err(|reason| {
        Refusal::bad(if reason == "message is too long" { "MESSAGE_TOO_LONG".to_owned() } else { reason })
    })?;
    let buttons = rules::keyboard(&params.get("reply_markup")).map_err(Refusal::bad)?;
    let id = params.number("message_id").unwrap_or_default();
    let message = world.chat(chat).message(id).ok_or_else(|| Refusal::bad("message to edit not found"))?;
    if message.from != BotApi::BOT || message.file.is_some() {
        return Err(Refusal::bad("message can't be edited"));
    }
    if (&message.text, &message.entities, &message.buttons) == (&text, &entities, &buttons) {
        return Err(Refusal::bad(
            "message is not modified: specified new message content and reply markup are exactly the same as a current \
             content and reply markup of the message",
        ));
    }
    message.edits.push(std::mem::replace(&mut message.text, text));
    message.entities = entities;
    message.buttons = buttons;
    let message = message.clone();
    Ok(world.message_json(&message))
}

pub(super) fn reaction(world: &mut World, params: &Params) -> Outcome {
    let (chat, _) = place(world, params)?;
    let emoji = rules::reaction(&params.get("reaction")).map_err(Refusal::bad)?;
    let id = params.number("message_id").unwrap_or_default();
    let message = world.chat(chat).message(id).ok_or_else(|| Refusal::bad("message to react not found"))?;
    if message.reactions.last().map_or("", String::as_str) != emoji {
        message.reactions.push(emoji);
    }
    Ok(true.into())
}

pub(super) fn action(world: &mut World, params: &Params) -> Outcome {
    let (chat, thread) = place(world, params)?;
    let action = params.text("action").filter(|action| rules::ACTIONS.contains(action));
    let action = action.ok_or_else(|| Refusal::bad("wrong parameter action in request"))?.to_owned();
    world.actions.push((chat, thread, action));
    Ok(true.into())
}

pub(super) fn answer(world: &mut World, params: &Params) -> Outcome {
    let id = params.text("callback_query_id").unwrap_or_default().to_owned();
    let text = params.text("text").unwrap_or_default().to_owned();
    if units(&text) > LONGEST_ANSWER {
        return Err(Refusal::bad("MESSAGE_TOO_LONG"));
    }
    if !world.presses.remove(&id) {
        return Err(Refusal::bad("query is too old and response timeout expired or query ID is invalid"));
    }
    world.answered.push(AnsweredPress { id, text, alert: params.flag("show_alert") });
    Ok(true.into())
}

pub(super) fn commands(world: &mut World, params: &Params) -> Outcome {
    let mut commands = Vec::new();
    for command in params.get("commands").as_array().ok_or_else(|| Refusal::bad("can't parse commands"))? {
        let name = command["command"].as_str().unwrap_or_default();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !(1..=32).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(Refusal::bad("BOT_COMMAND_INVALID"));
        }
        let description = command["description"].as_str().unwrap_or_default();
        if !(1..=256).contains(&description.chars().count()) {
            return Err(Refusal::bad("BOT_COMMAND_DESCRIPTION_INVALID"));
        }
        commands.push((name.to_owned(), description.to_owned()));
    }
    if commands.len() > 100 {
        return Err(Refusal::bad("BOT_COMMANDS_TOO_MUCH"));
    }
    world.commands = commands;
    Ok(true.into())
}
