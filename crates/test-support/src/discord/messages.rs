//! Messages of a channel: read, made, changed, reacted to; and the files in them.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::{FromRequest, Multipart, Path, Query, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    FakeDiscord, Shared, State as Platform,
    people::{blank_message, buttons, message_id},
    record::{DiscordEdit, DiscordMessage, DiscordReaction},
    rest::{Answer, Parameters, Refusal, ok, visible},
    world::{id_of, merge, object},
};

/// Characters of one message.
const CONTENT_LIMIT: usize = 2000;
/// Bytes of one file.
const FILE_LIMIT: usize = 10 * 1024 * 1024;

/// Newest first, also with `after`, which gives those that follow it directly.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Path(channel): Path<u64>,
    Query(query): Parameters,
) -> Answer {
    let state = shared.state();
    visible(&state, channel)?;
    let number = |key: &str| query.get(key).map(|value| value.parse::<u64>().map_err(|_| Refusal::INVALID_FORM));
    let limit = number("limit").transpose()?.unwrap_or(50);
    if !(1..=100).contains(&limit) {
        return Err(Refusal::INVALID_FORM);
    }
    let (after, before) = (number("after").transpose()?, number("before").transpose()?);
    let all = state.world.channels.get(&channel).map(|channel| channel.messages.as_slice()).unwrap_or_default();
    let limit = usize::try_from(limit).unwrap_or(100);
    let page: Vec<Value> = match after {
        Some(after) => {
            let mut page: Vec<Value> =
                all.iter().filter(|message| message_id(message) > after).take(limit).cloned().collect();
            page.reverse();
            page
        }
        None => {
            let older = all.iter().rev().filter(|message| before.is_none_or(|before| message_id(message) < before));
            older.take(limit).cloned().collect()
        }
    };
    let age = state.world.link_age;
    Ok(ok(&Value::Array(page.into_iter().map(|message| fresh_links(message, age)).collect())))
}

pub(super) async fn one(State(shared): State<Arc<Shared>>, Path((channel, message)): Path<(u64, u64)>) -> Answer {
    let state = shared.state();
    visible(&state, channel)?;
    let message = state.world.message(channel, message).cloned().ok_or(Refusal::UNKNOWN_MESSAGE)?;
    Ok(ok(&fresh_links(message, state.world.link_age)))
}

/// Links that were given out before expire; a message that is read again has new ones.
fn fresh_links(mut message: Value, age: u32) -> Value {
    let attachments = message["attachments"].as_array_mut().into_iter().flatten();
    for attachment in attachments {
        for key in ["url", "proxy_url"] {
            let url = attachment[key].as_str().unwrap_or_default();
            let path = url.split_once('?').map_or(url, |(path, _)| path);
            attachment[key] = json!(format!("{path}?ex={age}"));
        }
    }
    message
}

pub(super) async fn create(State(shared): State<Arc<Shared>>, Path(channel): Path<u64>, request: Request) -> Answer {
    let (body, files) = read(request).await?;
    validate(&body, files.len())?;
    shared.update(|state| {
        visible(state, channel)?;
        if let Some(nonce) = body["nonce"].as_str().filter(|_| body["enforce_nonce"] == true)
            && let Some(existing) = state.world.made_by(channel, nonce)
        {
            state.record.repeated_nonces += 1;
            return state.world.message(channel, existing).map(ok).ok_or(Refusal::UNKNOWN_MESSAGE);
        }
        let reply_to = answered(state, channel, &body)?;
        let message = post(&shared, state, channel, &body, &files, reply_to);
        Ok(ok(&message))
    })
}

