//! Approvals: what is asked, what was decided, what the server made of it.
//!
//! A row is `open` while a call of it is undecided, `decided` until the server has heard all of it, then `closed`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stakpak_sqlite::{
    Migration,
    rusqlite::{Connection, OptionalExtension, Row, params},
};

use super::{GatewayStore, NewPart, OpenRun, StoreError, outbox};
use crate::{Address, Sender, access::Claim, approvals::Call, clock::now_ms};

pub(super) const TABLES: Migration = Migration {
    name: "approvals",
    sql: "
CREATE TABLE approvals (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    calls TEXT NOT NULL,
    cwd TEXT,
    args_hash TEXT NOT NULL,
    policy_version TEXT NOT NULL,
    requester TEXT,
    origin TEXT NOT NULL,
    address TEXT NOT NULL,
    prompt_key TEXT NOT NULL,
    file_key TEXT,
    state TEXT NOT NULL,
    decisions TEXT NOT NULL,
    outcomes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    remind_at INTEGER,
    expires_at INTEGER NOT NULL
);
CREATE INDEX approvals_unfinished ON approvals (run_id) WHERE state <> 'closed';
-- The same tool with the same arguments, allowed for the rest of a session.
CREATE TABLE remembered (
    session_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (session_id, fingerprint)
);
",
};

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Somebody is asked.
    Open,
    /// The server is being told.
    Decided,
    /// Nothing is left to do.
    Closed,
}

/// What was decided about one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decision {
    pub(crate) allow: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// For people.
    pub(crate) by: String,
    /// Who it was, if a person of a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by_id: Option<String>,
    pub(crate) at: i64,
}

/// Calls of a run that somebody is asked about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Approval {
    pub(crate) id: String,
    pub(crate) run_id: String,
    pub(crate) session_id: String,
    pub(crate) routing_key: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) cwd: Option<String>,
    pub(crate) args_hash: String,
    pub(crate) policy_version: String,
    pub(crate) requester: Option<Claim>,
    /// The conversation.
    pub(crate) origin: Address,
    /// Where the prompt is.
    pub(crate) address: Address,
    pub(crate) prompt_key: String,
    /// The file that holds what the prompt has no room for.
    pub(crate) file_key: Option<String>,
    pub(crate) stage: Stage,
    /// By call id.
    pub(crate) decisions: BTreeMap<String, Decision>,
    /// What the server said, by call id.
    pub(crate) outcomes: BTreeMap<String, String>,
    pub(crate) created_at: i64,
    pub(crate) remind_at: Option<i64>,
    pub(crate) expires_at: i64,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Decided => "decided",
            Self::Closed => "closed",
        }
    }
}

impl Approval {
    /// Calls nobody has decided, with their numbers from 1.
    pub(crate) fn undecided(&self) -> Vec<(usize, &Call)> {
        let numbered = self.calls.iter().enumerate().map(|(at, call)| (at + 1, call));
        numbered.filter(|(_, call)| !self.decisions.contains_key(&call.id)).collect()
    }

    /// Decisions that the server has not confirmed.
    pub(crate) fn untold(&self) -> BTreeMap<String, Decision> {
        let untold = self.decisions.iter().filter(|(id, _)| !self.outcomes.contains_key(*id));
        untold.map(|(id, decision)| (id.clone(), decision.clone())).collect()
    }
}

const COLUMNS: &str = "id, run_id, session_id, routing_key, calls, cwd, args_hash, policy_version, requester, origin, \
                       address, prompt_key, file_key, state, decisions, outcomes, created_at, remind_at, expires_at";

impl GatewayStore {
    /// A new approval and its prompt.
    pub(crate) async fn ask(&self, approval: Approval, parts: Vec<NewPart>) -> Result<(), StoreError> {
        self.database
            .write(move |connection| {
                write(connection, &approval)?;
                outbox::insert(connection, &parts, approval.created_at)
            })
            .await
    }

    /// Approvals of a run that are not closed.
    pub(crate) async fn approvals_of(&self, run_id: &str) -> Result<Vec<Approval>, StoreError> {
        let run_id = run_id.to_owned();
        let filter = "run_id = ?1 AND state <> 'closed' ORDER BY created_at, id";
        self.database.read(move |connection| select(connection, filter, &[&run_id])).await
    }

