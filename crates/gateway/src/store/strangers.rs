//! People who wrote and are not allowed: who they are, never what they said.

use serde::Serialize;
use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, params};
use utoipa::ToSchema;

use super::{GatewayStore, StoreError};
use crate::{Sender, access::Claim};

/// How often the log tells about the same stranger.
const TELL_AGAIN_AFTER_MS: i64 = 3_600_000;
/// Strangers are kept for `channel list`; a flood of them must not grow the file.
const MOST_STRANGERS: i64 = 100;

/// A message that access refused; its text is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) channel: String,
    pub(crate) user_id: String,
    pub(crate) chat_id: String,
    pub(crate) display_name: String,
}

impl Refusal {
    pub(super) fn of(claim: &Claim) -> Self {
        Self {
            channel: claim.channel().to_owned(),
            user_id: claim.user().to_owned(),
            chat_id: claim.address.chat.clone(),
            display_name: display_name(&claim.sender),
        }
    }
}

/// Chosen by its bearer, so it is cut and cannot start a line of its own.
pub(super) fn display_name(sender: &Sender) -> String {
    sender.name().chars().filter(|character| !character.is_control()).take(64).collect()
}

/// Somebody who wrote and is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
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

impl GatewayStore {
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

/// True if the log should tell about this one.
pub(super) fn refuse(connection: &Connection, refusal: &Refusal, now: i64) -> Result<bool, StoreError> {
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
