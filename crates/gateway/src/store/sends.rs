//! Texts that programs asked for: the key of the request and everything it starts are one commit.

use stakpak_sqlite::rusqlite::{OptionalExtension, params};

use super::{GatewayStore, NewInbox, NewPart, StoreError, inbound, outbox, sessions};
use crate::{Address, DeliveryContext};

/// How long a key of `POST /send` is remembered.
const KEY_LIFE_MS: i64 = 24 * 3_600_000;

/// A request of a program.
#[derive(Debug)]
pub(crate) struct NewSend {
    pub(crate) idem_key: Option<String>,
    pub(crate) body_hash: String,
    pub(crate) delivery_id: String,
    pub(crate) parts: Vec<NewPart>,
    pub(crate) prompt: Option<NewInbox>,
    /// For the next message from there, with the time it expires.
    pub(crate) context: Option<(Address, DeliveryContext, i64)>,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SendBegun {
    /// It is this delivery: a new one, or that of an earlier request with the same key and body.
    Delivery { id: String, repeated: bool },
    /// The key was used with another body.
    KeyReused,
}

impl GatewayStore {
    /// Queues the texts and the prompt of a request, once for its key.
    pub(crate) async fn begin_send(&self, send: NewSend, now: i64) -> Result<SendBegun, StoreError> {
        self.database
            .write(move |connection| {
                connection.execute("DELETE FROM sends WHERE created_at < ?1", [now - KEY_LIFE_MS])?;
                if let Some(key) = &send.idem_key {
                    let sql = "SELECT body_hash, delivery_id FROM sends WHERE idem_key = ?1";
                    let known: Option<(String, String)> = connection
                        .prepare_cached(sql)?
                        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
                        .optional()?;
                    match known {
                        Some((hash, id)) if hash == send.body_hash => {
                            return Ok(SendBegun::Delivery { id, repeated: true });
                        }
                        Some(_) => return Ok(SendBegun::KeyReused),
                        None => {}
                    }
                    let sql =
                        "INSERT INTO sends (idem_key, body_hash, delivery_id, created_at) VALUES (?1, ?2, ?3, ?4)";
                    connection.prepare_cached(sql)?.execute(params![key, send.body_hash, send.delivery_id, now])?;
                }
                outbox::insert(connection, &send.parts, now)?;
                if let Some(prompt) = &send.prompt {
                    inbound::insert(connection, prompt, now)?;
                }
                if let Some((address, context, expires_at)) = &send.context {
                    sessions::keep_context(connection, address, context, now, *expires_at)?;
                }
                Ok(SendBegun::Delivery { id: send.delivery_id, repeated: false })
            })
            .await
    }
}
