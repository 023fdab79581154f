//! Files: an upload in three steps, and the download of what people send.

use serde_json::{Value, json};

use super::{SlackChannel, text};
use crate::{Address, ChannelError, DeliveryReceipt, OutboundFile};

impl SlackChannel {
    /// Asks for a place, puts the content there, and shows it in the chat. The receipt names the file: Slack makes the
    /// message of it later.
    pub(super) async fn upload(&self, address: &Address, file: OutboundFile) -> Result<DeliveryReceipt, ChannelError> {
        let OutboundFile { name, content, caption, .. } = file;
        if content.is_empty() {
            return Err(ChannelError::Rejected { reason: format!("{name} is empty") });
        }
        let chat = self.chat_id(address).await?;
        let length = content.len().to_string();
        let place = self.api.call("files.getUploadURLExternal", &[("filename", &name), ("length", &length)]).await?;
        let (Some(url), Some(id)) = (place["upload_url"].as_str(), place["file_id"].as_str()) else {
            return Err(ChannelError::Rejected { reason: "the platform gave no place for the file".to_owned() });
        };
        // Nothing is seen of it yet: whatever fails here may be done again.
        self.api.upload(url, content).await.map_err(not_shown)?;
        let files = json!([{ "id": id, "title": name }]).to_string();
        let comment = caption.as_deref().map(text::escape);
        let mut arguments = vec![("files", files.as_str()), ("channel_id", &chat)];
        arguments.extend(comment.as_deref().map(|comment| ("initial_comment", comment)));
        arguments.extend(address.thread.as_deref().map(|thread| ("thread_ts", thread)));
        let done = self.api.call("files.completeUploadExternal", &arguments).await?;
        let message_id = message_of(&done, &chat).unwrap_or(id).to_owned();
        Ok(DeliveryReceipt { message_id, thread_id: address.thread.clone(), chat: Some(chat) })
    }
}

/// The message, where the answer tells it already.
fn message_of<'a>(done: &'a Value, chat: &str) -> Option<&'a str> {
    let shares = &done["files"][0]["shares"];
    let share = |scope: &str| shares[scope][chat][0]["ts"].as_str();
    share("public").or_else(|| share("private"))
}

fn not_shown(error: ChannelError) -> ChannelError {
    match error {
        ChannelError::Uncertain { host, reason } => ChannelError::Unreachable { host, reason },
        other => other,
    }
}
