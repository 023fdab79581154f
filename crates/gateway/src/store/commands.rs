//! Commands of people, and what they change of a conversation.

use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, Row, params};

use super::{GatewayStore, NewPart, OpenRun, Payload, StoreError, outbox, runs};
use crate::{Address, Sender};

/// A command that was not carried out yet.
#[derive(Debug, Clone)]
pub(crate) struct CommandRow {
    pub(crate) id: i64,
    pub(crate) routing_key: String,
    pub(crate) address: Address,
    pub(crate) sender: Sender,
    pub(crate) payload: Payload,
}

/// A conversation as it stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    pub(crate) run: Option<OpenRun>,
    /// The first line of each waiting message.
    pub(crate) waiting: Vec<String>,
    pub(crate) held: bool,
    pub(crate) model: Option<String>,
    /// Messages to its chat that were given up or parked.
    pub(crate) undelivered: i64,
}

/// What a command changes together with its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    /// The session is left behind.
    pub(crate) renew: bool,
    /// Whether waiting messages wait on.
    pub(crate) held: Option<bool>,
    /// Waiting messages are dropped, and so are prompts of programs, also those that wait for their texts to be sent.
    pub(crate) clear: bool,
    /// The model of the next runs; an inner none is the default.
    pub(crate) model: Option<Option<String>>,
    /// A message of the same sender that follows from the command.
    pub(crate) message: Option<Payload>,
    /// Messages to the chat are queued again.
    pub(crate) resend: bool,
}

impl GatewayStore {
    /// The oldest command of a conversation.
    pub(crate) async fn next_command(&self, routing_key: &str) -> Result<Option<CommandRow>, StoreError> {
        let key = routing_key.to_owned();
        self.database
            .read(move |connection| {
                let sql = "SELECT id, routing_key, address, sender, payload FROM inbox
                           WHERE routing_key = ?1 AND kind = 'command' AND state = 'accepted' ORDER BY id LIMIT 1";
                connection.prepare_cached(sql)?.query_row([key], |row| Ok(read(row))).optional()?.transpose()
            })
            .await
    }

    /// How a conversation stands.
    pub(crate) async fn standing(&self, routing_key: &str, lane: &str) -> Result<Standing, StoreError> {
        let (key, lane) = (routing_key.to_owned(), lane.to_owned());
        self.database.read(move |connection| standing(connection, &key, &lane)).await
    }

    /// The command is carried out: what it changes, and what the chat is told, are one commit.
    pub(crate) async fn end_command(
        &self,
        command: &CommandRow,
        change: Change,
        parts: Vec<NewPart>,
        now: i64,
    ) -> Result<(), StoreError> {
        let command = command.clone();
        self.database
            .write(move |connection| {
                apply(connection, &command, change, now)?;
                connection.prepare_cached("UPDATE inbox SET state = 'done' WHERE id = ?1")?.execute([command.id])?;
                outbox::insert(connection, &parts, now)
            })
            .await
    }

    /// The oldest message of a person that waits behind a run, with the run.
    pub(crate) async fn waiting_behind(&self, routing_key: &str) -> Result<Option<(CommandRow, OpenRun)>, StoreError> {
        let key = routing_key.to_owned();
        self.database
            .read(move |connection| {
                let Some(run) = runs::open_run(connection, &key)? else { return Ok(None) };
                let sql = "SELECT id, routing_key, address, sender, payload FROM inbox
                           WHERE routing_key = ?1 AND kind = 'message' AND state = 'accepted' ORDER BY id LIMIT 1";
                let row = connection.prepare_cached(sql)?.query_row([key], |row| Ok(read(row))).optional()?;
                Ok(row.transpose()?.map(|row| (row, run)))
            })
            .await
    }

    /// The message went into the run; it waits again if the run does not use it.
    pub(crate) async fn steered(&self, message: i64, run_id: &str) -> Result<(), StoreError> {
        let run_id = run_id.to_owned();
        self.database
            .write(move |connection| {
                let sql = "UPDATE inbox SET state = 'steered', run_id = ?2 WHERE id = ?1 AND state = 'accepted'";
                connection.prepare_cached(sql)?.execute(params![message, run_id])?;
                Ok(())
            })
            .await
    }

