//! Messages on their way to a chat, in the order of their ids within each lane.

use serde::{Deserialize, Serialize};
use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, Row, params};

use super::{GatewayStore, StoreError, notice, prompts};
use crate::{Address, ApprovalButton, Body, MessageRef, Reaction, clock::now_ms};

/// Ends the name of the lane beside a chat's own for signs, which must not delay texts.
const SIGNS: &str = "#signs";

/// Begins the key of the message that offers to send another one again.
const PARKED: &str = "parked:";
const OFFER: &str = "A message to this chat may not have arrived. `/resend` sends it again.";

/// Something to be sent.
#[derive(Debug, Clone)]
pub(crate) struct NewPart {
    /// The same for the same message, so that it is queued once: `run:<id>:<segment>:<chunk>`.
    pub(crate) idem_key: String,
    pub(crate) address: Address,
    pub(crate) content: Content,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Content {
    /// A message.
    Text { body: Body },
    /// A message that answers the message `to` of a person, where the platform shows that.
    Reply { body: Body, to: String },
    /// A message with buttons. If `needs`, the key of a file, did not arrive, the buttons are `without`.
    Prompt { body: Body, buttons: Vec<ApprovalButton>, needs: Option<String>, without: Vec<ApprovalButton> },
    /// A new text for the message of the part `of`. One that `must_show` becomes a message of its own if it cannot be.
    Edit { of: String, body: Body, buttons: Vec<ApprovalButton>, must_show: bool },
    /// A file; where it cannot be sent, its text.
    File { name: String, caption: Option<String>, base64: String },
    /// A sign on somebody's message.
    Reaction { message_id: String, reaction: Reaction, instead_of: Option<Reaction> },
}

/// A message of the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) id: i64,
    pub(crate) idem_key: String,
    pub(crate) address: Address,
    pub(crate) content: Content,
    /// Attempts whose outcome is known to be: not sent.
    pub(crate) attempts: u32,
    /// Attempts whose outcome is not known.
    pub(crate) uncertain: u32,
    pub(crate) stub_id: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) next_at: i64,
}

/// What a confirmed message leaves behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AfterSent {
    /// A prompt that waited for it may run now.
    pub(crate) released: bool,
    /// Its lane has more to send.
    pub(crate) more: bool,
}

impl Content {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } | Self::Reply { .. } => "text",
            Self::Prompt { .. } => "prompt",
            Self::Edit { .. } => "edit",
            Self::File { .. } => "file",
            Self::Reaction { .. } => "reaction",
        }
    }

    /// It says something for a moment only.
    pub(crate) fn is_sign(&self) -> bool {
        matches!(self, Self::Reaction { .. })
    }

    /// Repeating it makes no second copy.
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self, Self::Edit { .. } | Self::Reaction { .. })
    }
}

impl NewPart {
    /// What it waits behind.
    pub(crate) fn lane(&self) -> String {
        let chat = self.address.chat_key();
        if self.content.is_sign() { chat + SIGNS } else { chat }
    }

    pub(crate) fn is_lane_of_signs(lane: &str) -> bool {
        lane.ends_with(SIGNS)
    }
}

impl GatewayStore {
    /// Queues messages; those that are there already stay as they are.
    pub(crate) async fn queue_parts(&self, parts: Vec<NewPart>, now: i64) -> Result<(), StoreError> {
        self.database.write(move |connection| insert(connection, &parts, now)).await
    }

