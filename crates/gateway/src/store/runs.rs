//! From an accepted message to the end of its run.
//!
//! A row goes `accepted` → `batched` → `running` → `done`, or `dead`. The batch id exists before the server hears of the
//! batch and is the idempotency key of that call, so a crash between the two starts nothing twice.

use serde::{Deserialize, Serialize};
use stakpak_protocol::{CallerContext, NotifyRoute, RunOverrides};
use stakpak_sqlite::{
    Migration,
    rusqlite::{Connection, OptionalExtension, Row, params},
};
use uuid::Uuid;

use super::{GatewayStore, NewPart, SessionMapping, StoreError, outbox, sessions, unconsumed};
use crate::{
    Address, DeliveryContext, MediaAttachment, PeerId, Queued, Sender,
    dispatcher::{KeptFile, Sent},
};

pub(super) const TABLES: Migration = Migration {
    name: "progress",
    sql: "
-- What of a run was sent while it went on.
ALTER TABLE runs ADD COLUMN sent TEXT;
",
};

/// What a conversation has to do next.
#[derive(Debug)]
pub(crate) enum Work {
    /// The server accepted a batch and its run has not ended here.
    Follow(Box<OpenRun>),
    /// A batch to be sent to the server.
    Start(Box<Batch>),
}

/// What a row carries besides its sender.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) metadata: serde_json::Value,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) attachments: Vec<MediaAttachment>,
    #[serde(default)]
    pub(crate) options: RunOptions,
    /// Where its secrets are, if it holds any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vault: Option<String>,
}

/// What a program asked for with its prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunOptions {
    #[serde(default)]
    pub(crate) title: Option<String>,
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) sandbox: Option<bool>,
    #[serde(default)]
    pub(crate) context: Vec<CallerContext>,
    #[serde(default)]
    pub(crate) overrides: Option<RunOverrides>,
    /// The run is ended after this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_s: Option<u64>,
    /// Where what the run has to tell on its way goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) notify_route: Option<NotifyRoute>,
    /// Where the session works, if it is made for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cwd: Option<String>,
    /// Files that go into the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<KeptFile>,
    /// Where the secrets of its context are, if it holds any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vault: Option<String>,
}

/// Where a batch came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchKind {
    /// A person in a chat.
    Message,
    /// A program.
    Api,
}

/// A message on its way to the server.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) id: String,
    pub(crate) kind: BatchKind,
    pub(crate) routing_key: String,
    pub(crate) address: Address,
    pub(crate) sender: Option<Sender>,
    pub(crate) payload: Payload,
    /// Where the secrets of its messages are.
    pub(crate) vaults: Vec<String>,
    pub(crate) context: Option<DeliveryContext>,
    /// The id of its first message, if a person wrote it.
    pub(crate) message_id: Option<String>,
    /// Restarts that found it unsent.
    pub(crate) attempts: u32,
    /// The model that was chosen in the chat.
    pub(crate) model: Option<String>,
    /// The session of the conversation, if it has one.
    pub(crate) session: Option<SessionMapping>,
    /// None while the server has not heard of it.
    pub(crate) request: Option<Request>,
}

/// What the server is asked for. Later attempts repeat the first one's, so that they are the same request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Unix ms.
    pub(crate) first_post_at: i64,
    pub(crate) options: RunOptions,
}

/// What has to be done after the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// Messages wait for the next run.
    pub(crate) waiting: bool,
    /// Approvals of the run are not closed.
    pub(crate) approvals: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct EndedRun {
    /// `completed`, `failed`, `cancelled` or `timed_out`.
    pub(crate) outcome: &'static str,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// Texts that were to go into it and did not.
    pub(crate) unconsumed: Vec<String>,
}

