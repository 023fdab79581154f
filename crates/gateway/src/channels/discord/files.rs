//! Files of messages, in and out.
//!
//! Links to files expire after a day, so none is kept: a file is named by its message, which is read again. The content is
//! fetched from the platform's own hosts only, without the bot's token.

use futures_util::StreamExt;
use serde::Deserialize;
use serenity::{
    http::Route,
    model::id::{ChannelId, MessageId},
};
use teloxide_reqwest::{
    Method, Response, Url,
    multipart::{Form, Part},
};

use super::{
    api::{Api, Payload},
    failure::Failure,
    outgoing::{self, Made, number},
    socket::host_of,
};
use crate::{ChannelError, MediaAttachment, OutboundFile};

/// Where the platform keeps files, besides the configured host.
const FILE_HOSTS: [&str; 2] = ["cdn.discordapp.com", "media.discordapp.net"];

#[derive(Deserialize)]
struct WithFiles {
    #[serde(default)]
    attachments: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    id: String,
    url: String,
}

pub(super) async fn fetch(api: &Api, file: &MediaAttachment, limit: u64) -> Result<Vec<u8>, ChannelError> {
    let rejected = |reason: String| ChannelError::Rejected { reason };
    let too_large = || rejected(format!("`{}` is larger than {limit} bytes", file.name));
    let mut parts = file.id.split('/');
    let (Some(channel), Some(message), Some(attachment), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(rejected(format!("`{}` names no file of Discord", file.id)));
    };
    let (channel, message) = (ChannelId::new(number(channel, "channel")?), MessageId::new(number(message, "message")?));
    let found: WithFiles = api.message(channel, message).await?;
    let link = found.attachments.into_iter().find(|link| link.id == attachment);
    let link = link.ok_or_else(|| rejected(format!("`{}` is no longer in its message", file.name)))?;
    let response = api.foreign(allowed(api, &link.url)?).send().await.map_err(|error| api.failed(&error))?;
    if !response.status().is_success() {
        return Err(rejected(format!("`{}` cannot be fetched: {}", file.name, response.status())));
    }
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    read(api, response, limit).await?.ok_or_else(too_large)
}

/// None for a content that is longer than the limit, whatever its header said.
async fn read(api: &Api, response: Response, limit: u64) -> Result<Option<Vec<u8>>, ChannelError> {
    let mut content = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(piece) = stream.next().await {
        content.extend_from_slice(&piece.map_err(|error| api.failed(&error))?);
        if content.len() as u64 > limit {
            return Ok(None);
        }
    }
    Ok(Some(content))
}

/// Only over TLS, unless the API itself is not.
fn allowed(api: &Api, link: &str) -> Result<Url, ChannelError> {
    let refused = || ChannelError::Rejected { reason: format!("files are not fetched from {}", host_of(link)) };
    let url = Url::parse(link).map_err(|_| refused())?;
    let of_platform = url.scheme() == "https" && url.host_str().is_some_and(|host| FILE_HOSTS.contains(&host));
    let of_api = host_of(link) == api.host() && (url.scheme() == "https" || !api.secure());
    if of_platform || of_api { Ok(url) } else { Err(refused()) }
}

pub(super) async fn send(api: &Api, channel_id: ChannelId, file: OutboundFile) -> Result<Made, Failure> {
    let body = outgoing::file(&file.dedupe_key, file.caption.as_deref())?;
    let payload = String::from_utf8(body).map_err(|error| ChannelError::Rejected { reason: error.to_string() })?;
    let part = Part::bytes(file.content).file_name(file.name);
    let form = Form::new().text("payload_json", payload).part("files[0]", part);
    let response = api.attempt(Method::POST, Route::ChannelMessages { channel_id }, "", Payload::Form(form)).await?;
    Ok(api.decode(response).await?)
}