    /// All that are not closed, oldest first.
    pub(crate) async fn unfinished_approvals(&self) -> Result<Vec<Approval>, StoreError> {
        self.database.read(|connection| select(connection, "state <> 'closed' ORDER BY created_at, id", &[])).await
    }

    /// The server's answers to decisions; with all of them the approval is closed. What the chat is told goes with it.
    pub(crate) async fn told(
        &self,
        id: &str,
        outcomes: BTreeMap<String, String>,
        parts: Vec<NewPart>,
        now: i64,
    ) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.database
            .write(move |connection| {
                let Some(mut approval) = find(connection, &id)? else { return Ok(()) };
                approval.outcomes.extend(outcomes);
                if approval.outcomes.len() >= approval.calls.len() {
                    approval.stage = Stage::Closed;
                }
                write(connection, &approval)?;
                outbox::insert(connection, &parts, now)
            })
            .await
    }

    /// Nothing is asked or told any more; the chat is told why.
    pub(crate) async fn close_approval(&self, id: &str, parts: Vec<NewPart>, now: i64) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.database
            .write(move |connection| {
                let sql = "UPDATE approvals SET state = 'closed' WHERE id = ?1 AND state <> 'closed'";
                if connection.prepare_cached(sql)?.execute([&id])? == 0 {
                    return Ok(());
                }
                outbox::insert(connection, &parts, now)
            })
            .await
    }

    /// Its people were reminded.
    pub(crate) async fn reminded(&self, id: &str, parts: Vec<NewPart>, now: i64) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.database
            .write(move |connection| {
                connection.prepare_cached("UPDATE approvals SET remind_at = NULL WHERE id = ?1")?.execute([&id])?;
                outbox::insert(connection, &parts, now)
            })
            .await
    }

    /// The prompt is posted once more under another key.
    pub(crate) async fn asked_again(
        &self,
        id: &str,
        keys: (String, Option<String>),
        parts: Vec<NewPart>,
        now: i64,
    ) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.database
            .write(move |connection| {
                let sql = "UPDATE approvals SET prompt_key = ?2, file_key = ?3 WHERE id = ?1 AND state = 'open'";
                connection.prepare_cached(sql)?.execute(params![id, keys.0, keys.1])?;
                outbox::insert(connection, &parts, now)
            })
            .await
    }

    /// Whether the run has ended here.
    pub(crate) async fn has_ended(&self, run_id: &str) -> Result<bool, StoreError> {
        let run_id = run_id.to_owned();
        self.database
            .read(move |connection| {
                let sql = "SELECT 1 FROM runs WHERE run_id = ?1 AND state = 'open'";
                Ok(!connection.prepare_cached(sql)?.exists([run_id])?)
            })
            .await
    }

    /// Where a run belongs, who asked for it, and whether anybody may decide at `channel` by a grant.
    pub(crate) async fn asked_for(&self, run: &OpenRun, channel: &str) -> Result<AskedFor, StoreError> {
        let (run_id, channel) = (run.run_id.clone(), channel.to_owned());
        self.database
            .read(move |connection| {
                let sql = "SELECT routing_key, address, sender, payload ->> '$.metadata.guild_id' FROM inbox
                           WHERE run_id = ?1 ORDER BY id LIMIT 1";
                let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
                let found: Option<Origin> = connection.prepare_cached(sql)?.query_row([&run_id], read).optional()?;
                let (routing_key, address, sender, guild) = found.unwrap_or_default();
                let requester = match (address, sender) {
                    (Some(address), Some(sender)) => {
                        let (address, sender): (Address, Sender) = (from_json(&address)?, from_json(&sender)?);
                        Some(Claim { address, sender, guild })
                    }
                    _ => None,
                };
                let has_approver = super::access::has_approver(connection, &channel)?;
                Ok(AskedFor { routing_key, requester, has_approver })
            })
            .await
    }

    /// Which of the fingerprints were allowed for the rest of the session, and by whom.
    pub(crate) async fn remembered(&self, session_id: &str) -> Result<BTreeMap<String, String>, StoreError> {
        let session_id = session_id.to_owned();
        self.database
            .read(move |connection| {
                let sql = "SELECT fingerprint, decided_by FROM remembered WHERE session_id = ?1";
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([session_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// What became of a prompt that its people may not have seen.
    pub(crate) async fn lost_prompt(&self, idem_key: &str) -> Result<Option<LostPrompt>, StoreError> {
        let idem_key = idem_key.to_owned();
        self.database
            .read(move |connection| {
                let sql = "SELECT state FROM outbox WHERE idem_key = ?1";
                let state: Option<String> =
                    connection.prepare_cached(sql)?.query_row([idem_key], |row| row.get(0)).optional()?;
                Ok(match state.as_deref() {
                    Some("failed") => Some(LostPrompt::Refused),
                    Some("unknown") => Some(LostPrompt::PerhapsSent),
                    _ => None,
                })
            })
            .await
    }

    /// A prompt that was perhaps sent is tried again like one after its first attempt, so that it shows twice at the most.
    /// Its lane.
    pub(crate) async fn retry_prompt(&self, idem_key: &str) -> Result<Option<String>, StoreError> {
        let (idem_key, now) = (idem_key.to_owned(), now_ms());
        self.database
            .write(move |connection| {
                let sql =
                    "UPDATE outbox SET state = 'queued', attempts = 0, uncertain = 1, created_at = ?2, next_at = ?2
                           WHERE idem_key = ?1 AND state = 'unknown' RETURNING lane";
                Ok(connection.prepare_cached(sql)?.query_row(params![idem_key, now], |row| row.get(0)).optional()?)
            })
            .await
    }
}

/// Why a prompt may not have been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LostPrompt {
    /// It was not sent and will not be.
    Refused,
    /// No attempt was answered.
    PerhapsSent,
}

/// Routing key, address, sender and guild of the message that a run answers.
type Origin = (String, Option<String>, Option<String>, Option<String>);

/// What is known about a run besides itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct AskedFor {
    pub(crate) routing_key: String,
    pub(crate) requester: Option<Claim>,
    pub(crate) has_approver: bool,
}

pub(super) fn find(connection: &Connection, id: &str) -> Result<Option<Approval>, StoreError> {
    Ok(select(connection, "id = ?1", &[id])?.pop())
}

/// Open ones of a conversation.
pub(super) fn open_in(connection: &Connection, routing_key: &str) -> Result<Vec<Approval>, StoreError> {
    select(connection, "routing_key = ?1 AND state = 'open' ORDER BY created_at, id", &[routing_key])
}

/// Open ones.
pub(super) fn open(connection: &Connection) -> Result<Vec<Approval>, StoreError> {
    select(connection, "state = 'open' ORDER BY created_at, id", &[])
}

/// The message with the buttons.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PromptMessage {
    /// It has this id.
    Is(String),
    /// An attempt at it has begun, and nothing was heard of that yet.
    NotTold,
    /// It is nowhere.
    None,
}

pub(super) fn prompt_message(connection: &Connection, idem_key: &str) -> Result<PromptMessage, StoreError> {
    let sql = "SELECT platform_message_id, state IN ('sending', 'unknown') OR state = 'queued' AND uncertain > 0
               FROM outbox WHERE idem_key = ?1";
    let read = |row: &Row<'_>| -> Result<(Option<String>, bool), _> { Ok((row.get(0)?, row.get(1)?)) };
    Ok(match connection.prepare_cached(sql)?.query_row([idem_key], read).optional()? {
        Some((Some(message_id), _)) => PromptMessage::Is(message_id),
        Some((None, true)) => PromptMessage::NotTold,
        Some((None, false)) | None => PromptMessage::None,
    })
}

/// The message that a part became, once it is sent.
fn message_of(connection: &Connection, idem_key: &str) -> Result<Option<String>, StoreError> {
    let sql = "SELECT platform_message_id FROM outbox WHERE idem_key = ?1 AND state = 'sent'";
    Ok(connection.prepare_cached(sql)?.query_row([idem_key], |row| row.get(0)).optional()?.flatten())
}

/// Whether everything there is to see was sent: the file, or its text in its place, or the text on demand.
pub(super) fn was_shown(connection: &Connection, approval: &Approval) -> Result<bool, StoreError> {
    let Some(file) = &approval.file_key else { return Ok(true) };
    if message_of(connection, file)?.is_some() {
        return Ok(true);
    }
    let all_sent = |prefix: &str| -> Result<bool, StoreError> {
        let sql = "SELECT count(*), count(*) FILTER (WHERE state = 'sent') FROM outbox
                   WHERE idem_key >= ?1 AND idem_key < ?1 || char(0x10FFFF)";
        let read = |row: &Row<'_>| -> Result<(i64, i64), _> { Ok((row.get(0)?, row.get(1)?)) };
        let (all, sent) = connection.prepare_cached(sql)?.query_row([prefix], read)?;
        Ok(all > 0 && all == sent)
    };
    Ok(all_sent(&format!("{file}:text:"))? || all_sent(&format!("approval:{}:show:", approval.id))?)
}

pub(super) fn remember(
    connection: &Connection,
    approval: &Approval,
    call: &Call,
    by: &str,
    now: i64,
) -> Result<(), StoreError> {
    let sql =
        "INSERT OR IGNORE INTO remembered (session_id, fingerprint, decided_by, created_at) VALUES (?1, ?2, ?3, ?4)";
    let fingerprint = call.fingerprint(approval.cwd.as_deref());
    connection.prepare_cached(sql)?.execute(params![approval.session_id, fingerprint, by, now])?;
    Ok(())
}

pub(super) fn write(connection: &Connection, approval: &Approval) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT OR REPLACE INTO approvals ({COLUMNS}) VALUES
         (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)"
    );
    connection.prepare_cached(&sql)?.execute(params![
        approval.id,
        approval.run_id,
        approval.session_id,
        approval.routing_key,
        serde_json::to_string(&approval.calls)?,
        approval.cwd,
        approval.args_hash,
        approval.policy_version,
        approval.requester.as_ref().map(serde_json::to_string).transpose()?,
        serde_json::to_string(&approval.origin)?,
        serde_json::to_string(&approval.address)?,
        approval.prompt_key,
        approval.file_key,
        approval.stage.as_str(),
        serde_json::to_string(&approval.decisions)?,
        serde_json::to_string(&approval.outcomes)?,
        approval.created_at,
        approval.remind_at,
        approval.expires_at
    ])?;
    Ok(())
}

