//! Channels, their history, and people.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    web::{Answer, Refusal, flag, number, required},
    workspace::{Conversation, Kind, Shared, Workspace},
};

/// Entries of a page if the call does not say.
const PAGE: usize = 100;

pub(super) fn history(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    let workspace = shared.workspace();
    let conversation = readable(&workspace, arguments, "history")?;
    let top_level = |message: &&Value| {
        let reply = message["thread_ts"].is_string() && message["thread_ts"] != message["ts"];
        (!reply || message["subtype"] == "thread_broadcast") && in_range(message, arguments)
    };
    let found: Vec<&Value> = conversation.messages.iter().rev().filter(top_level).collect();
    page(&found, arguments)
}

pub(super) fn replies(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    let workspace = shared.workspace();
    let conversation = readable(&workspace, arguments, "history")?;
    let thread = required(arguments, "ts")?;
    if !conversation.messages.iter().any(|message| message["ts"] == thread) {
        return Err("thread_not_found".into());
    }
    // The parent is part of every answer, whatever the range.
    let of_thread =
        |message: &&Value| message["ts"] == thread || (message["thread_ts"] == thread && in_range(message, arguments));
    let found: Vec<&Value> = conversation.messages.iter().filter(of_thread).collect();
    page(&found, arguments)
}

pub(super) fn info(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    let workspace = shared.workspace();
    let conversation = readable(&workspace, arguments, "read")?;
    Ok(json!({ "channel": describe(conversation) }))
}

pub(super) fn list(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    let workspace = shared.workspace();
    let types: Vec<&str> = arguments["types"].as_str().unwrap_or("public_channel").split(',').map(str::trim).collect();
    for kind in [Kind::Channel, Kind::Private, Kind::Dm, Kind::GroupDm] {
        let (scope, name) = kind.scope();
        if types.contains(&name) {
            workspace.require(&format!("{scope}:read"))?;
        }
    }
    let listed = workspace.conversations.values().filter(|conversation| {
        types.contains(&conversation.kind.scope().1) && (conversation.member || conversation.kind == Kind::Channel)
    });
    let described: Vec<Value> = listed.map(describe).collect();
    let (from, to, next) = bounds(described.len(), arguments);
    Ok(json!({ "channels": described[from..to], "response_metadata": { "next_cursor": next } }))
}

pub(super) fn open(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    let mut workspace = shared.workspace();
    let user = required(arguments, "users")?;
    if !workspace.users.contains_key(user) {
        return Err("user_not_found".into());
    }
    let id = workspace.open_dm(user);
    Ok(json!({ "channel": { "id": id } }))
}

pub(super) fn user_info(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    let workspace = shared.workspace();
    let user = workspace.users.get(required(arguments, "user")?).ok_or("user_not_found")?;
    Ok(json!({ "user": user }))
}

fn readable<'a>(workspace: &'a Workspace, arguments: &Value, what: &str) -> Result<&'a Conversation, Refusal> {
    let conversation = workspace.conversations.get(required(arguments, "channel")?).ok_or("channel_not_found")?;
    workspace.require(&format!("{}:{what}", conversation.kind.scope().0))?;
    match conversation.kind {
        Kind::Channel if what == "history" && !conversation.member => Err("not_in_channel".into()),
        Kind::Channel => Ok(conversation),
        _ if conversation.member => Ok(conversation),
        _ => Err("channel_not_found".into()),
    }
}

fn describe(conversation: &Conversation) -> Value {
    let kind = conversation.kind;
    json!({
        "id": conversation.id, "name": conversation.name, "is_channel": kind == Kind::Channel,
        "is_group": kind == Kind::Private, "is_im": kind == Kind::Dm, "is_mpim": kind == Kind::GroupDm,
        "is_member": conversation.member, "is_archived": false, "is_private": kind != Kind::Channel,
        "user": conversation.peer
    })
}

/// Time stamps have the same length, so their order is that of their text.
fn in_range(message: &Value, arguments: &Value) -> bool {
    let ts = message["ts"].as_str().unwrap_or_default();
    let inclusive = flag(&arguments["inclusive"]);
    let above = |oldest: &str| oldest == "0" || ts > oldest || (inclusive && ts == oldest);
    let below = |latest: &str| ts < latest || (inclusive && ts == latest);
    arguments["oldest"].as_str().is_none_or(above) && arguments["latest"].as_str().is_none_or(below)
}

fn page(found: &[&Value], arguments: &Value) -> Answer {
    let (from, to, next) = bounds(found.len(), arguments);
    let with_metadata = flag(&arguments["include_all_metadata"]);
    let messages: Vec<Value> = found[from..to]
        .iter()
        .map(|message| {
            let mut message = (*message).clone();
            if let Some(message) = message.as_object_mut().filter(|_| !with_metadata) {
                message.remove("metadata");
            }
            message
        })
        .collect();
    Ok(json!({
        "messages": messages, "has_more": !next.is_empty(), "response_metadata": { "next_cursor": next }
    }))
}

fn bounds(length: usize, arguments: &Value) -> (usize, usize, String) {
    let from = arguments["cursor"].as_str().and_then(|cursor| cursor.strip_prefix("next:")?.parse().ok()).unwrap_or(0);
    let from = length.min(from);
    let to = length.min(from + number(&arguments["limit"]).unwrap_or(PAGE).clamp(1, 1000));
    (from, to, if to < length { format!("next:{to}") } else { String::new() })
}
