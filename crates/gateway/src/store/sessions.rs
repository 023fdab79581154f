//! Which session a conversation has, and what was said into its chat from outside.

use serde_json::Value;
use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{GatewayStore, StoreError};
use crate::{Address, ChannelId, ChatType, DeliveryContext, PeerId};

/// A conversation's session on the server.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionMapping {
    /// The conversation.
    pub routing_key: String,
    /// The session.
    pub session_id: String,
    /// Its title.
    pub title: String,
    /// Where the last message came from.
    pub channel: ChannelId,
    /// Who wrote it.
    pub peer_id: PeerId,
    /// In what kind of chat.
    pub chat_type: ChatType,
    /// What the platform told about it, with the target key under `target_key`.
    pub channel_meta: Value,
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms of the last message.
    pub updated_at: i64,
}

pub(super) const COLUMNS: &str =
    "routing_key, session_id, title, channel, peer_id, chat_type, channel_meta, created_at, updated_at";

impl GatewayStore {
    /// The session of a conversation.
    pub async fn get(&self, routing_key: &str) -> Result<Option<SessionMapping>, StoreError> {
        let key = routing_key.to_owned();
        self.database.read(move |connection| of(connection, &key)).await
    }

    /// Keeps a mapping; the time of its creation stays.
    pub async fn set(&self, mapping: &SessionMapping) -> Result<(), StoreError> {
        let mapping = mapping.clone();
        self.database.write(move |connection| set(connection, &mapping)).await
    }

    /// All mappings, newest first.
    pub async fn list(&self, limit: usize) -> Result<Vec<SessionMapping>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database
            .read(move |connection| {
                let sql = format!("SELECT {COLUMNS} FROM sessions ORDER BY updated_at DESC LIMIT ?1");
                let mut statement = connection.prepare_cached(&sql)?;
                let rows = statement.query_map([limit], read)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Number of mappings.
    pub(crate) async fn session_count(&self) -> Result<i64, StoreError> {
        self.database
            .read(|connection| Ok(connection.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0))?))
            .await
    }

    /// Key and title that the conversation's session is created with; the same until the session is forgotten, so that two
    /// who need it at once, or a repetition after a crash, get one session. One that works elsewhere is another.
    pub(crate) async fn creation(
        &self,
        routing_key: &str,
        title: String,
        cwd: Option<String>,
    ) -> Result<(String, String), StoreError> {
        let routing_key = routing_key.to_owned();
        self.database
            .write(move |connection| {
                let sql = "INSERT INTO session_state (routing_key, creation_key, title, cwd) VALUES (?1, ?2, ?3, ?4)
                           ON CONFLICT DO UPDATE SET cwd = excluded.cwd,
                               creation_key = iif(cwd IS excluded.cwd, creation_key, excluded.creation_key),
                               title = iif(cwd IS excluded.cwd, title, excluded.title)
                           RETURNING creation_key, title";
                let fresh = format!("gw-session-{}", Uuid::new_v4());
                let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
                Ok(connection.prepare_cached(sql)?.query_row(params![routing_key, fresh, title, cwd], read)?)
            })
            .await
    }

    /// The server no longer has the session: the next one is created anew. False if another session took its place.
    pub(crate) async fn forget_session(&self, routing_key: &str, session_id: &str) -> Result<bool, StoreError> {
        let (routing_key, session_id) = (routing_key.to_owned(), session_id.to_owned());
        self.database
            .write(move |connection| {
                let sql = "DELETE FROM sessions WHERE routing_key = ?1 AND session_id = ?2";
                let forgotten = connection.prepare_cached(sql)?.execute(params![routing_key, session_id])? == 1;
                if forgotten {
                    let sql = "DELETE FROM session_state WHERE routing_key = ?1";
                    connection.prepare_cached(sql)?.execute([&routing_key])?;
                }
                Ok(forgotten)
            })
            .await
    }
}

pub(super) fn of(connection: &Connection, routing_key: &str) -> Result<Option<SessionMapping>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM sessions WHERE routing_key = ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([routing_key], read).optional()?)
}

pub(super) fn set(connection: &Connection, mapping: &SessionMapping) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO sessions ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT DO UPDATE SET session_id = excluded.session_id, title = excluded.title,
            channel = excluded.channel, peer_id = excluded.peer_id, chat_type = excluded.chat_type,
            channel_meta = excluded.channel_meta, updated_at = excluded.updated_at"
    );
    connection.prepare_cached(&sql)?.execute(params![
        mapping.routing_key,
        mapping.session_id,
        mapping.title,
        mapping.channel.as_str(),
        mapping.peer_id.as_str(),
        serde_json::to_string(&mapping.chat_type)?,
        mapping.channel_meta.to_string(),
        mapping.created_at,
        mapping.updated_at
    ])?;
    Ok(())
}

/// Keeps a context for the next message from `address`; the latest wins.
pub(super) fn keep_context(
    connection: &Connection,
    address: &Address,
    context: &DeliveryContext,
    now: i64,
    expires_at: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO delivery_context
               (channel, target_key, context, delivered_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let context = serde_json::to_string(context)?;
    let values = params![address.channel.as_str(), address.target_key(), context, now, expires_at];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

pub(super) fn read(row: &Row<'_>) -> stakpak_sqlite::rusqlite::Result<SessionMapping> {
    let chat_type: String = row.get(5)?;
    let channel_meta: String = row.get(6)?;
    Ok(SessionMapping {
        routing_key: row.get(0)?,
        session_id: row.get(1)?,
        title: row.get(2)?,
        channel: row.get::<_, String>(3)?.into(),
        peer_id: row.get::<_, String>(4)?.into(),
        // Written by an older version, perhaps; it is shown only.
        chat_type: serde_json::from_str(&chat_type).unwrap_or(ChatType::Direct),
        channel_meta: serde_json::from_str(&channel_meta).unwrap_or_default(),
        created_at: row.get(7)?,
        updated_at: row.get(8)?,
    })
}
