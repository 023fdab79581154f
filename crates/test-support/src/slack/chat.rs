//! Messages and reactions of the bot.

use std::{sync::Arc, time::Instant};

use serde_json::{Value, json};

use super::{
    SlackApi, blocks, people,
    web::{Answer, Refusal, flag, required},
    workspace::{Kind, Shared, Workspace},
};

/// A longer text is cut.
const MAX_TEXT: usize = 40_000;

pub(super) fn post_message(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    let (channel, message) = {
        let mut workspace = shared.workspace();
        let channel = find(&mut workspace, required(arguments, "channel")?)?;
        may_write(&workspace, &channel)?;
        let (text, blocks) = content(arguments)?;
        let ts = workspace.next_ts();
        let mut message = json!({
            "type": "message", "user": SlackApi::BOT_USER, "bot_id": SlackApi::BOT_ID, "team": SlackApi::TEAM,
            "ts": ts, "text": text
        });
        if !blocks.is_null() {
            message["blocks"] = blocks;
        }
        if !arguments["metadata"].is_null() {
            message["metadata"] = metadata(&arguments["metadata"])?;
        }
        if let Some(thread) = arguments["thread_ts"].as_str() {
            // As the real one: an unknown parent makes a message outside of threads.
            if workspace.message_mut(&channel, thread).is_some() {
                message["thread_ts"] = thread.into();
                if flag(&arguments["reply_broadcast"]) {
                    message["subtype"] = "thread_broadcast".into();
                }
            }
        }
        workspace.keep(&channel, message.clone());
        workspace.arrivals.entry(channel.clone()).or_default().push(Instant::now());
        (channel, message)
    };
    people::announce(shared, &channel, &message);
    shared.change();
    Ok(json!({ "channel": channel, "ts": message["ts"], "message": message }))
}

pub(super) fn update(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    let mut workspace = shared.workspace();
    let channel = find(&mut workspace, required(arguments, "channel")?)?;
    let ts = required(arguments, "ts")?;
    let (text, blocks) = content(arguments)?;
    let message = workspace.message_mut(&channel, ts).ok_or("message_not_found")?;
    if message["bot_id"] != SlackApi::BOT_ID {
        return Err("cant_update_message".into());
    }
    message["text"] = text.clone().into();
    // Without blocks the old ones go, unless nothing but the text was not given either.
    match (blocks.is_null(), message.as_object_mut()) {
        (true, Some(message)) => drop(message.remove("blocks")),
        _ => message["blocks"] = blocks,
    }
    message["edited"] = json!({ "user": SlackApi::BOT_USER, "ts": ts });
    message["edits"] = (message["edits"].as_u64().unwrap_or(0) + 1).into();
    let message = message.clone();
    Ok(json!({ "channel": channel, "ts": ts, "text": text, "message": message }))
}

pub(super) fn post_ephemeral(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    let mut workspace = shared.workspace();
    let channel = find(&mut workspace, required(arguments, "channel")?)?;
    let user = required(arguments, "user")?.to_owned();
    let (text, _) = content(arguments)?;
    if !workspace.users.contains_key(&user) {
        return Err("user_not_in_channel".into());
    }
    workspace.ephemeral.push((channel, user, text));
    Ok(json!({ "message_ts": workspace.next_ts() }))
}

pub(super) fn add_reaction(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    react(shared, arguments, |users| {
        let bot = json!(SlackApi::BOT_USER);
        if users.contains(&bot) {
            return Err("already_reacted".into());
        }
        users.push(bot);
        Ok(())
    })
}

pub(super) fn remove_reaction(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    react(shared, arguments, |users| {
        let index = users.iter().position(|user| user == SlackApi::BOT_USER);
        users.remove(index.ok_or("no_reaction")?);
        Ok(())
    })
}

