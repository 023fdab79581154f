//! Messages that waited while the gateway was away.
//!
//! How long that was is known from its own record; dates of a platform mean nothing.

use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, params};

use super::{GatewayStore, StoreError, notice};
use crate::Address;

const LATE: &str = "I was away for a while, and messages of this chat waited meanwhile. `/queue continue` runs them, \
                    `/queue clear` drops them.";

impl GatewayStore {
    /// When the gateway last noted that it was there, Unix ms.
    pub(crate) async fn last_alive(&self) -> Result<Option<i64>, StoreError> {
        self.database
            .read(|connection| {
                let sql = "SELECT position FROM watermarks WHERE channel = '' AND stream = 'alive'";
                Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?)
            })
            .await
    }

    /// The gateway is there.
    pub(crate) async fn note_alive(&self, now: i64) -> Result<(), StoreError> {
        self.database
            .write(move |connection| {
                let sql = "INSERT INTO watermarks (channel, account, stream, position, moved_at)
                           VALUES ('', '', 'alive', ?1, ?1)
                           ON CONFLICT DO UPDATE SET position = excluded.position, moved_at = excluded.moved_at";
                connection.prepare_cached(sql)?.execute([now])?;
                Ok(())
            })
            .await
    }

    /// Every message that waits is asked about before it runs.
    pub(crate) async fn hold_waiting(&self, now: i64) -> Result<(), StoreError> {
        self.database
            .write(move |connection| {
                let sql = "SELECT routing_key, address FROM inbox WHERE state = 'accepted' AND kind = 'message'
                           GROUP BY routing_key";
                let mut statement = connection.prepare(sql)?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                for row in rows.collect::<Result<Vec<(String, String)>, _>>()? {
                    let address: Address = serde_json::from_str(&row.1)?;
                    hold(connection, &row.0, Some(&address), now)?;
                }
                Ok(())
            })
            .await
    }
}

/// The conversation waits for a word of its people, and they are asked for it once.
pub(super) fn hold(
    connection: &Connection,
    routing_key: &str,
    address: Option<&Address>,
    now: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO conversations (routing_key, held) VALUES (?1, 1)
               ON CONFLICT DO UPDATE SET held = 1 WHERE NOT held";
    let newly = connection.prepare_cached(sql)?.execute(params![routing_key])? == 1;
    match address {
        Some(address) if newly => notice::queue(connection, format!("late:{routing_key}:{now}"), address, LATE, now),
        _ => Ok(()),
    }
}