    /// The oldest unsent message of a lane, and what keeps it from being sent. If nothing does, it is `sending` with the same
    /// commit: from here to the answer of the platform the outcome is not known.
    pub(crate) async fn next_part<O: Send + 'static>(
        &self,
        lane: &str,
        obstacle: impl FnOnce(&Part) -> Option<O> + Send + 'static,
    ) -> Result<Option<(Part, Option<O>)>, StoreError> {
        let lane = lane.to_owned();
        self.database
            .write_unguarded(move |connection| {
                let sql = "SELECT id, idem_key, address, payload, attempts, uncertain, stub_id, created_at, next_at
                           FROM outbox WHERE lane = ?1 AND state IN ('queued', 'sending') ORDER BY id LIMIT 1";
                let found = connection.prepare_cached(sql)?.query_row([&lane], |row| Ok(read_part(row))).optional()?;
                let Some(part) = found.transpose()? else { return Ok(None) };
                let part = prompts::in_thread(connection, part)?;
                let obstacle = obstacle(&part);
                if obstacle.is_none() {
                    let sql = "UPDATE outbox SET state = 'sending' WHERE id = ?1";
                    connection.prepare_cached(sql)?.execute([part.id])?;
                }
                Ok(Some((part, obstacle)))
            })
            .await
    }

    /// The platform confirmed it. Nobody reads a file again.
    pub(crate) async fn sent(&self, id: i64, message_id: Option<String>) -> Result<AfterSent, StoreError> {
        self.database.write_unguarded(move |connection| sent(connection, id, message_id.as_deref())).await
    }

    /// An empty message stands where the text will be.
    pub(crate) async fn stubbed(&self, id: i64, message_id: String) -> Result<(), StoreError> {
        self.database
            .write(move |connection| {
                let sql = "UPDATE outbox SET state = 'queued', stub_id = ?2 WHERE id = ?1";
                connection.prepare_cached(sql)?.execute(params![id, message_id])?;
                Ok(())
            })
            .await
    }

    /// The platform did not take it in this form; another is tried in its place.
    pub(crate) async fn replace_content(&self, id: i64, content: &Content) -> Result<(), StoreError> {
        let (kind, payload) = (content.kind(), serde_json::to_string(content)?);
        self.database
            .write(move |connection| {
                let sql = "UPDATE outbox SET state = 'queued', kind = ?2, payload = ?3 WHERE id = ?1";
                connection.prepare_cached(sql)?.execute(params![id, kind, payload])?;
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

    /// Perhaps sent; try again at `next_at`, or park it when it was tried `most` times and say so in the chat. True if a prompt
    /// that waited for it may run now.
    pub(crate) async fn perhaps_sent(
        &self,
        id: i64,
        error: String,
        next_at: i64,
        most: u32,
    ) -> Result<bool, StoreError> {
        self.database
            .write(move |connection| {
                let sql = "UPDATE outbox SET uncertain = uncertain + 1, next_at = ?3, error = ?2,
                           state = CASE WHEN uncertain + 1 >= ?4 THEN 'unknown' ELSE 'queued' END
                           WHERE id = ?1 RETURNING idem_key, state = 'unknown', address";
                let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
                let values = params![id, error, next_at, most];
                let (key, is_parked, address): (String, bool, String) =
                    connection.prepare_cached(sql)?.query_row(values, read)?;
                if is_parked && !key.starts_with(PARKED) {
                    let address: Address = serde_json::from_str(&address)?;
                    notice::queue(connection, format!("{PARKED}{id}"), &address, OFFER, now_ms())?;
                }
                prompts::part_ended(connection, &key, None)
            })
            .await
    }

    /// Given up; `instead` goes into the queue in its place.
    pub(crate) async fn failed(&self, id: i64, error: String, instead: Vec<NewPart>) -> Result<(), StoreError> {
        let now = now_ms();
        self.database
            .write(move |connection| {
                let sql = "UPDATE outbox SET state = 'failed', error = ?2 WHERE id = ?1 RETURNING idem_key";
                let key: String = connection.prepare_cached(sql)?.query_row(params![id, error], |row| row.get(0))?;
                insert(connection, &instead, now)?;
                prompts::part_ended(connection, &key, None).map(drop)
            })
            .await
    }

    /// After a start: lanes with unsent messages. One found `sending` may have been sent.
    pub(crate) async fn unfinished_lanes(&self) -> Result<Vec<String>, StoreError> {
        self.database
            .write(|connection| {
                let sql = "UPDATE outbox SET state = 'queued', error = 'the process ended while sending',
                           uncertain = uncertain + (kind NOT IN ('edit', 'reaction')) WHERE state = 'sending'";
                connection.execute(sql, [])?;
                let sql = "SELECT DISTINCT lane FROM outbox WHERE state = 'queued'";
                let mut statement = connection.prepare(sql)?;
                let keys = statement.query_map([], |row| row.get(0))?;
                Ok(keys.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Lanes with messages to be sent.
    pub(crate) async fn queued_lanes(&self) -> Result<Vec<String>, StoreError> {
        self.database
            .read(|connection| {
                let mut statement =
                    connection.prepare_cached("SELECT DISTINCT lane FROM outbox WHERE state = 'queued'")?;
                let lanes = statement.query_map([], |row| row.get(0))?;
                Ok(lanes.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The message that a part became; none while it is not sent.
    pub(crate) async fn message_of(&self, idem_key: &str) -> Result<Option<MessageRef>, StoreError> {
        let idem_key = idem_key.to_owned();
        self.database
            .read(move |connection| {
                let sql = "SELECT address, platform_message_id FROM outbox
                           WHERE idem_key = ?1 AND state = 'sent' AND platform_message_id IS NOT NULL";
                let read = |row: &Row<'_>| -> Result<(String, String), _> { Ok((row.get(0)?, row.get(1)?)) };
                let Some((address, message_id)) =
                    connection.prepare_cached(sql)?.query_row([idem_key], read).optional()?
                else {
                    return Ok(None);
                };
                Ok(Some(MessageRef { address: serde_json::from_str(&address)?, message_id }))
            })
            .await
    }

    /// Whether there is such a message, or will be.
    pub(crate) async fn is_queued_or_sent(&self, idem_key: &str) -> Result<bool, StoreError> {
        let idem_key = idem_key.to_owned();
        self.database
            .read(move |connection| {
                let sql = "SELECT count(*) FROM outbox WHERE idem_key = ?1 AND state IN ('queued', 'sending', 'sent')";
                let found: i64 = connection.prepare_cached(sql)?.query_row([idem_key], |row| row.get(0))?;
                Ok(found > 0)
            })
            .await
    }
}

#[cfg(test)]
impl GatewayStore {
    /// The next message of a lane, taken to be sent.
    pub(crate) async fn take_part(&self, lane: &str) -> Option<Part> {
        self.next_part(lane, |_| None::<()>).await.unwrap().map(|(part, _)| part)
    }
}

fn read_part(row: &Row<'_>) -> Result<Part, StoreError> {
    let (address, content): (String, String) = (row.get(2)?, row.get(3)?);
    Ok(Part {
        id: row.get(0)?,
        idem_key: row.get(1)?,
        address: serde_json::from_str(&address)?,
        // Rows of an earlier version hold the text itself.
        content: serde_json::from_str(&content).unwrap_or_else(|_| Content::Text { body: Body::plain(content) }),
        attempts: row.get(4)?,
        uncertain: row.get(5)?,
        stub_id: row.get(6)?,
        created_at: row.get(7)?,
        next_at: row.get(8)?,
    })
}

/// The platform confirmed it.
pub(super) fn sent(connection: &Connection, id: i64, message_id: Option<&str>) -> Result<AfterSent, StoreError> {
    let sql = "UPDATE outbox SET state = 'sent', platform_message_id = ?2, error = NULL,
               payload = CASE kind WHEN 'file' THEN json_set(payload, '$.base64', '') ELSE payload END
               WHERE id = ?1 RETURNING idem_key, lane";
    let read = |row: &Row<'_>| -> Result<(String, String), _> { Ok((row.get(0)?, row.get(1)?)) };
    let (key, lane) = connection.prepare_cached(sql)?.query_row(params![id, message_id], read)?;
    let sql = "SELECT 1 FROM outbox WHERE lane = ?1 AND state IN ('queued', 'sending')";
    let more = connection.prepare_cached(sql)?.exists([lane])?;
    Ok(AfterSent { released: prompts::part_ended(connection, &key, message_id)?, more })
}

/// Whether this message of a chat is the one that a part became.
pub(super) fn is_message(
    connection: &Connection,
    idem_key: &str,
    place: &Address,
    message_id: &str,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM outbox WHERE idem_key = ?1 AND platform_message_id = ?2 AND state = 'sent'
               AND address ->> '$.channel' = ?3 AND address ->> '$.chat' = ?4";
    let values = params![idem_key, message_id, place.channel.as_str(), place.chat];
    Ok(connection.prepare_cached(sql)?.exists(values)?)
}

/// Whether this message of a chat is known to be one of the bot's.
pub(super) fn is_any_message(connection: &Connection, place: &Address, message_id: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM outbox WHERE platform_message_id = ?1
               AND address ->> '$.channel' = ?2 AND address ->> '$.chat' = ?3";
    Ok(connection.prepare_cached(sql)?.exists(params![message_id, place.channel.as_str(), place.chat])?)
}

/// In the transaction of what they follow from.
pub(super) fn insert(connection: &Connection, parts: &[NewPart], now: i64) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO outbox (idem_key, lane, address, kind, payload, state, created_at, next_at)
               VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6, ?6)";
    let mut statement = connection.prepare_cached(sql)?;
    for part in parts {
        let (address, content) = (serde_json::to_string(&part.address)?, serde_json::to_string(&part.content)?);
        statement.execute(params![part.idem_key, part.lane(), address, part.content.kind(), content, now])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D3: what stays unknown is parked where its chat can see it, and an offer is not offered in turn.
    #[tokio::test]
    async fn what_may_not_have_arrived_is_offered_again_in_its_chat() {
        const TRIES: u32 = 3;
        let store = GatewayStore::open_in_memory().unwrap();
        let address =
            Address { channel: "telegram".into(), chat: "42".to_owned(), thread: None, direct: Some("42".into()) };
        let (lane, body) = (address.chat_key(), Body::plain("answer"));
        let part = NewPart { idem_key: "run:1:0:0".to_owned(), address, content: Content::Text { body } };
        store.queue_parts(vec![part], now_ms()).await.unwrap();
        let mut tried = Vec::new();
        while let Some(part) = store.take_part(&lane).await {
            let Content::Text { body } = &part.content else { panic!("{part:?}") };
            tried.push(body.text.clone());
            store.perhaps_sent(part.id, "no answer".to_owned(), 0, TRIES).await.unwrap();
        }
        assert_eq!(tried, ["answer", "answer", "answer", OFFER, OFFER, OFFER]);
    }
}
