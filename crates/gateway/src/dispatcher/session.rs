//! The session of a conversation: the one that is known, else a new one.

use stakpak_client::{ClientError, CreateSessionOptions};

use super::Conversations;
use crate::{
    SessionMapping, StoreError,
    clock::now_ms,
    store::{Batch, BatchKind},
    targeting::render_title_template,
};

/// Longest title the server takes, in characters.
const LONGEST_TITLE: usize = 1024;

/// Why a conversation has no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The mapping could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server did not create one.
    #[error(transparent)]
    Server(#[from] ClientError),
}

impl Conversations {
    /// The id of the session. The same for all who ask at once.
    pub(crate) async fn session(&self, batch: &Batch) -> Result<String, SessionError> {
        if let Some(known) = &batch.session {
            return Ok(known.session_id.clone());
        }
        let cwd = batch.payload.options.cwd.clone();
        let (key, title) = self.store.creation(&batch.routing_key, self.title(batch), cwd.clone()).await?;
        let options = CreateSessionOptions { title: title.clone(), cwd };
        let session = self.client.with_idempotency_key(key).create_session_with(options).await?;
        let session_id = session.id.to_string();
        self.store.set(&mapping(batch, session_id.clone(), title, now_ms())).await?;
        Ok(session_id)
    }

    /// The mapping with address and time of the batch, if a person wrote it.
    pub(super) fn refreshed(&self, batch: &Batch) -> Option<SessionMapping> {
        let SessionMapping { session_id, title, .. } =
            batch.session.clone().filter(|_| batch.kind == BatchKind::Message)?;
        Some(mapping(batch, session_id, title, now_ms()))
    }

    fn title(&self, batch: &Batch) -> String {
        let peer = batch.sender.as_ref().map_or(batch.address.chat.as_str(), |sender| sender.name());
        let asked_for = batch.payload.options.title.clone();
        let title = asked_for.unwrap_or_else(|| render_title_template(&self.title_template, &batch.address, peer));
        title.chars().take(LONGEST_TITLE).collect()
    }
}

fn mapping(batch: &Batch, session_id: String, title: String, now: i64) -> SessionMapping {
    let address = &batch.address;
    let mut channel_meta = batch.payload.metadata.clone();
    if let Some(meta) = channel_meta.as_object_mut() {
        meta.insert("target_key".to_owned(), address.target_key().into());
    } else {
        channel_meta = serde_json::json!({ "target_key": address.target_key() });
    }
    SessionMapping {
        routing_key: batch.routing_key.clone(),
        session_id,
        title,
        channel: address.channel.clone(),
        peer_id: batch.sender.as_ref().map_or_else(|| address.chat.as_str().into(), |sender| sender.id.clone()),
        chat_type: address.chat_type(),
        channel_meta,
        created_at: now,
        updated_at: now,
    }
}
