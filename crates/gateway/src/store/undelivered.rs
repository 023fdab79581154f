//! What the operator sees of the outbox, and does about it.

use serde::Serialize;
use stakpak_sqlite::rusqlite::{OptionalExtension, params};

use super::{GatewayStore, StoreError};
use crate::{Address, clock::now_ms};

/// A message that did not arrive, or not yet, or perhaps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undelivered {
    /// Its number.
    pub id: i64,
    /// Where it goes: `telegram:chat:42`.
    pub target_key: String,
    /// `text`, `prompt`, `edit`, `file`, `reaction`.
    pub kind: String,
    /// `queued`, `sending`, `unknown` or `failed`.
    pub state: String,
    /// Attempts so far, whatever came of them.
    pub attempts: i64,
    /// Why the last one failed.
    pub error: Option<String>,
    /// Unix ms.
    pub created_at: i64,
}

impl GatewayStore {
    /// Everything that is not sent, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn undelivered(&self) -> Result<Vec<Undelivered>, StoreError> {
        self.database
            .read(|connection| {
                let sql = "SELECT id, address, kind, state, attempts + uncertain, error, created_at FROM outbox
                           WHERE state IN ('queued', 'sending', 'unknown', 'failed') ORDER BY id";
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([], |row| {
                    let address: String = row.get(1)?;
                    let part = Undelivered {
                        id: row.get(0)?,
                        target_key: String::new(),
                        kind: row.get(2)?,
                        state: row.get(3)?,
                        attempts: row.get(4)?,
                        error: row.get(5)?,
                        created_at: row.get(6)?,
                    };
                    Ok((part, address))
                })?;
                rows.map(|row| {
                    let (part, address) = row?;
                    let address: Address = serde_json::from_str(&address)?;
                    Ok(Undelivered { target_key: address.target_key(), ..part })
                })
                .collect()
            })
            .await
    }

    /// A parked message is to be sent again; what it waits behind, or none if it is not parked. A gateway that runs has to
    /// be told.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn retry_undelivered(&self, id: i64) -> Result<Option<String>, StoreError> {
        let now = now_ms();
        self.database
            .write(move |connection| {
                let sql =
                    "UPDATE outbox SET state = 'queued', attempts = 0, uncertain = 0, created_at = ?2, next_at = ?2
                           WHERE id = ?1 AND state IN ('unknown', 'failed') RETURNING lane";
                let lane = connection.prepare_cached(sql)?.query_row(params![id, now], |row| row.get(0));
                Ok(lane.optional()?)
            })
            .await
    }

    /// A parked message is given up for good; false if it is not parked.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn drop_undelivered(&self, id: i64) -> Result<bool, StoreError> {
        self.database
            .write(move |connection| {
                let sql = "UPDATE outbox SET state = 'dropped' WHERE id = ?1 AND state IN ('unknown', 'failed')";
                Ok(connection.prepare_cached(sql)?.execute([id])? == 1)
            })
            .await
    }
}