/// JSON, or a form with `payload_json` and `files[n]`.
async fn read(request: Request) -> Result<(Value, Vec<(String, Vec<u8>)>), Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        let Json(body) = Json::<Value>::from_request(request, &()).await.map_err(|_| Refusal::INVALID_FORM)?;
        return Ok((body, Vec::new()));
    }
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| Refusal::INVALID_FORM)?;
    let (mut body, mut files) = (object(), Vec::new());
    while let Some(field) = form.next_field().await.map_err(|_| Refusal::INVALID_FORM)? {
        let name = field.name().unwrap_or_default().to_owned();
        let file_name = field.file_name().map(str::to_owned);
        let content = field.bytes().await.map_err(|_| Refusal::INVALID_FORM)?;
        match file_name {
            Some(file_name) if name.starts_with("files[") => {
                if content.len() > FILE_LIMIT {
                    return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, 40005, "Request entity too large"));
                }
                files.push((file_name, content.to_vec()));
            }
            _ if name == "payload_json" => {
                body = serde_json::from_slice(&content).map_err(|_| Refusal::INVALID_FORM)?;
            }
            _ => return Err(Refusal::INVALID_FORM),
        }
    }
    Ok((body, files))
}

/// The limits of the documentation that a bot can run into.
pub(super) fn validate(body: &Value, files: usize) -> Result<(), Refusal> {
    let content = body["content"].as_str().unwrap_or_default();
    if content.chars().count() > CONTENT_LIMIT || files > 10 {
        return Err(Refusal::INVALID_FORM);
    }
    let empty = content.trim().is_empty() && files == 0;
    if empty && body["embeds"].as_array().is_none_or(Vec::is_empty) {
        return Err(Refusal::EMPTY_MESSAGE);
    }
    if body["nonce"].as_str().is_some_and(|nonce| nonce.chars().count() > 25) {
        return Err(Refusal::INVALID_FORM);
    }
    validate_components(&body["components"])
}

fn validate_components(rows: &Value) -> Result<(), Refusal> {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let row_is_good = |row: &Value| {
        let inside = row["components"].as_array().map(Vec::as_slice).unwrap_or_default();
        row["type"] == 1 && (1..=5).contains(&inside.len()) && inside.iter().all(button_is_good)
    };
    if rows.len() > 5 || !rows.iter().all(row_is_good) {
        return Err(Refusal::INVALID_FORM);
    }
    let ids: Vec<String> = buttons(&Value::Array(rows.to_vec())).into_iter().map(|button| button.custom_id).collect();
    let unique = ids.iter().collect::<std::collections::HashSet<_>>().len() == ids.len();
    if unique { Ok(()) } else { Err(Refusal::INVALID_FORM) }
}

fn button_is_good(button: &Value) -> bool {
    let length = |key: &str| button[key].as_str().map_or(0, |text| text.chars().count());
    button["type"] == 2
        && (1..=4).contains(&button["style"].as_u64().unwrap_or_default())
        && (1..=100).contains(&length("custom_id"))
        && (1..=80).contains(&length("label"))
}

/// The message that a reply answers. One that is gone is an error, unless the reply says that it is not.
fn answered(state: &Platform, channel: u64, body: &Value) -> Result<Option<u64>, Refusal> {
    let reference = &body["message_reference"];
    let Some(id) = id_of(&reference["message_id"]) else { return Ok(None) };
    match state.world.message(channel, id) {
        Some(_) => Ok(Some(id)),
        None if reference["fail_if_not_exists"] == false => Ok(None),
        None => Err(Refusal::INVALID_FORM),
    }
}