    /// The newest message of a conversation that came to nothing.
    pub(crate) async fn last_failed(&self, routing_key: &str) -> Result<Option<Payload>, StoreError> {
        let key = routing_key.to_owned();
        self.database
            .read(move |connection| {
                let sql = "SELECT payload FROM inbox WHERE id = (SELECT max(id) FROM (
                             SELECT max(id) AS id FROM inbox
                             WHERE routing_key = ?1 AND state = 'dead' AND kind = 'message' AND batch_id IS NOT NULL
                             UNION ALL SELECT max(inbox.id) FROM runs JOIN inbox USING (run_id)
                             WHERE runs.routing_key = ?1 AND outcome <> 'completed' AND kind = 'message'
                               AND inbox.batch_id IS NOT NULL))";
                let found: Option<String> =
                    connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?;
                Ok(found.as_deref().map(serde_json::from_str).transpose()?)
            })
            .await
    }
}

fn standing(connection: &Connection, key: &str, lane: &str) -> Result<Standing, StoreError> {
    let run = runs::open_run(connection, key)?;
    let sql = "SELECT payload FROM inbox WHERE routing_key = ?1 AND kind <> 'command'
                 AND state IN ('accepted', 'awaiting', 'batched') ORDER BY id LIMIT 100";
    let mut statement = connection.prepare_cached(sql)?;
    let waiting = statement.query_map([key], |row| row.get::<_, String>(0))?;
    let mut first_lines = Vec::new();
    for payload in waiting {
        let payload: Payload = serde_json::from_str(&payload?)?;
        first_lines.push(payload.text.lines().next().unwrap_or_default().chars().take(80).collect());
    }
    let sql = "SELECT held, model FROM conversations WHERE routing_key = ?1";
    let found: Option<(bool, Option<String>)> =
        connection.prepare_cached(sql)?.query_row([key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (held, model) = found.unwrap_or_default();
    let sql = "SELECT count(*) FROM outbox WHERE lane = ?1 AND state IN ('unknown', 'failed')";
    let undelivered = connection.prepare_cached(sql)?.query_row([lane], |row| row.get(0))?;
    Ok(Standing { run, waiting: first_lines, held, model, undelivered })
}

fn apply(connection: &Connection, command: &CommandRow, change: Change, now: i64) -> Result<(), StoreError> {
    let key = &command.routing_key;
    if change.renew {
        connection.prepare_cached("DELETE FROM sessions WHERE routing_key = ?1")?.execute([key])?;
        connection.prepare_cached("DELETE FROM session_state WHERE routing_key = ?1")?.execute([key])?;
    }
    if change.clear {
        let sql = "UPDATE inbox SET state = 'done' WHERE routing_key = ?1 AND kind IN ('message', 'api')
                   AND state IN ('accepted', 'awaiting')";
        connection.prepare_cached(sql)?.execute([key])?;
    }
    if change.held.is_some() || change.model.is_some() {
        let sql = "INSERT OR IGNORE INTO conversations (routing_key) VALUES (?1)";
        connection.prepare_cached(sql)?.execute([key])?;
    }
    if let Some(held) = change.held {
        connection
            .prepare_cached("UPDATE conversations SET held = ?2 WHERE routing_key = ?1")?
            .execute(params![key, held])?;
    }
    if let Some(model) = change.model {
        let sql = "UPDATE conversations SET model = ?2 WHERE routing_key = ?1";
        connection.prepare_cached(sql)?.execute(params![key, model])?;
    }
    if change.resend {
        let sql = "UPDATE outbox SET state = 'queued', attempts = 0, uncertain = 0, created_at = ?2, next_at = ?2
                   WHERE lane = ?1 AND state IN ('unknown', 'failed')";
        connection.prepare_cached(sql)?.execute(params![command.address.chat_key(), now])?;
    }
    if let Some(payload) = change.message {
        let sql = "INSERT OR IGNORE INTO inbox
            (channel, account, event_key, kind, routing_key, address, sender, order_key, payload, received_at, state, message_id)
            SELECT channel, account, event_key || '+', 'message', routing_key, address, sender, order_key, ?2, ?3, 'accepted',
                message_id FROM inbox WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![command.id, serde_json::to_string(&payload)?, now])?;
    }
    Ok(())
}

fn read(row: &Row<'_>) -> Result<CommandRow, StoreError> {
    let (address, sender, payload): (String, String, String) = (row.get(2)?, row.get(3)?, row.get(4)?);
    Ok(CommandRow {
        id: row.get(0)?,
        routing_key: row.get(1)?,
        address: serde_json::from_str(&address)?,
        sender: serde_json::from_str(&sender)?,
        payload: serde_json::from_str(&payload)?,
    })
}
