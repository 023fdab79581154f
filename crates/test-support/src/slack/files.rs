//! Files: the three steps of an upload, and the download.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequest, Multipart, Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    SlackApi, SlackFile, people,
    web::{Answer, Refusal, number, required},
    workspace::Shared,
};

pub(super) fn upload_url(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    let name = required(arguments, "filename")?.to_owned();
    number(&arguments["length"]).filter(|length| *length > 0).ok_or("invalid_arguments")?;
    let mut workspace = shared.workspace();
    let id = workspace.next_id("F");
    let mime_type = "application/octet-stream".to_owned();
    let file = SlackFile { id: id.clone(), name, mime_type, content: Vec::new(), channel: None };
    workspace.files.insert(id.clone(), file);
    Ok(json!({ "upload_url": format!("http://{}/upload/{id}", shared.address), "file_id": id }))
}

/// The bytes, raw or as the first part of a form.
pub(super) async fn upload(State(shared): State<Arc<Shared>>, Path(id): Path<String>, request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let content = if kind.starts_with("multipart/form-data") { form(request).await } else { raw(request).await };
    let Some(content) = content else { return StatusCode::BAD_REQUEST.into_response() };
    let mut workspace = shared.workspace();
    let Some(file) = workspace.files.get_mut(&id) else { return StatusCode::NOT_FOUND.into_response() };
    file.content = content.to_vec();
    format!("OK - {}", content.len()).into_response()
}

async fn form(request: Request) -> Option<Bytes> {
    let mut form = Multipart::from_request(request, &()).await.ok()?;
    form.next_field().await.ok()??.bytes().await.ok()
}

async fn raw(request: Request) -> Option<Bytes> {
    Bytes::from_request(request, &()).await.ok()
}

pub(super) fn complete_upload(shared: &Arc<Shared>, arguments: &Value) -> Answer {
    let message = {
        let mut workspace = shared.workspace();
        let channel = arguments["channel_id"].as_str().map(str::to_owned);
        if channel.as_ref().is_some_and(|channel| !workspace.conversations.contains_key(channel)) {
            return Err("channel_not_found".into());
        }
        let mut listed = Vec::new();
        for wanted in arguments["files"].as_array().ok_or("invalid_arguments")? {
            let file = workspace.files.get_mut(required(wanted, "id")?).ok_or("file_not_found")?;
            file.channel.clone_from(&channel);
            listed.push(describe(shared, file));
        }
        channel.map(|channel| {
            let ts = workspace.next_ts();
            let mut message = json!({
                "type": "message", "subtype": "file_share", "user": SlackApi::BOT_USER, "bot_id": SlackApi::BOT_ID,
                "ts": ts, "text": arguments["initial_comment"].as_str().unwrap_or_default(), "files": listed
            });
            if let Some(thread) = arguments["thread_ts"].as_str() {
                message["thread_ts"] = thread.into();
            }
            workspace.keep(&channel, message.clone());
            (channel, message, listed)
        })
    };
    let Some((channel, message, listed)) = message else { return Ok(json!({ "files": arguments["files"] })) };
    people::announce(shared, &channel, &message);
    shared.change();
    Ok(json!({ "files": listed }))
}

/// As a message lists it.
pub(super) fn describe(shared: &Shared, file: &SlackFile) -> Value {
    let url = format!("http://{}/files/{}/{}", shared.address, file.id, file.name);
    json!({
        "id": file.id, "name": file.name, "title": file.name, "mimetype": file.mime_type, "size": file.content.len(),
        "mode": "hosted", "url_private": url, "url_private_download": url
    })
}

/// As the real one: without a token it leads to the login page.
pub(super) async fn download(
    State(shared): State<Arc<Shared>>,
    Path((id, _name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let workspace = shared.workspace();
    let admitted =
        bearer == Some(&format!("Bearer {}", SlackApi::BOT_TOKEN)) && workspace.require("files:read").is_ok();
    if !admitted {
        return (StatusCode::FOUND, [(header::LOCATION, "/login")]).into_response();
    }
    match workspace.files.get(&id) {
        Some(file) => ([(header::CONTENT_TYPE, file.mime_type.clone())], file.content.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Keeps a file that a person sends.
pub(super) fn keep(
    shared: &Shared,
    name: &str,
    mime_type: &str,
    content: &[u8],
    channel: &str,
) -> Result<Value, Refusal> {
    let mut workspace = shared.workspace();
    let file = SlackFile {
        id: workspace.next_id("F"),
        name: name.to_owned(),
        mime_type: mime_type.to_owned(),
        content: content.to_vec(),
        channel: Some(channel.to_owned()),
    };
    let described = describe(shared, &file);
    workspace.files.insert(file.id.clone(), file);
    Ok(described)
}
