//! The session of a conversation: the one that is known, else a new one.

use stakpak_client::{ClientError, CreateSessionOptions};

use super::Conversations;
use crate::{SessionMapping, StoreError, clock::now_ms, store::Batch, targeting::render_title_template};

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

/// What a new session is made from.
#[derive(Debug)]
pub(crate) struct SessionRequest<'a> {
    pub(crate) batch: &'a Batch,
    /// Whether the mapping takes over address and time of the batch.
    pub(crate) refresh: bool,
}

impl Conversations {
    /// The id of the session. The same for all who ask at once.
    pub(crate) async fn session(&self, request: SessionRequest<'_>) -> Result<String, SessionError> {
        let SessionRequest { batch, refresh } = request;
        let now = now_ms();
        if let Some(known) = self.store.get(&batch.routing_key).await? {
            let session_id = known.session_id.clone();
            if refresh {
                let mapping =
                    SessionMapping { updated_at: now, ..mapping(batch, session_id.clone(), known.title, now) };
                self.store.set(&mapping).await?;
            }
            return Ok(session_id);
        }
        let cwd = batch.payload.options.cwd.clone();
        let (key, title) = self.store.creation(&batch.routing_key, self.title(batch), cwd.clone()).await?;
        let options = CreateSessionOptions { title: title.clone(), cwd };
        let session = self.client.with_idempotency_key(key).create_session_with(options).await?;
        let session_id = session.id.to_string();
        self.store.set(&mapping(batch, session_id.clone(), title, now)).await?;
        Ok(session_id)
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