fn react(
    shared: &Arc<Shared>,
    arguments: &Value,
    change: impl FnOnce(&mut Vec<Value>) -> Result<(), Refusal>,
) -> Answer {
    let mut workspace = shared.workspace();
    let channel = required(arguments, "channel")?.to_owned();
    workspace.conversations.get(&channel).ok_or("channel_not_found")?;
    let name = required(arguments, "name")?;
    let known = ["eyes", "white_check_mark", "x", "thumbsup", "hourglass"];
    if !known.contains(&name) {
        return Err("invalid_name".into());
    }
    let message = workspace.message_mut(&channel, required(arguments, "timestamp")?).ok_or("message_not_found")?;
    if !message["reactions"].is_array() {
        message["reactions"] = json!([]);
    }
    let reactions = message["reactions"].as_array_mut().ok_or("internal_error")?;
    if !reactions.iter().any(|reaction| reaction["name"] == name) {
        reactions.push(json!({ "name": name, "users": [], "count": 0 }));
    }
    let reaction = reactions.iter_mut().find(|reaction| reaction["name"] == name).ok_or("internal_error")?;
    let users = reaction["users"].as_array_mut().ok_or("internal_error")?;
    change(users)?;
    let count = users.len();
    reaction["count"] = count.into();
    reactions.retain(|reaction| reaction["count"] != 0);
    Ok(Value::Null)
}

/// Text and blocks of a call, checked.
fn content(arguments: &Value) -> Result<(String, Value), Refusal> {
    let text = arguments["text"].as_str().unwrap_or_default();
    let blocks = arguments["blocks"].clone();
    if let Err((error, message)) = blocks::validate(&blocks) {
        let more = json!({ "errors": [message], "response_metadata": { "messages": [format!("[ERROR] {message}")] } });
        return Err(Refusal { error: error.to_owned(), more });
    }
    let no_blocks = blocks.as_array().is_none_or(Vec::is_empty);
    if text.trim().is_empty() && no_blocks {
        return Err("no_text".into());
    }
    Ok((text.chars().take(MAX_TEXT).collect(), if no_blocks { Value::Null } else { blocks }))
}

fn metadata(metadata: &Value) -> Result<Value, Refusal> {
    let valid = metadata["event_type"].is_string() && metadata["event_payload"].is_object();
    if valid { Ok(metadata.clone()) } else { Err("invalid_metadata_format".into()) }
}

/// The channel by id, by name, or the DM of a person.
fn find(workspace: &mut Workspace, named: &str) -> Result<String, Refusal> {
    if workspace.users.contains_key(named) {
        return Ok(workspace.open_dm(named));
    }
    let name = named.trim_start_matches('#');
    let found = workspace
        .conversations
        .values()
        .find(|conversation| conversation.id == named || (!conversation.name.is_empty() && conversation.name == name));
    found.map(|conversation| conversation.id.clone()).ok_or_else(|| "channel_not_found".into())
}

fn may_write(workspace: &Workspace, channel: &str) -> Result<(), Refusal> {
    match workspace.conversations.get(channel) {
        Some(conversation) if conversation.member => Ok(()),
        Some(conversation) if conversation.kind == Kind::Private => Err("channel_not_found".into()),
        Some(_) => Err("not_in_channel".into()),
        None => Err("channel_not_found".into()),
    }
}

impl Workspace {
    /// Appends a message, and counts it at its parent.
    pub(super) fn keep(&mut self, channel: &str, message: Value) {
        if let Some(thread) = message["thread_ts"].as_str()
            && message["thread_ts"] != message["ts"]
            && let Some(parent) = self.message_mut(channel, thread)
        {
            parent["thread_ts"] = thread.into();
            parent["reply_count"] = (parent["reply_count"].as_u64().unwrap_or(0) + 1).into();
            parent["latest_reply"] = message["ts"].clone();
        }
        if let Some(conversation) = self.conversations.get_mut(channel) {
            conversation.messages.push(message);
        }
    }
}
