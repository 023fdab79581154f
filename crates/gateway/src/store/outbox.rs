//! Texts on their way to a chat, in the order of their ids within each chat.

use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, Row, params};

use super::{GatewayStore, StoreError};
use crate::{Address, Body};

/// How often a text may be sent without knowing whether it arrived. Telegram has no idempotency key: at most twice.
pub(crate) const MOST_UNCERTAIN: u32 = 2;

/// A text to be sent.
#[derive(Debug, Clone)]
pub(crate) struct NewPart {
    /// The same for the same text, so that it is queued once: `run:<id>:<segment>:<chunk>`.
    pub(crate) idem_key: String,
    pub(crate) address: Address,
    pub(crate) body: Body,
}

/// A text of the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) id: i64,
    pub(crate) idem_key: String,
    pub(crate) address: Address,
    pub(crate) body: Body,
    /// Attempts whose outcome is known to be: not sent.
    pub(crate) attempts: u32,
    /// Attempts whose outcome is not known.
    pub(crate) uncertain: u32,
    pub(crate) created_at: i64,
    pub(crate) next_at: i64,
}

/// What became of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartState {
    pub(crate) state: String,
    pub(crate) message_id: Option<String>,
    pub(crate) error: Option<String>,
}

impl GatewayStore {
    /// Queues texts; those that are there already stay as they are.
    pub(crate) async fn queue_parts(&self, parts: Vec<NewPart>, now: i64) -> Result<(), StoreError> {
        self.database.write(move |connection| insert(connection, &parts, now)).await
    }

    /// The oldest unsent text of a chat.
    pub(crate) async fn next_part(&self, chat_key: &str) -> Result<Option<Part>, StoreError> {
        let chat_key = chat_key.to_owned();
        self.database
            .read(move |connection| {
                let sql = "SELECT id, idem_key, address, payload, attempts, uncertain, created_at, next_at FROM outbox
                           WHERE chat_key = ?1 AND state IN ('queued', 'sending') ORDER BY id LIMIT 1";
                connection.prepare_cached(sql)?.query_row([&chat_key], |row| Ok(read_part(row))).optional()?.transpose()
            })
            .await
    }

    /// Before the request: from here to its answer the outcome is not known.
    pub(crate) async fn sending(&self, id: i64) -> Result<(), StoreError> {
        self.update(id, "UPDATE outbox SET state = 'sending' WHERE id = ?1").await
    }

    /// The platform confirmed it.
    pub(crate) async fn sent(&self, id: i64, message_id: String) -> Result<(), StoreError> {
        self.database
            .write(move |connection| {
                let sql = "UPDATE outbox SET state = 'sent', platform_message_id = ?2, error = NULL WHERE id = ?1";
                connection.prepare_cached(sql)?.execute(params![id, message_id])?;
                Ok(())
            })
            .await
    }

    /// Certainly not sent; try again at `next_at`.
    pub(crate) async fn not_sent(&self, id: i64, error: String, next_at: i64) -> Result<(), StoreError> {
        self.database
            .write(move |connection| {
                let sql = "UPDATE outbox SET state = 'queued', attempts = attempts + 1, next_at = ?3, error = ?2
                           WHERE id = ?1";
                connection.prepare_cached(sql)?.execute(params![id, error, next_at])?;
                Ok(())
            })
            .await
    }

    /// Perhaps sent; try again at `next_at`, or park it when it was tried often enough.
    pub(crate) async fn perhaps_sent(&self, id: i64, error: String, next_at: i64) -> Result<(), StoreError> {
        self.database
            .write(move |connection| {
                let sql = "UPDATE outbox SET uncertain = uncertain + 1, next_at = ?3, error = ?2,
                           state = CASE WHEN uncertain + 1 >= ?4 THEN 'unknown' ELSE 'queued' END WHERE id = ?1";
                connection.prepare_cached(sql)?.execute(params![id, error, next_at, MOST_UNCERTAIN])?;
                Ok(())
            })
            .await
    }

    /// Given up.
    pub(crate) async fn failed(&self, id: i64, error: String) -> Result<(), StoreError> {
        self.database
            .write(move |connection| {
                let sql = "UPDATE outbox SET state = 'failed', error = ?2 WHERE id = ?1";
                connection.prepare_cached(sql)?.execute(params![id, error])?;
                Ok(())
            })
            .await
    }

    /// After a start: chats with unsent texts. A text found `sending` may have been sent.
    pub(crate) async fn unfinished_chats(&self) -> Result<Vec<String>, StoreError> {
        self.database
            .write(|connection| {
                let sql = "UPDATE outbox SET uncertain = uncertain + 1, error = 'the process ended while sending',
                           state = CASE WHEN uncertain + 1 >= ?1 THEN 'unknown' ELSE 'queued' END
                           WHERE state = 'sending'";
                connection.execute(sql, [MOST_UNCERTAIN])?;
                let sql = "SELECT DISTINCT chat_key FROM outbox WHERE state IN ('queued', 'sending')";
                let mut statement = connection.prepare(sql)?;
                let keys = statement.query_map([], |row| row.get(0))?;
                Ok(keys.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// What became of the texts whose keys begin with `prefix`, in order.
    pub(crate) async fn part_states(&self, prefix: String) -> Result<Vec<PartState>, StoreError> {
        self.database
            .read(move |connection| {
                let sql = "SELECT state, platform_message_id, error FROM outbox
                           WHERE substr(idem_key, 1, length(?1)) = ?1 ORDER BY id";
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([prefix], |row| {
                    Ok(PartState { state: row.get(0)?, message_id: row.get(1)?, error: row.get(2)? })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    async fn update(&self, id: i64, sql: &'static str) -> Result<(), StoreError> {
        self.database
            .write(move |connection| {
                connection.prepare_cached(sql)?.execute([id])?;
                Ok(())
            })
            .await
    }
}

fn read_part(row: &Row<'_>) -> Result<Part, StoreError> {
    let (address, body): (String, String) = (row.get(2)?, row.get(3)?);
    Ok(Part {
        id: row.get(0)?,
        idem_key: row.get(1)?,
        address: serde_json::from_str(&address)?,
        // Rows of an earlier version hold the text itself.
        body: serde_json::from_str(&body).unwrap_or_else(|_| Body::plain(body)),
        attempts: row.get(4)?,
        uncertain: row.get(5)?,
        created_at: row.get(6)?,
        next_at: row.get(7)?,
    })
}

pub(super) fn insert(connection: &Connection, parts: &[NewPart], now: i64) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO outbox (idem_key, chat_key, address, kind, payload, state, created_at, next_at)
               VALUES (?1, ?2, ?3, 'text', ?4, 'queued', ?5, ?5)";
    let mut statement = connection.prepare_cached(sql)?;
    for part in parts {
        let (address, body) = (serde_json::to_string(&part.address)?, serde_json::to_string(&part.body)?);
        statement.execute(params![part.idem_key, part.address.chat_key(), address, body, now])?;
    }
    Ok(())
}