fn select(connection: &Connection, filter: &str, values: &[&str]) -> Result<Vec<Approval>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM approvals WHERE {filter}"))?;
    let mut rows = statement.query(stakpak_sqlite::rusqlite::params_from_iter(values))?;
    let mut approvals = Vec::new();
    while let Some(row) = rows.next()? {
        approvals.push(read(row)?);
    }
    Ok(approvals)
}

fn read(row: &Row<'_>) -> Result<Approval, StoreError> {
    let text = |at: usize| row.get::<_, String>(at);
    let requester: Option<String> = row.get(8)?;
    Ok(Approval {
        id: text(0)?,
        run_id: text(1)?,
        session_id: text(2)?,
        routing_key: text(3)?,
        calls: from_json(&text(4)?)?,
        cwd: row.get(5)?,
        args_hash: text(6)?,
        policy_version: text(7)?,
        requester: requester.as_deref().map(from_json).transpose()?,
        origin: from_json(&text(9)?)?,
        address: from_json(&text(10)?)?,
        prompt_key: text(11)?,
        file_key: row.get(12)?,
        stage: match text(13)?.as_str() {
            "open" => Stage::Open,
            "decided" => Stage::Decided,
            _ => Stage::Closed,
        },
        decisions: from_json(&text(14)?)?,
        outcomes: from_json(&text(15)?)?,
        created_at: row.get(16)?,
        remind_at: row.get(17)?,
        expires_at: row.get(18)?,
    })
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    Ok(serde_json::from_str(text)?)
}