/// A run to be followed.
#[derive(Debug, Clone)]
pub(crate) struct OpenRun {
    pub(crate) run_id: String,
    pub(crate) session_id: String,
    pub(crate) address: Address,
    /// Events after it show all of the run.
    pub(crate) cursor: u64,
    /// Unix ms.
    pub(crate) started_at: i64,
    /// The message that it answers, if a person wrote it: its id.
    pub(crate) question: Option<String>,
    /// Who wrote that message.
    pub(crate) requester: Option<PeerId>,
    /// How long its request lets it take, in seconds.
    pub(crate) timeout_s: Option<u64>,
    /// What of its text was sent before its end.
    pub(crate) sent: Sent,
    /// Nothing of it can have been shown yet.
    pub(crate) fresh: bool,
}

/// Sizes of the queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct QueueCounts {
    /// Runs that have not ended.
    pub active_runs: i64,
    /// Messages that have not become runs.
    pub inbox_pending: i64,
    /// Texts to be sent.
    pub outbox_pending: i64,
    /// Texts that may or may not have been sent.
    pub outbox_unknown: i64,
    /// Texts the platform refused.
    pub outbox_failed: i64,
    /// Requests that wait for a person.
    pub approvals_pending: i64,
}

impl GatewayStore {
    /// What the conversation has to do next; makes a batch of its oldest waiting message if nothing else is open.
    ///
    /// What `ask` says is the request of a batch that has none yet; without an answer it has to be made before
    /// [`Self::posting`].
    pub(crate) async fn next_work(
        &self,
        routing_key: &str,
        queued: Queued,
        now: i64,
        ask: impl FnOnce(&Batch) -> Option<RunOptions> + Send + 'static,
    ) -> Result<Option<Work>, StoreError> {
        let key = routing_key.to_owned();
        self.database
            .write(move |connection| {
                let mut work = next_work(connection, &key, queued, now)?;
                if let Some(Work::Start(batch)) = &mut work
                    && batch.request.is_none()
                    && let Some(options) = ask(batch)
                {
                    batch.request = Some(posting(connection, &batch.id, options, now)?);
                }
                Ok(work)
            })
            .await
    }

    /// Notes that the server is about to hear of a batch, and how.
    pub(crate) async fn posting(&self, batch_id: &str, options: RunOptions, now: i64) -> Result<Request, StoreError> {
        let batch_id = batch_id.to_owned();
        self.database.write(move |connection| posting(connection, &batch_id, options, now)).await
    }

