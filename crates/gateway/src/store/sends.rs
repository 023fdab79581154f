//! Texts that programs asked for: the key of the request and everything it starts are one commit.
//!
//! A delivery is the messages whose keys begin with `send:<id>:`, and the prompt that follows them if there is one.

use std::ops::Range;

use serde_json::json;
use stakpak_sqlite::{
    Migration,
    rusqlite::{Connection, OptionalExtension, params},
};

use super::{
    GatewayStore, NewInbox, NewPart, StoreError,
    audit::{self, OPERATOR},
    inbound, outbox,
    prompts::{self, PromptState},
    sessions,
};
use crate::{Address, DeliveryContext};

/// How long a key of `POST /send` is remembered.
const KEY_LIFE_MS: i64 = 24 * 3_600_000;

pub(super) const TABLES: Migration = Migration {
    name: "deliveries",
    sql: "
-- `prompt` is the row of the inbox that waits until the texts are sent.
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    routing_key TEXT,
    session_id TEXT,
    prompt INTEGER,
    created_at INTEGER NOT NULL
);
-- Where the next session of a conversation works, if a program said so.
ALTER TABLE session_state ADD COLUMN cwd TEXT;
-- Why a run failed, as the chat was told.
ALTER TABLE runs ADD COLUMN error TEXT;
CREATE INDEX runs_session ON runs (session_id);
-- Which conversation a message of the bot belongs to that somebody answers.
CREATE INDEX outbox_message ON outbox (platform_message_id) WHERE platform_message_id IS NOT NULL;
",
};

/// A request of a program.
#[derive(Debug)]
pub(crate) struct NewSend {
    pub(crate) idem_key: Option<String>,
    pub(crate) body_hash: String,
    pub(crate) delivery_id: String,
    pub(crate) address: Address,
    pub(crate) parts: Vec<NewPart>,
    /// With the session it runs in.
    pub(crate) prompt: Option<(NewInbox, String)>,
    /// For the run of this request, else for the next message from there, with the time it expires.
    pub(crate) context: Option<(DeliveryContext, i64)>,
}

/// What is known about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KnownSend {
    /// Nothing.
    New,
    /// It belongs to this delivery.
    Delivery(String),
    /// It was used with another body.
    OtherBody,
}

/// What a request became.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delivery {
    /// Where it went; on Slack with the thread that its first message opened.
    pub(crate) address: Address,
    pub(crate) session_id: Option<String>,
    /// If it has one.
    pub(crate) prompt: Option<PromptState>,
    pub(crate) parts: Vec<PartState>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartState {
    pub(crate) state: String,
    pub(crate) message_id: Option<String>,
    pub(crate) error: Option<String>,
}

impl GatewayStore {
    /// What a key was used for in the last 24 hours.
    pub(crate) async fn known_send(&self, key: &str, body_hash: &str, now: i64) -> Result<KnownSend, StoreError> {
        let (key, body_hash) = (key.to_owned(), body_hash.to_owned());
        self.database.read(move |connection| known(connection, &key, &body_hash, now)).await
    }

    /// Queues the texts and the prompt of a request, once for its key.
    pub(crate) async fn begin_send(&self, send: NewSend, now: i64) -> Result<KnownSend, StoreError> {
        self.database
            .write(move |connection| {
                connection.execute("DELETE FROM sends WHERE created_at < ?1", [now - KEY_LIFE_MS])?;
                if let Some(key) = &send.idem_key {
                    let known = known(connection, key, &send.body_hash, now)?;
                    if known != KnownSend::New {
                        return Ok(known);
                    }
                    let sql =
                        "INSERT INTO sends (idem_key, body_hash, delivery_id, created_at) VALUES (?1, ?2, ?3, ?4)";
                    connection.prepare_cached(sql)?.execute(params![key, send.body_hash, send.delivery_id, now])?;
                }
                begin(connection, &send, now)?;
                Ok(KnownSend::New)
            })
            .await
    }

