//! What adapters received: inbox rows, watermarks, and who was turned away.

use serde::Serialize;
use serde_json::to_string;
use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, params};

use super::{GatewayStore, StoreError};
use crate::{Address, ChannelId, Sender, StreamId};

/// How often the log tells about the same stranger.
const TELL_AGAIN_AFTER_MS: i64 = 3_600_000;
/// Strangers are kept for `channel list`; a flood of them must not grow the file.
const MOST_STRANGERS: i64 = 100;

/// A batch after access was decided.
#[derive(Debug)]
pub(crate) struct IntakeBatch {
    pub(crate) stream: StreamId,
    pub(crate) position: Option<i64>,
    pub(crate) rows: Vec<NewInbox>,
    pub(crate) refused: Vec<Refusal>,
}

/// A row of the inbox.
#[derive(Debug)]
pub(crate) struct NewInbox {
    pub(crate) channel: String,
    pub(crate) account: String,
    pub(crate) event_key: String,
    pub(crate) kind: &'static str,
    /// `accepted`, or `dead` for what cannot be decoded.
    pub(crate) state: &'static str,
    pub(crate) routing_key: String,
    pub(crate) address: Option<Address>,
    pub(crate) sender: Option<Sender>,
    pub(crate) order_key: i64,
    pub(crate) message_id: Option<String>,
    pub(crate) payload: String,
}

/// A message that access refused; its text is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) channel: String,
    pub(crate) user_id: String,
    pub(crate) chat_id: String,
    pub(crate) display_name: String,
}

/// Somebody who wrote and is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stranger {
    /// The platform.
    pub channel: String,
    /// What `--allow-user` takes.
    pub user_id: String,
    /// What `--allow-chat` takes.
    pub chat_id: String,
    /// For people; may be made up by the stranger.
    pub display_name: String,
    /// Unix ms.
    pub last_seen: i64,
    /// Messages refused.
    pub count: i64,
}

/// What an accepted batch asks for.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// Conversations with a new message.
    pub(crate) routing_keys: Vec<String>,
    /// Strangers the log has not told about for an hour.
    pub(crate) to_tell: Vec<Refusal>,
}

impl GatewayStore {
    /// Rows and watermark in one transaction; a row that is there already stays as it is.
    pub(crate) async fn accept(&self, batch: IntakeBatch, now: i64) -> Result<Accepted, StoreError> {
        self.database.write(move |connection| accept(connection, batch, now)).await
    }

    /// The last position of a stream, unless it has not moved since `oldest`.
    pub(crate) async fn position(&self, stream: &StreamId, oldest: i64) -> Result<Option<i64>, StoreError> {
        let stream = stream.clone();
        self.database
            .read(move |connection| {
                let sql = "SELECT position FROM watermarks
                           WHERE channel = ?1 AND account = ?2 AND stream = ?3 AND moved_at >= ?4";
                let key = params![stream.channel.as_str(), stream.account, stream.name, oldest];
                Ok(connection.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?)
            })
            .await
    }

    /// The streams of a bot and how far each was received.
    pub(crate) async fn positions(&self, channel: &ChannelId, account: &str) -> Result<Vec<(String, i64)>, StoreError> {
        let (channel, account) = (channel.to_string(), account.to_owned());
        self.database
            .read(move |connection| {
                let sql = "SELECT stream, position FROM watermarks WHERE channel = ?1 AND account = ?2";
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([channel, account], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Who was refused, newest first.
    pub async fn strangers(&self) -> Result<Vec<Stranger>, StoreError> {
        self.database
            .read(|connection| {
                let sql = "SELECT channel, user_id, chat_id, display_name, last_seen, count
                           FROM strangers ORDER BY last_seen DESC";
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([], |row| {
                    Ok(Stranger {
                        channel: row.get(0)?,
                        user_id: row.get(1)?,
                        chat_id: row.get(2)?,
                        display_name: row.get(3)?,
                        last_seen: row.get(4)?,
                        count: row.get(5)?,
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}

fn accept(connection: &Connection, batch: IntakeBatch, now: i64) -> Result<Accepted, StoreError> {
    let IntakeBatch { stream, position, rows, refused } = batch;
    let mut accepted = Accepted::default();
    for row in rows {
        if insert(connection, &row, now)? && row.state == "accepted" {
            accepted.routing_keys.push(row.routing_key);
        }
    }
    for refusal in refused {
        if refuse(connection, &refusal, now)? {
            accepted.to_tell.push(refusal);
        }
    }
    let Some(position) = position else { return Ok(accepted) };
    let sql = "INSERT INTO watermarks (channel, account, stream, position, moved_at) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT DO UPDATE SET position = excluded.position, moved_at = excluded.moved_at";
    let values = params![stream.channel.as_str(), stream.account, stream.name, position, now];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(accepted)
}

/// False for a message that is there already.
pub(super) fn insert(connection: &Connection, row: &NewInbox, now: i64) -> Result<bool, StoreError> {
    let sql = "INSERT OR IGNORE INTO inbox
        (channel, account, event_key, kind, routing_key, address, sender, order_key, payload, received_at, state, message_id)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let address = row.address.as_ref().map(to_string).transpose()?;
    let sender = row.sender.as_ref().map(to_string).transpose()?;
    let inserted = connection.prepare_cached(sql)?.execute(params![
        row.channel,
        row.account,
        row.event_key,
        row.kind,
        row.routing_key,
        address,
        sender,
        row.order_key,
        row.payload,
        now,
        row.state,
        row.message_id
    ])?;
    Ok(inserted == 1)
}

/// True if the log should tell about this one.
fn refuse(connection: &Connection, refusal: &Refusal, now: i64) -> Result<bool, StoreError> {
    let Refusal { channel, user_id, chat_id, display_name } = refusal;
    let sql = "SELECT told_at FROM strangers WHERE channel = ?1 AND user_id = ?2";
    let told_at: Option<i64> =
        connection.prepare_cached(sql)?.query_row(params![channel, user_id], |row| row.get(0)).optional()?;
    let tell = told_at.is_none_or(|told_at| now - told_at >= TELL_AGAIN_AFTER_MS);
    let told_at = if tell { now } else { told_at.unwrap_or(now) };
    let sql = "INSERT INTO strangers (channel, user_id, chat_id, display_name, last_seen, told_at, count)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)
        ON CONFLICT DO UPDATE SET chat_id = excluded.chat_id, display_name = excluded.display_name,
            last_seen = excluded.last_seen, told_at = excluded.told_at, count = count + 1";
    connection.prepare_cached(sql)?.execute(params![channel, user_id, chat_id, display_name, now, told_at])?;
    let sql = "DELETE FROM strangers WHERE rowid NOT IN (SELECT rowid FROM strangers ORDER BY last_seen DESC LIMIT ?1)";
    connection.prepare_cached(sql)?.execute([MOST_STRANGERS])?;
    Ok(tell)
}