    /// The server accepted the batch as `run`; `session` is where the conversation goes on from here.
    pub(crate) async fn started(
        &self,
        batch: &Batch,
        run: &OpenRun,
        session: Option<SessionMapping>,
    ) -> Result<(), StoreError> {
        let (batch_id, routing_key, run) = (batch.id.clone(), batch.routing_key.clone(), run.clone());
        let address = serde_json::to_string(&batch.address)?;
        self.database
            .write_unguarded(move |connection| {
                if let Some(session) = session {
                    sessions::set(connection, &session)?;
                }
                let OpenRun { run_id, started_at, .. } = run;
                let cursor = i64::try_from(run.cursor).unwrap_or(i64::MAX);
                let sql = "INSERT OR IGNORE INTO runs
                    (run_id, batch_id, session_id, routing_key, address, cursor, state, started_at)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'open', ?7)";
                connection.prepare_cached(sql)?.execute(params![
                    run_id,
                    batch_id,
                    run.session_id,
                    routing_key,
                    address,
                    cursor,
                    started_at
                ])?;
                let sql = "UPDATE inbox SET state = 'running', run_id = ?2 WHERE batch_id = ?1";
                connection.prepare_cached(sql)?.execute(params![batch_id, run_id])?;
                Ok(())
            })
            .await
    }

    /// Messages with a part of the answer, and what has been sent with them.
    pub(crate) async fn send_part(
        &self,
        run_id: &str,
        sent: &Sent,
        parts: Vec<NewPart>,
        now: i64,
    ) -> Result<(), StoreError> {
        let (run_id, sent) = (run_id.to_owned(), serde_json::to_string(sent)?);
        self.database
            .write(move |connection| {
                connection.prepare_cached("UPDATE runs SET sent = ?2 WHERE run_id = ?1")?.execute([run_id, sent])?;
                outbox::insert(connection, &parts, now)
            })
            .await
    }

    /// The run has ended; its answer is in the outbox with the same commit.
    pub(crate) async fn finish_run(
        &self,
        run_id: &str,
        ended: EndedRun,
        answer: Vec<NewPart>,
        now: i64,
    ) -> Result<Left, StoreError> {
        let run_id = run_id.to_owned();
        self.database
            .write_unguarded(move |connection| {
                let sql = "UPDATE runs SET state = 'done', outcome = ?2, finished_at = ?3, error = ?4, sent = NULL
                           WHERE run_id = ?1 AND state = 'open'";
                let EndedRun { outcome, error, unconsumed } = ended;
                connection.prepare_cached(sql)?.execute(params![run_id, outcome, now, error])?;
                unconsumed::wait_again(connection, &run_id, &unconsumed)?;
                let sql = "UPDATE inbox SET state = 'done' WHERE run_id = ?1";
                connection.prepare_cached(sql)?.execute([&run_id])?;
                outbox::insert(connection, &answer, now)?;
                left(connection, &run_id)
            })
            .await
    }

    /// The batch will not become a run; the chat is told with the same commit.
    pub(crate) async fn bury(&self, batch_id: &str, notice: Vec<NewPart>, now: i64) -> Result<(), StoreError> {
        let batch_id = batch_id.to_owned();
        self.database
            .write(move |connection| {
                let sql = "UPDATE inbox SET state = 'dead' WHERE batch_id = ?1";
                connection.prepare_cached(sql)?.execute([&batch_id])?;
                outbox::insert(connection, &notice, now)
            })
            .await
    }

    /// After a start: conversations with work. Counts an attempt for each batch found unsent.
    pub(crate) async fn unfinished_conversations(&self) -> Result<Vec<String>, StoreError> {
        self.database
            .write(|connection| {
                connection.execute("UPDATE inbox SET attempts = attempts + 1 WHERE state = 'batched'", [])?;
                let sql = "SELECT DISTINCT routing_key FROM inbox WHERE state IN ('accepted', 'batched', 'running')
                           UNION SELECT routing_key FROM runs WHERE state = 'open'";
                let mut statement = connection.prepare(sql)?;
                let keys = statement.query_map([], |row| row.get(0))?;
                Ok(keys.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Sizes of the queues.
    pub async fn queue_counts(&self) -> Result<QueueCounts, StoreError> {
        self.database
            .read(|connection| {
                let sql = "SELECT (SELECT count(*) FROM runs WHERE state = 'open'),
                    (SELECT count(*) FROM inbox
                        WHERE state IN ('accepted', 'awaiting', 'batched') AND kind IN ('message', 'api')),
                    (SELECT count(*) FROM outbox WHERE state IN ('queued', 'sending')),
                    (SELECT count(*) FROM outbox WHERE state = 'unknown'),
                    (SELECT count(*) FROM outbox WHERE state = 'failed'),
                    (SELECT count(*) FROM approvals WHERE state = 'open')";
                Ok(connection.query_row(sql, [], |row| {
                    Ok(QueueCounts {
                        active_runs: row.get(0)?,
                        inbox_pending: row.get(1)?,
                        outbox_pending: row.get(2)?,
                        outbox_unknown: row.get(3)?,
                        outbox_failed: row.get(4)?,
                        approvals_pending: row.get(5)?,
                    })
                })?)
            })
            .await
    }
}

fn posting(connection: &Connection, batch_id: &str, options: RunOptions, now: i64) -> Result<Request, StoreError> {
    let sql = "UPDATE inbox SET first_post_at = ?2, request = ?3 WHERE batch_id = ?1";
    connection.prepare_cached(sql)?.execute(params![batch_id, now, serde_json::to_string(&options)?])?;
    Ok(Request { first_post_at: now, options })
}

fn left(connection: &Connection, run_id: &str) -> Result<Left, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM runs JOIN inbox USING (routing_key)
                              WHERE runs.run_id = ?1 AND inbox.state IN ('accepted', 'batched')),
                      EXISTS (SELECT 1 FROM approvals WHERE run_id = ?1 AND state <> 'closed')";
    let read = |row: &Row<'_>| Ok(Left { waiting: row.get(0)?, approvals: row.get(1)? });
    Ok(connection.prepare_cached(sql)?.query_row([run_id], read)?)
}

fn next_work(connection: &Connection, routing_key: &str, queued: Queued, now: i64) -> Result<Option<Work>, StoreError> {
    if let Some(run) = open_run(connection, routing_key)? {
        return Ok(Some(Work::Follow(Box::new(run))));
    }
    if let Some(batch) = batched(connection, routing_key)? {
        return Ok(Some(Work::Start(Box::new(batch))));
    }
    if !make_batch(connection, routing_key, queued, now)? {
        return Ok(None);
    }
    Ok(batched(connection, routing_key)?.map(|batch| Work::Start(Box::new(batch))))
}

pub(super) fn open_run(connection: &Connection, routing_key: &str) -> Result<Option<OpenRun>, StoreError> {
    let sql = "SELECT runs.run_id, session_id, runs.address, cursor, started_at, message_id, sender,
                      payload ->> '$.options.timeout_s', sent
               FROM runs LEFT JOIN inbox ON inbox.batch_id = runs.batch_id
               WHERE runs.routing_key = ?1 AND runs.state = 'open' ORDER BY started_at, inbox.id LIMIT 1";
    connection.prepare_cached(sql)?.query_row([routing_key], |row| Ok(read_run(row))).optional()?.transpose()
}

fn read_run(row: &Row<'_>) -> Result<OpenRun, StoreError> {
    let (address, cursor, sender): (String, i64, Option<String>) = (row.get(2)?, row.get(3)?, row.get(6)?);
    let sender: Option<Sender> = sender.as_deref().map(serde_json::from_str).transpose()?;
    let sent: Option<String> = row.get(8)?;
    Ok(OpenRun {
        run_id: row.get(0)?,
        session_id: row.get(1)?,
        address: serde_json::from_str(&address)?,
        cursor: u64::try_from(cursor).unwrap_or(0),
        started_at: row.get(4)?,
        question: row.get(5)?,
        requester: sender.map(|sender| sender.id),
        timeout_s: row.get::<_, Option<i64>>(7)?.and_then(|seconds| u64::try_from(seconds).ok()),
        sent: sent.as_deref().map(serde_json::from_str).transpose()?.unwrap_or_default(),
        fresh: false,
    })
}

/// The oldest waiting message becomes a batch, and takes the one-shot context of its chat with it.
fn make_batch(connection: &Connection, routing_key: &str, queued: Queued, now: i64) -> Result<bool, StoreError> {
    // What a platform delivered late stands where it was said; only its own order can say that. Without the hint SQLite would
    // take the index of the event keys, which holds everything a bot ever received.
    let sql = "WITH first AS (
                 SELECT channel, account, kind FROM inbox
                 WHERE routing_key = ?1 AND state = 'accepted' AND kind IN ('message', 'api')
                   AND NOT EXISTS (SELECT 1 FROM conversations WHERE conversations.routing_key = ?1 AND held)
                 ORDER BY id LIMIT 1)
               SELECT inbox.id, inbox.address, inbox.kind FROM inbox INDEXED BY inbox_state JOIN first USING (channel, account, kind)
               WHERE inbox.routing_key = ?1 AND inbox.state = 'accepted' ORDER BY inbox.order_key, inbox.id LIMIT 1";
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let found: Option<(i64, String, String)> =
        connection.prepare_cached(sql)?.query_row([routing_key], read).optional()?;
    let Some((id, address, kind)) = found else { return Ok(false) };
    // `/new` and the like have their effect on what is said after them.
    let sql = "SELECT 1 FROM inbox WHERE routing_key = ?1 AND state = 'accepted' AND kind = 'command' AND id < ?2";
    if connection.prepare_cached(sql)?.exists(params![routing_key, id])? {
        return Ok(false);
    }
    let batch_id = Uuid::new_v4().to_string();
    if kind == "api" {
        // It brought its own context; what was said into the chat is for the people there.
        let sql = "UPDATE inbox SET state = 'batched', batch_id = ?2 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![id, batch_id])?;
        return Ok(true);
    }
    let address: Address = serde_json::from_str(&address)?;
    let sql =
        "DELETE FROM delivery_context WHERE channel = ?1 AND target_key IN (?2, ?3) RETURNING context, expires_at";
    let keys = params![address.channel.as_str(), address.target_key(), address.other_target_key()];
    let context: Option<(String, i64)> =
        connection.prepare_cached(sql)?.query_row(keys, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let context = context.filter(|(_, expires_at)| *expires_at > now).map(|(context, _)| context);
    let sql = "UPDATE inbox SET state = 'batched', batch_id = ?2, context = ?3 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id, batch_id, context])?;
    if queued == Queued::Merge {
        // Messages of another chat under the same key are answered there.
        let sql = "UPDATE inbox SET state = 'batched', batch_id = ?3 WHERE routing_key = ?1 AND state = 'accepted'
                   AND kind = 'message' AND address = ?2";
        let address = serde_json::to_string(&address)?;
        connection.prepare_cached(sql)?.execute(params![routing_key, address, batch_id])?;
    }
    Ok(true)
}

/// The oldest batch that the server has not accepted.
fn batched(connection: &Connection, routing_key: &str) -> Result<Option<Batch>, StoreError> {
    let sql = "SELECT batch_id, kind, address, sender, payload, context, attempts, request, message_id, first_post_at,
                (SELECT model FROM conversations WHERE routing_key = ?1)
         FROM inbox WHERE routing_key = ?1 AND state = 'batched' ORDER BY id LIMIT 1";
    let read = |row: &Row<'_>| Ok(read_batch(row, routing_key));
    let Some(batch) = connection.prepare_cached(sql)?.query_row([routing_key], read).optional()? else {
        return Ok(None);
    };
    let mut batch = batch?;
    batch.session = sessions::of(connection, routing_key)?;
    let (lines, vaults) = lines(connection, &batch.id)?;
    if lines.len() > 1 {
        batch.payload.text = lines.join("\n");
    }
    batch.vaults = vaults;
    Ok(Some(batch))
}

fn read_batch(row: &Row<'_>, routing_key: &str) -> Result<Batch, StoreError> {
    let (kind, address, payload): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(4)?);
    let (sender, context): (Option<String>, Option<String>) = (row.get(3)?, row.get(5)?);
    let (request, first_post_at): (Option<String>, Option<i64>) = (row.get(7)?, row.get(9)?);
    let request = request.as_deref().map(serde_json::from_str).transpose()?;
    Ok(Batch {
        id: row.get(0)?,
        kind: if kind == "api" { BatchKind::Api } else { BatchKind::Message },
        routing_key: routing_key.to_owned(),
        address: serde_json::from_str(&address)?,
        sender: sender.as_deref().map(serde_json::from_str).transpose()?,
        payload: serde_json::from_str(&payload)?,
        vaults: Vec::new(),
        context: context.as_deref().map(serde_json::from_str).transpose()?,
        attempts: row.get(6)?,
        message_id: row.get(8)?,
        model: row.get(10)?,
        session: None,
        request: request.zip(first_post_at).map(|(options, first_post_at)| Request { first_post_at, options }),
    })
}

/// The messages of a batch as `<name>: <text>`, and where their secrets are.
fn lines(connection: &Connection, batch_id: &str) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT sender, payload FROM inbox WHERE batch_id = ?1 ORDER BY order_key, id")?;
    let rows = statement.query_map([batch_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (mut lines, mut vaults) = (Vec::new(), Vec::new());
    for row in rows {
        let (sender, payload): (Option<String>, String) = row?;
        let sender: Option<Sender> = sender.as_deref().map(serde_json::from_str).transpose()?;
        let payload: Payload = serde_json::from_str(&payload)?;
        let name = sender.as_ref().map(Sender::name).unwrap_or_default();
        lines.push(format!("{name}: {}", payload.text));
        vaults.extend(payload.vault);
    }
    vaults.sort_unstable();
    vaults.dedup();
    Ok((lines, vaults))
}