    /// How a delivery stands.
    pub(crate) async fn delivery(&self, id: &str) -> Result<Option<Delivery>, StoreError> {
        let id = id.to_owned();
        self.database
            .read(move |connection| {
                let sql = "SELECT address, session_id FROM deliveries WHERE id = ?1";
                let found: Option<(String, Option<String>)> = connection
                    .prepare_cached(sql)?
                    .query_row([&id], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                let Some((address, session_id)) = found else { return Ok(None) };
                let address = serde_json::from_str(&address)?;
                let (prompt, parts) = (prompts::prompt_state(connection, &id)?, part_states(connection, &id)?);
                Ok(Some(Delivery { address, session_id, prompt, parts }))
            })
            .await
    }

    /// What of a delivery was given up or parked is sent again; a prompt that was not run because of that stays so. Returns
    /// what the messages wait behind; none if there is no such delivery.
    pub(crate) async fn retry_delivery(&self, id: &str, now: i64) -> Result<Option<String>, StoreError> {
        let id = id.to_owned();
        self.database
            .write(move |connection| {
                let Some(address) = address_of(connection, &id)? else { return Ok(None) };
                let Range { start, end } = keys(&id);
                let sql =
                    format!(
                    "UPDATE outbox SET state = 'queued', attempts = 0, uncertain = 0, created_at = ?3, next_at = ?3
                     WHERE idem_key >= ?1 AND idem_key < ?2 AND state IN ('failed', 'unknown', 'dropped') AND {NOT_REPLACED}"
                );
                connection.prepare_cached(&sql)?.execute(params![start, end, now])?;
                Ok(Some(address.chat_key()))
            })
            .await
    }
}

/// A file that was refused went as text instead: see [`super::outbox`].
const NOT_REPLACED: &str = "NOT (state = 'failed' AND EXISTS
    (SELECT 1 FROM outbox AS instead WHERE instead.idem_key = outbox.idem_key || ':text:0'))";

/// The messages of a delivery, by their keys.
fn keys(id: &str) -> Range<String> {
    // `;` follows `:`.
    format!("send:{id}:")..format!("send:{id};")
}

/// The delivery that a message belongs to, by its key.
pub(super) fn delivery_of(idem_key: &str) -> Option<&str> {
    idem_key.strip_prefix("send:")?.split(':').next()
}

fn known(connection: &Connection, key: &str, body_hash: &str, now: i64) -> Result<KnownSend, StoreError> {
    let sql = "SELECT body_hash, delivery_id FROM sends WHERE idem_key = ?1 AND created_at >= ?2";
    let read =
        |row: &stakpak_sqlite::rusqlite::Row<'_>| -> Result<(String, String), _> { Ok((row.get(0)?, row.get(1)?)) };
    Ok(match connection.prepare_cached(sql)?.query_row(params![key, now - KEY_LIFE_MS], read).optional()? {
        None => KnownSend::New,
        Some((hash, id)) if hash == body_hash => KnownSend::Delivery(id),
        Some(_) => KnownSend::OtherBody,
    })
}

fn begin(connection: &Connection, send: &NewSend, now: i64) -> Result<(), StoreError> {
    outbox::insert(connection, &send.parts, now)?;
    let session = send.prompt.as_ref().map(|(_, session_id)| session_id);
    let detail = json!({ "session_id": session, "target": send.address.target_key() });
    audit::record(connection, now, ("send.accepted", OPERATOR), &send.delivery_id, detail)?;
    let mut prompt = None;
    if let Some((row, _)) = &send.prompt {
        inbound::insert(connection, row, now)?;
        prompt = Some(connection.last_insert_rowid());
    }
    match (&send.context, prompt) {
        (Some((context, _)), Some(prompt)) => {
            let sql = "UPDATE inbox SET context = ?2 WHERE id = ?1";
            connection.prepare_cached(sql)?.execute(params![prompt, serde_json::to_string(context)?])?;
        }
        (Some((context, expires_at)), None) => {
            sessions::keep_context(connection, &send.address, context, now, *expires_at)?;
        }
        (None, _) => {}
    }
    let sql = "INSERT INTO deliveries (id, address, routing_key, session_id, prompt, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (row, session_id) = send.prompt.as_ref().map(|(row, session_id)| (row, session_id)).unzip();
    connection.prepare_cached(sql)?.execute(params![
        send.delivery_id,
        serde_json::to_string(&send.address)?,
        row.map(|row| &row.routing_key),
        session_id,
        prompt,
        now
    ])?;
    Ok(())
}

pub(super) fn address_of(connection: &Connection, id: &str) -> Result<Option<Address>, StoreError> {
    let sql = "SELECT address FROM deliveries WHERE id = ?1";
    let address: Option<String> = connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
    Ok(address.as_deref().map(serde_json::from_str).transpose()?)
}

/// What became of the messages of a delivery, in order.
pub(super) fn part_states(connection: &Connection, id: &str) -> Result<Vec<PartState>, StoreError> {
    let Range { start, end } = keys(id);
    let sql = format!(
        "SELECT state, platform_message_id, error FROM outbox
         WHERE idem_key >= ?1 AND idem_key < ?2 AND {NOT_REPLACED} ORDER BY id"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([start, end], |row| {
        Ok(PartState { state: row.get(0)?, message_id: row.get(1)?, error: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Messages of a delivery that are not sent yet go to another place from here on.
pub(super) fn readdress(connection: &Connection, id: &str, to: &Address) -> Result<(), StoreError> {
    let Range { start, end } = keys(id);
    let sql = "UPDATE outbox SET address = ?3 WHERE idem_key >= ?1 AND idem_key < ?2 AND state = 'queued'";
    connection.prepare_cached(sql)?.execute(params![start, end, serde_json::to_string(to)?])?;
    Ok(())
}