fn post(
    shared: &Shared,
    state: &mut Platform,
    channel: u64,
    body: &Value,
    files: &[(String, Vec<u8>)],
    reply_to: Option<u64>,
) -> Value {
    let world = &mut state.world;
    let id = world.next_id();
    let mut message = blank_message(id, channel, &world.user(FakeDiscord::BOT));
    let attach = |(name, content): &(String, Vec<u8>)| {
        world.attach(shared, channel, (name, "application/octet-stream", content.clone()))
    };
    let attachments: Vec<Value> = files.iter().map(attach).collect();
    let components = body["components"].as_array().cloned().unwrap_or_default();
    let more = json!({ "content": body["content"].as_str().unwrap_or_default(), "components": components,
        "attachments": attachments, "nonce": body["nonce"], "flags": body["flags"].as_u64().unwrap_or_default() });
    merge(&mut message, more);
    if let Some(answered) = reply_to {
        let reference = json!({ "type": 0, "channel_id": channel.to_string(), "message_id": answered.to_string() });
        merge(&mut message, json!({ "type": 19, "message_reference": reference }));
    }
    if let Some(channel) = world.channels.get_mut(&channel) {
        channel.messages.push(message.clone());
    }
    if let Some(nonce) = body["nonce"].as_str() {
        world.remember_nonce(channel, nonce, id);
    }
    world.announce("MESSAGE_CREATE", channel, id);
    state.record.arrivals.entry(channel).or_default().push(Instant::now());
    state.record.messages.push(DiscordMessage {
        id,
        channel,
        content: body["content"].as_str().unwrap_or_default().to_owned(),
        nonce: body["nonce"].as_str().map(str::to_owned),
        reply_to,
        buttons: buttons(&body["components"]),
        files: files.to_vec(),
        allowed_mentions: body["allowed_mentions"].clone(),
        flags: body["flags"].as_u64().unwrap_or_default(),
    });
    message
}

pub(super) async fn edit(
    State(shared): State<Arc<Shared>>,
    Path((channel, id)): Path<(u64, u64)>,
    Json(body): Json<Value>,
) -> Answer {
    shared.update(|state| {
        visible(state, channel)?;
        let message = state.world.message_mut(channel, id).ok_or(Refusal::UNKNOWN_MESSAGE)?;
        if id_of(&message["author"]["id"]) != Some(FakeDiscord::BOT) {
            return Err(Refusal::NOT_THE_AUTHOR);
        }
        let mut changed = message.clone();
        for key in ["content", "components", "flags"] {
            if let Some(value) = body.get(key) {
                changed[key] = value.clone();
            }
        }
        changed["edited_timestamp"] = json!("2026-06-01T00:00:01.000000+00:00");
        validate(&changed, changed["attachments"].as_array().map_or(0, Vec::len))?;
        *message = changed.clone();
        state.world.announce("MESSAGE_UPDATE", channel, id);
        let content = changed["content"].as_str().unwrap_or_default().to_owned();
        state.record.edits.push(DiscordEdit { message: id, content, buttons: buttons(&changed["components"]) });
        Ok(ok(&changed))
    })
}

pub(super) async fn react(State(shared): State<Arc<Shared>>, Path(path): Path<(u64, u64, String)>) -> Answer {
    reaction(&shared, path, true)
}

pub(super) async fn unreact(State(shared): State<Arc<Shared>>, Path(path): Path<(u64, u64, String)>) -> Answer {
    reaction(&shared, path, false)
}

fn reaction(shared: &Shared, (channel, message, emoji): (u64, u64, String), added: bool) -> Answer {
    shared.update(|state| {
        visible(state, channel)?;
        state.world.message(channel, message).ok_or(Refusal::UNKNOWN_MESSAGE)?;
        if emoji.is_ascii() {
            return Err(Refusal(StatusCode::BAD_REQUEST, 10014, "Unknown Emoji"));
        }
        state.record.reactions.push(DiscordReaction { message, emoji, added });
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}

pub(super) async fn download(
    State(shared): State<Arc<Shared>>,
    Path((channel, attachment, name)): Path<(u64, u64, String)>,
    Query(query): Parameters,
) -> Response {
    let state = shared.state();
    let valid = query.get("ex").is_some_and(|age| *age == state.world.link_age.to_string());
    let content = state.world.files.get(&format!("attachments/{channel}/{attachment}/{name}"));
    match content {
        Some(content) if valid => content.clone().into_response(),
        _ => (StatusCode::NOT_FOUND, "This content is no longer available.").into_response(),
    }
}
